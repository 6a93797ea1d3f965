"""The flow of 28 x 28 digits: its network, its weights, and its files, two steps long, one after the other."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from experiments.mnist.flow import FlowNetwork, PictureFlow
from graft_lightning.cli.lightning import run_lightning
from graft_lightning.processes.velocity import EulerInTime
from graft_lightning.rejection.pool import TrajectoryPool
from graft_lightning.rejection.reference import open_views
from graft_lightning.rejection.sampling import sample
from graft_lightning.types import SettingsError

ROOT = Path(__file__).parents[1]
CORRECTORS = [ROOT / "experiments/mnist" / f"{name}.yaml" for name in ("gaussian_corrector", "noise_corrector")]


def trained_network(**arguments: int) -> FlowNetwork:
    """A network none of whose weights is zero any more."""
    torch.manual_seed(0)
    network = FlowNetwork(**arguments)
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return network


def test_a_network_starts_at_zero_and_sees_picture_time_and_place():
    x, t = torch.randn(2, 1, 28, 28), torch.tensor([0.2, 0.7])
    assert FlowNetwork()(x, t).abs().max() == 0
    network = trained_network(width=8)
    with torch.no_grad():
        found = network(x, t)
        assert found.shape == x.shape
        torch.testing.assert_close(network(x[1:], t[1:]), found[1:])  # samples do not influence each other
        for other in (network(x, 1 - t), network(x + 0.5, t), network(x.roll(4, 3), t).roll(-4, 3)):
            assert (other - found)[..., 8:20, 8:20].abs().max() > 1e-3


def test_a_corrector_has_a_fifth_of_the_weights_of_its_flow():
    """The numbers that README and report print, of the files as they are."""
    asked = yaml.safe_load(CORRECTORS[1].read_text())["model"]["init_args"]["reference"]["init_args"]["network"]
    flow, corrector = (
        sum(p.numel() for p in PictureFlow(network=network).meta_network().parameters()) for network in (None, asked)
    )
    assert flow == 192_964
    assert 0.2 <= corrector / flow < 0.21


def test_weights_are_read_back_and_no_others(tmp_path):
    flow = PictureFlow(str(tmp_path / "flow.safetensors"), network={"width": 8, "depth": 1})
    network = trained_network(width=8, depth=1)
    flow.save(network, flow.weights_file, {})
    found = flow.build()
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), found.parameters(), strict=True))
    with pytest.raises(SettingsError, match="depth: file 1, configuration 3"):
        PictureFlow(str(flow.weights_file), network={"width": 8}).build()
    with pytest.raises(FileNotFoundError, match=r"mnist/flow\.yaml"):
        PictureFlow(str(tmp_path / "absent.safetensors")).build()
    with pytest.raises(SettingsError, match="weights is not set"):
        PictureFlow().build()


@pytest.mark.parametrize("width", [0, 6])
def test_a_width_that_cannot_be_normalised_is_refused(width):
    with pytest.raises(ValueError, match=f"width={width}; it is a multiple of 4"):
        FlowNetwork(width=width)


def test_a_corrector_that_has_learned_nothing_leaves_noise_alone():
    corrector = PictureFlow(sampler=EulerInTime(steps=3), path="trigonometric", network={"width": 4, "depth": 1})
    network = corrector.build(pretrained=False)
    pixels = sample(corrector, [""] * 200, 0, open_views(corrector, network).frozen)
    assert pixels.shape == (200, 1, 28, 28)
    beyond = (pixels == 0) | (pixels == 1)  # where N(0, 1) lies outside [-1, 1], to which pixels are cut off
    assert float(beyond.float().mean()) == pytest.approx(0.3173, abs=0.005)


@pytest.mark.slow
def test_a_flow_is_trained_and_corrected(tmp_path, test_data, monkeypatch):
    """Each file as it is, two steps long: the correctors read the flow and share the pool."""
    monkeypatch.chdir(tmp_path)  # the files name data/digits_10k.npz
    (tmp_path / "data").mkdir()
    (tmp_path / "data/digits_10k.npz").symlink_to(test_data / "mnist/digits_10k.npz")
    weights = tmp_path / "flow.safetensors"
    line = [f"--config={ROOT / 'tests/overrides/tiny.yaml'}", f"--trainer.logger.init_args.save_dir={tmp_path}"]
    fitted = run_lightning(
        [
            "fit",
            f"--config={ROOT / 'experiments/mnist/flow.yaml'}",
            *line,
            f"--model.init_args.reference.init_args.weights={weights}",
        ]
    )
    assert fitted.trainer.global_step == 2
    for file in CORRECTORS:
        own = [
            f"--config={file}",
            *line,
            f"--model.init_args.flow.init_args.weights={weights}",
            f"--data.init_args.pool={tmp_path / 'pool'}",
            "--data.init_args.count=24",
            "--data.init_args.predict_draws=3",
        ]
        run_lightning(["fit", *own])
        checkpoint = f"--ckpt_path={tmp_path / file.stem}/checkpoints/last.ckpt"
        tested = run_lightning(["test", *own, checkpoint])
        last = json.loads((tmp_path / file.stem / "evaluation.jsonl").read_text().splitlines()[-1])
        assert (last["stage"], last["method"]) == ("test", tested.model.method)
        assert last["metrics"]["FrechetDistance"]["mean"] > 0
        if file.stem == "gaussian_corrector":
            assert last["metrics"]["known_held_out"]["mean"] > 0.9
            assert last["metrics"]["round_trip_data_median"]["mean"] < 1e-4
        run_lightning(["predict", *own, checkpoint])
        assert len(list((tmp_path / file.stem / "samples").glob("*.png"))) == 3
    assert TrajectoryPool.open(tmp_path / "pool").statistics()["trajectories"] == 24
