"""Tiny runs on pairs of digits, through the command line's own front door, in this process."""

import copy
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml
from torch import Tensor

from graft_lightning.cli.lightning import GraftCLI, run_lightning
from graft_lightning.domains.digits import DigitReference
from graft_lightning.processes.samplers import DDPM
from graft_lightning.rejection.acceptance import TopK
from graft_lightning.rejection.reward import Reward

NETWORK = {"width": 32, "depth": 1}
PROMPTS = [
    "a three to the left of a seven",
    "two ones",
    "a zero above a four",
    "a two below a nine",
]
HELD_OUT = ["a five above a six", "two eights", "a one to the right of a two"]
STEPS, DRAWS = 8, 4


class Ink(Reward):
    """Mean brightness: cheap, different for every image, the same on every machine. Counts what it has scored."""

    def __init__(self) -> None:
        self._scored = 0

    def __call__(self, samples: Tensor, conditions: Sequence[str]) -> Tensor:
        self._scored += len(conditions)
        return samples.flatten(1).mean(1)


class Paper(Ink):
    """Mean darkness: training the tiny reference on whatever samples makes them brighter, and loses it."""

    def __call__(self, samples: Tensor, conditions: Sequence[str]) -> Tensor:
        return 1 - super().__call__(samples, conditions)


class Worst(TopK):
    """The K with the lowest reward: what is trained on them loses."""

    def probability(self, rewards: Tensor, keys: Tensor | None = None) -> Tensor:
        return super().probability(-rewards, keys)

    def accept(self, rewards: Tensor, keys: Tensor | None, uniforms: Tensor) -> Tensor:
        return super().accept(-rewards, keys, uniforms)


class Failing(Ink):
    """NaN for about a third of the images."""

    def __call__(self, samples: Tensor, conditions: Sequence[str]) -> Tensor:
        ink = super().__call__(samples, conditions)
        return torch.where((ink * 1e5).long() % 3 == 0, torch.nan, ink)


class Indifferent(Ink):
    """The same for every image of pairs of ones."""

    def __call__(self, samples: Tensor, conditions: Sequence[str]) -> Tensor:
        same = torch.tensor(["ones" in text for text in conditions])
        return torch.where(same, 0.5, super().__call__(samples, conditions))


class WrongShape(Ink):
    """One row an image, where one number is asked for."""

    def __call__(self, samples: Tensor, conditions: Sequence[str]) -> Tensor:
        return super().__call__(samples, conditions).unsqueeze(1)


class Groupwise(Ink):
    """The rank within the draws of one condition; refuses anything but whole groups."""

    groupwise = True

    def __call__(self, samples: Tensor, conditions: Sequence[str]) -> Tensor:
        ink = super().__call__(samples, conditions).reshape(-1, DRAWS)
        assert all(len(set(conditions[i : i + DRAWS])) == 1 for i in range(0, len(conditions), DRAWS))
        return ink.argsort(1).argsort(1).flatten().float()


class Remember(L.Callback):
    """Copies of the trained weights: after every step, and as validation sees them."""

    def __init__(self) -> None:
        self.start: dict[str, Tensor] = {}
        self.steps: list[dict[str, Tensor]] = []
        self.validated: list[dict[str, Tensor]] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.start = _copy(pl_module)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *rest: Any) -> None:
        self.steps.append(_copy(pl_module))

    def on_validation_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *rest: Any) -> None:
        self.validated.append(_copy(pl_module))


class KillAtStep(L.Callback):
    """Ends its own process, without a chance to tidy up, after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: L.Trainer, *rest: Any) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def _copy(module: L.LightningModule) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in module.named_parameters() if p.requires_grad}


def tiny_reference(path: Path) -> Path:
    """Writes random weights of the tiny network, none of them zero, so that no answer is trivial. Returns the file."""
    reference = DigitReference(weights=str(path), sampler=DDPM(STEPS, clip_sample=1.0), network=NETWORK)
    network = reference.build(pretrained=False)
    generator = torch.Generator().manual_seed(7)
    for parameter in network.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    reference.save(network, path, {"steps": 0})
    return path


def tiny_config(folder: Path, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The configuration of a run in ``folder``: one round of 16 trajectories, ten steps, two epochs.

    Args:
        folder: of pool, logs and weights.
        changes: by dotted key; a value of ``...`` removes the key.
    """
    weights = folder / "reference.safetensors"
    if not weights.exists():
        tiny_reference(weights)
    config: dict[str, Any] = {
        "seed_everything": 3,
        "data": {
            "class_path": "AcceptedTrajectories",
            "init_args": {
                "conditions": {"class_path": "Texts", "init_args": {"values": PROMPTS}},
                "acceptance": {"class_path": "TopK", "init_args": {"k": 2}},
                "pool": str(folder / "pool"),
                "batch_size": 4,
                "steps_per_epoch": 5,
                "validation": {"class_path": "Texts", "init_args": {"values": HELD_OUT}},
                "eval_draws": 2,
                "eval_batch_size": 4,
            },
        },
        "collect": {
            "reward": {"class_path": "tests.runs.Ink"},
            "draws": DRAWS,
            "keep": [0.25, 0.5],
            "batch_size": 8,
        },
        "evaluate": {
            "rewards": [{"class_path": "tests.runs.Ink"}],
            "metrics": [{"class_path": "graft_lightning.domains.base.Diversity"}],
        },
        "best": {"on": False},  # ten steps gain nothing: every run would end where it began
        "model": {
            "class_path": "PGraft",
            "init_args": {
                "handoff": 0.25,
                "reference": {
                    "class_path": "DigitReference",
                    "init_args": {
                        "weights": str(weights),
                        "network": NETWORK,
                        "sampler": {
                            "class_path": "graft_lightning.processes.samplers.DDPM",
                            "init_args": {"steps": STEPS, "clip_sample": 1.0},
                        },
                    },
                },
                "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01}},
            },
        },
        "trainer": {
            "max_steps": 10,
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
                {"class_path": "ModelCheckpoint", "init_args": {"save_last": True, "enable_version_counter": False}}
            ],
        },
    }
    return changed(config, changes or {})


def changed(config: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with values put at dotted keys, ``init_args`` left out; a value of ``...`` removes the key."""
    config = copy.deepcopy(config)
    for key, value in changes.items():
        *parents, leaf = key.split(".")
        node = config
        for parent in parents:
            node = node.setdefault(parent, {})
            node = node.setdefault("init_args", {}) if "class_path" in node else node
        if value is ...:
            node.pop(leaf, None)
        else:
            node[leaf] = value
    return config


def arguments(command: str, folder: Path, config: Mapping[str, Any], *more: str) -> list[str]:
    """Writes a configuration to a file. Returns the command line that runs it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"config-{len(list(folder.glob('config-*.yaml')))}.yaml"
    file.write_text(yaml.safe_dump(dict(config), sort_keys=False), encoding="utf-8")
    return [command, f"--config={file}", *more]


def launch(
    command: str, folder: Path, changes: Mapping[str, Any] | None = None, *more: str, config: Any = None
) -> GraftCLI:
    """Runs a command on the tiny configuration with changes. Returns the CLI, which holds trainer and model."""
    return run_lightning(arguments(command, folder, config or tiny_config(folder, changes), *more))


def weights_of(cli: GraftCLI) -> dict[str, Tensor]:
    """The trained weights that a run ended with, copied."""
    return {name: value.detach().clone() for name, value in cli.model.network.state_dict().items()}


def assert_same_weights(first: Mapping[str, Tensor], second: Mapping[str, Tensor], **tolerance: float) -> None:
    """Asserts that two sets of weights are equal, bit by bit unless a tolerance is given."""
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], **(tolerance or {"rtol": 0, "atol": 0}), msg=name)
