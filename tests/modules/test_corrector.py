"""Correctors: what is saved and refused, what they make of the same seeds, and what they must recover."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graft_lightning.inversion.inverted_state import invert_state
from graft_lightning.inversion.start import start_state
from graft_lightning.modules import GaussianNoise, NoiseCorrector
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.paths import GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.samplers import Euler
from graft_lightning.processes.schedules import RectifiedFlow, Trigonometric
from graft_lightning.processes.velocity import EulerInTime
from graft_lightning.rejection.reference import Reference
from graft_lightning.types import Batch, Draws
from tests.corrections import STEPS, flow_config, gaussian, launch, tiny_flow
from tests.runs import arguments

ROOT = Path(__file__).parents[2]
MATRIX = torch.tensor([[0.4, 0.3], [-0.2, 0.1]])
SHIFT = torch.tensor([0.5, -0.3])
MEAN, ROOT_COVARIANCE = torch.tensor([1.0, -0.5]), torch.tensor([[0.6, 0.0], [0.3, 0.4]])


class Plane(Reference):
    """Two numbers: a linear velocity field as the flow, or a small network as the corrector."""

    def __init__(self, linear: bool, steps: int) -> None:
        super().__init__(Euler(steps) if linear else EulerInTime(steps))
        self.linear = linear
        self.output = "flow" if linear else "v_prediction"

    @property
    def process(self) -> Process:
        return Process(GaussianPath(RectifiedFlow() if self.linear else Trigonometric()))

    def build(self, pretrained: bool = True) -> nn.Module:
        if not self.linear:
            torch.manual_seed(0)
            return nn.Sequential(nn.Linear(4, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))
        layer = nn.Linear(2, 2)
        layer.weight.data, layer.bias.data = MATRIX.clone(), SHIFT.clone()
        return layer

    def denoise(self, network: nn.Module, x_t: Any, t: Tensor, condition: Any) -> Tensor:
        if self.linear:
            return network(x_t)
        time = t.to(x_t)[:, None]
        return network(torch.cat([x_t, time, torch.cos(3 * time)], dim=1))

    def encode(self, conditions: Any, device: Any) -> Tensor:
        return torch.zeros(len(conditions), 0)

    def shape(self, conditions: Any) -> tuple[int, ...]:
        return (2,)


def law_of_the_inverse_noise(steps: int, start_level: int) -> tuple[Tensor, Tensor]:
    """Mean and covariance at t = 1: each inverse step is x_k = (I - eta A)^-1 (x_{k-1} + eta b)."""
    t = start_level / steps
    mean = (1 - t) * MEAN.double()
    covariance = ((1 - t) ** 2 * ROOT_COVARIANCE @ ROOT_COVARIANCE.T + t**2 * torch.eye(2)).double()
    inverse = torch.linalg.inv(torch.eye(2).double() - MATRIX.double() / steps)
    for _ in range(start_level, steps):
        mean = inverse @ (mean + SHIFT.double() / steps)
        covariance = inverse @ covariance @ inverse.T
    return mean, covariance


def inverse_noise(module: GaussianNoise | NoiseCorrector, samples: int, start_level: int) -> Tensor:
    seeds = torch.arange(samples)
    data = MEAN + Noise(seeds + 10**6).normal(2) @ ROOT_COVARIANCE.T
    steps = module.flow_steps()
    found = invert_state(steps, start_state(data, steps.levels[start_level], seeds), start_level)
    assert found.converged.all()
    return found.noise


def draws(count: int) -> Draws:
    return Draws([""] * count, torch.arange(count), torch.arange(count) + 5 * 10**6)


@pytest.mark.parametrize("start_level", [0, 1, 2])
def test_the_gaussian_corrector_recovers_the_distribution_in_closed_form(start_level):
    module = GaussianNoise(Plane(True, 5), shrinkage=0.0)
    module.configure_model()
    module.fit_noise(inverse_noise(module, 20_000, start_level))
    mean, covariance = law_of_the_inverse_noise(5, start_level)
    made = module.correct(draws(20_000)).double()
    torch.testing.assert_close(made.mean(0), mean, rtol=0, atol=0.03)
    torch.testing.assert_close(torch.cov(made.T), covariance, rtol=0, atol=0.04)
    # through the flow: how the start state is distributed after the first steps, to the data where it starts there
    if start_level == 0:
        data = module.sample(draws(20_000)).double()
        torch.testing.assert_close(data.mean(0), MEAN.double(), rtol=0, atol=0.03)
        torch.testing.assert_close(torch.cov(data.T), (ROOT_COVARIANCE @ ROOT_COVARIANCE.T).double(), rtol=0, atol=0.02)


def test_less_of_a_covariance_corrects_less():
    noise = None
    distance = {}
    mean, covariance = law_of_the_inverse_noise(5, 0)
    for form in ("mean", "diagonal", "full"):
        module = GaussianNoise(Plane(True, 5), covariance=form, shrinkage=0.0)
        module.configure_model()
        noise = inverse_noise(module, 5000, 0) if noise is None else noise
        module.fit_noise(noise)
        made = module.correct(draws(5000)).double()
        torch.testing.assert_close(made.mean(0), mean, rtol=0, atol=0.06)
        distance[form] = float((torch.cov(made.T) - covariance).norm())
    assert distance["full"] < distance["diagonal"] < distance["mean"]
    assert distance["full"] < 0.1


@pytest.mark.slow
def test_the_neural_corrector_learns_the_distribution_in_closed_form():
    module = NoiseCorrector(Plane(True, 5), Plane(False, 60))  # steps enough for their own error not to count
    module.configure_model()
    noise = inverse_noise(module, 8000, 0)
    optimizer = torch.optim.Adam(module.network.parameters(), lr=3e-3)
    for step in range(1500):
        chosen = torch.arange(step * 256, (step + 1) * 256) % len(noise)
        batch = Batch(noise[chosen], [""] * 256, torch.arange(256) + 1000 * step, torch.ones(256))
        loss = module.objective.loss(
            module.opened().trainable, module.reference.process, batch.x, torch.zeros(256, 0), Noise(batch.seeds)
        )
        optimizer.zero_grad()
        loss.value.mean().backward()
        optimizer.step()
    mean, covariance = law_of_the_inverse_noise(5, 0)
    made = module.correct(draws(8000)).double()
    torch.testing.assert_close(made.mean(0), mean, rtol=0, atol=0.12)
    torch.testing.assert_close(torch.cov(made.T), covariance, rtol=0, atol=0.12)
    held_out = mean.float() + Noise(torch.arange(200) + 77).normal(2) @ torch.linalg.cholesky(covariance).T.float()
    found, known = module.log_density(held_out)
    exact = torch.distributions.MultivariateNormal(mean, covariance).log_prob(held_out.double())
    assert known.all()
    assert abs(float((found - exact).mean())) < 0.1


def test_the_checkpoint_holds_the_corrector_and_no_flow(tmp_path):
    launch("fit", tmp_path)
    saved = torch.load(tmp_path / "run/checkpoints/last.ckpt")
    assert all(name.startswith("network.") for name in saved["state_dict"])
    assert saved["flow"]["sampler"]["steps"] == STEPS


@pytest.mark.parametrize("kind", ["neural", "gaussian"])
@pytest.mark.parametrize("other", ["weights", "steps"])
def test_a_corrector_of_another_flow_is_refused(tmp_path, capsys, kind, other):
    changes = gaussian(tmp_path) if kind == "gaussian" else {}
    launch("fit", tmp_path, changes)
    if other == "weights":
        tiny_flow(tmp_path / "flow.safetensors", seed=8)
    else:
        changes = {**changes, "model.flow.sampler.steps": STEPS + 1}
    with pytest.raises(SystemExit):
        launch("test", tmp_path, changes, f"--ckpt_path={tmp_path}/run/checkpoints/last.ckpt")
    assert f"{other}: " in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["neural", "gaussian"])
@pytest.mark.usefixtures("warm")
def test_predict_in_a_fresh_process_gives_the_same_pictures(tmp_path, kind):
    changes = gaussian(tmp_path) if kind == "gaussian" else {}
    checkpoint = f"--ckpt_path={tmp_path}/run/checkpoints/last.ckpt"
    cli = launch("fit", tmp_path, changes)
    launch("predict", tmp_path, changes, checkpoint)
    before = images(tmp_path)
    assert len(before) == 3
    from tests.corrections import tiny_config

    line = arguments("predict", tmp_path, tiny_config(tmp_path, changes), checkpoint)
    subprocess.run([sys.executable, "-m", "graft_lightning", *line], check=True, cwd=ROOT, capture_output=True)
    assert images(tmp_path) == before
    rows = [json.loads(row) for row in (tmp_path / "samples/samples.jsonl").read_text().splitlines()]
    seeds = torch.tensor([row["seed"] for row in rows])
    asked = Draws([""] * 3, torch.arange(3), seeds)
    ours, base = (cli.model.flow.decode(x) for x in (cli.model.sample(asked), cli.model.sample_base(asked)))
    assert not torch.allclose(ours, base, atol=1e-4)


def images(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "samples").glob("*.png")}


def test_the_base_is_the_flow_alone_from_the_same_seeds(tmp_path):
    module = launch("fit", tmp_path).model
    asked = draws(4)
    noise = Noise(asked.seeds).normal(1, 8, 8)
    assert torch.equal(module.sample_base(asked), module.flow_steps().generate(noise))


def test_a_guided_flow_is_refused():
    flow = Plane(True, 3)
    flow.guidance_scale = 2.0
    with pytest.raises(ValueError, match="guidance_scale=2"):
        NoiseCorrector(flow, Plane(False, 3))


def test_the_name_gives_the_size(tmp_path):
    config = flow_config(tmp_path)["init_args"]["network"]
    from graft_lightning.domains.digits import DigitFlow

    assert NoiseCorrector(DigitFlow(network=config), DigitFlow(network=config, path="trigonometric")).method == "inc@1"
