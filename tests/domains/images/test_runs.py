"""Flow and corrector of the images in a folder, by the files that users run, a few steps long."""

import json
from pathlib import Path

import pytest
import yaml

from graft_lightning.cli.lightning import run_lightning

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
IMAGES = "experiments/images"


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The folder that small_folder.yaml writes, smaller."""
    folder = tmp_path_factory.mktemp("digits")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        run_lightning(
            [
                "predict",
                f"--config={IMAGES}/small_folder.yaml",
                "--data.init_args.predict_draws=64",
                f"--trainer.logger.init_args.save_dir={tmp_path_factory.mktemp('runs')}",
                f"--trainer.callbacks=[{{class_path: WriteSamples, init_args: {{folder: {folder}}}}}]",
            ]
        )
    assert len(list(folder.glob("*.png"))) == 64
    return folder


def line(file, folder, digits):
    """A file as it is, with its own metrics, on the folder of 64 digits, two steps long."""
    own = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    return [
        f"--config={file}",
        "--config=tests/overrides/tiny.yaml",
        f"--data.init_args.examples={json.dumps(moved(own['data']['init_args']['examples'], digits))}",
        f"--evaluate.metrics={json.dumps(moved(own['evaluate']['metrics'], digits))}",
        "--data.init_args.eval_draws=12",
        f"--trainer.logger.init_args.save_dir={folder}",
        "--trainer.logger.init_args.name=run",
    ]


def moved(settings, digits):
    """Settings whose images are those of the folder."""
    if isinstance(settings, list):
        return [moved(value, digits) for value in settings]
    if not isinstance(settings, dict):
        return settings
    if "path" in settings:
        return {**settings, "path": str(digits), "held_out": 16}
    return {key: moved(value, digits) for key, value in settings.items()}


def last_record(folder):
    return json.loads((folder / "run/evaluation.jsonl").read_text().splitlines()[-1])


def test_a_flow_of_a_folder_is_trained_and_corrected(tmp_path, digits, drawn):
    weights = tmp_path / "flow"
    own = line(f"{IMAGES}/small_flow.yaml", tmp_path / "flow_training", digits)
    fitted = run_lightning(["fit", *own, f"--model.init_args.reference.init_args.weights={weights}"])
    assert fitted.trainer.global_step == 2
    assert (weights / "config.json").is_file()
    figures = last_record(tmp_path / "flow_training")["metrics"]
    assert figures["FrechetDistance"]["mean"] > 0
    assert {"KernelDistance", "CloserToTraining"} <= figures.keys()
    assert figures["gigaflops"]["mean"] > 0

    folder = tmp_path / "corrector"
    own = [
        *line(f"{IMAGES}/small_noise_corrector.yaml", folder, digits),
        f"--model.init_args.flow.init_args.weights={weights}",
        f"--data.init_args.pool={tmp_path / 'pool'}",
        f"--evaluate.measures={json.dumps([held_out_noise(digits)])}",
    ]
    run_lightning(["fit", *own])
    inverted = json.loads((folder / "run/inverted.json").read_text())
    assert inverted["samples"] == 48
    assert inverted["converged"] == 1
    assert inverted["round_trip"]["median"] < 1e-4
    checkpoint = f"--ckpt_path={folder}/run/checkpoints/last.ckpt"
    run_lightning(["test", *own, checkpoint])
    record = last_record(folder)
    assert record["stage"] == "test"
    assert record["metrics"]["converged_held_out"]["mean"] == 1
    assert "likelihood_gain" not in record["metrics"]
    run_lightning(["predict", *own, checkpoint, "--data.init_args.predict_draws=5"])
    assert len(list((folder / "run/samples").glob("*.png"))) == 5


def held_out_noise(digits):
    examples = {
        "class_path": "ImageFiles",
        "init_args": {"path": str(digits), "size": 8, "held_out": 16, "part": "held_out"},
    }
    arguments = {"examples": examples, "noises": 8, "likelihood": False}
    return {"class_path": "HeldOutNoise", "init_args": arguments}


def test_a_folder_that_diffusers_wrote_is_the_frozen_flow(tmp_path, digits):
    from tests.domains.images.test_flow import PLAIN, ImageFlow, random_network

    random_network(ImageFlow(network=PLAIN)).save_pretrained(tmp_path / "theirs" / "unet")
    own = [
        *line(f"{IMAGES}/small_noise_corrector.yaml", tmp_path, digits),
        f"--model.init_args.flow.init_args.weights={tmp_path / 'theirs'}",
        "--model.init_args.flow.init_args.subfolder=unet",
        f"--data.init_args.pool={tmp_path / 'pool'}",
        "--evaluate.measures=[]",
    ]
    run_lightning(["fit", *own])
    assert json.loads((tmp_path / "run/inverted.json").read_text())["converged"] == 1
