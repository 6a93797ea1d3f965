"""Tiny runs that correct the noise of a flow of digits, through the command line's front door, in this process."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from graft_lightning.cli.lightning import GraftCLI, run_lightning
from graft_lightning.domains.digits import DigitFlow
from tests.runs import arguments, changed

NETWORK = {"width": 16, "depth": 1, "heads": 2}
STEPS = 4


def tiny_flow(path: Path, seed: int = 7, scale: float = 0.08) -> Path:
    """Writes random weights of a tiny flow, none of them zero and gentle enough to be inverted. Returns the file."""
    flow = DigitFlow(network=NETWORK)
    network = flow.build(pretrained=False)
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.data = scale * torch.randn(parameter.shape, generator=generator)
    flow.save(network, path, {"steps": 0})
    return path


def flow_config(weights: Path) -> dict[str, Any]:
    return {
        "class_path": "DigitFlow",
        "init_args": {
            "weights": str(weights),
            "network": NETWORK,
            "sampler": {"class_path": "Euler", "init_args": {"steps": STEPS}},
        },
    }


def tiny_config(folder: Path, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Twenty digits inverted in shards of eight, then four steps of a corrector.

    Args:
        folder: of pool, logs and weights.
        changes: by dotted key, as in `tests.runs.changed`.
    """
    weights = folder / "flow.safetensors"
    if not weights.exists():
        folder.mkdir(parents=True, exist_ok=True)
        tiny_flow(weights)
    corrector = {
        "class_path": "DigitFlow",
        "init_args": {
            "path": "trigonometric",
            "straight": True,
            "network": NETWORK,
            "sampler": {"class_path": "EulerInTime", "init_args": {"steps": 2}},
        },
    }
    config: dict[str, Any] = {
        "seed_everything": 3,
        "data": {
            "class_path": "InverseNoise",
            "init_args": {
                "examples": {"class_path": "RealDigits", "init_args": {"part": "train"}},
                "pool": str(folder / "pool"),
                "count": 20,
                "batch_size": 4,
                "steps_per_epoch": 2,
                "validation": {"class_path": "Unconditional"},
                "eval_draws": 6,
                "predict_draws": 3,
                "eval_batch_size": 4,
            },
        },
        "model": {
            "class_path": "NoiseCorrector",
            "init_args": {
                "flow": flow_config(weights),
                "reference": corrector,
                "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01}},
            },
        },
        "trainer": {
            "max_steps": 4,
            "accelerator": "cpu",
            "num_sanity_val_steps": 0,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "log_every_n_steps": 1,
            "logger": {
                "class_path": "TensorBoardLogger",
                "init_args": {"save_dir": str(folder), "name": "run", "version": ""},
            },
            "callbacks": [
                invert(),
                {"class_path": "ModelCheckpoint", "init_args": {"save_last": True, "enable_version_counter": False}},
                {"class_path": "WriteSamples", "init_args": {"folder": str(folder / "samples")}},
            ],
        },
    }
    return changed(config, changes or {})


def invert(**settings: Any) -> dict[str, Any]:
    """The callback `Invert` of a configuration."""
    return {"class_path": "Invert", "init_args": {"start_level": 1, "batch_size": 8, **settings}}


def gaussian(folder: Path) -> dict[str, Any]:
    """Changes that put the Gaussian corrector in the place of the neural one."""
    model = {"class_path": "GaussianNoise", "init_args": {"flow": flow_config(folder / "flow.safetensors")}}
    return {"model": model, "trainer.max_steps": 1}


def launch(command: str, folder: Path, changes: Mapping[str, Any] | None = None, *more: str) -> GraftCLI:
    """Runs a command on the tiny configuration with changes."""
    return run_lightning(arguments(command, folder, tiny_config(folder, changes), *more))
