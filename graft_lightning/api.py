"""The library in one place, for scripts and notebooks: ``from graft_lightning import api``.

Every name is imported when it is first used: this module by itself loads nothing.

    reference   `OwnModel` (any network), `Reference` (to derive from), `open_views`, `LoRA`
    processes   `Process`, `GaussianPath`, `CategoricalPath`, schedules, samplers, `Objective`, `Noise`
    rewards     `CallableReward` (a function), `Reward` (to derive from), `WeightedSum`
    pools       `Collection` (draws, scores, keeps), `TrajectoryPool`, acceptance rules
    streams     `AcceptedStream` of a pool, `tensor_stream` of data at hand
    Lightning   `PGraft`, `Graft`, `AcceptedTrajectories`
    runs        `open_run` (a module from a run's folder), `sample`
"""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_HOMES = {
    "processes.denoiser": ("Denoiser", "Guided"),
    "processes.interleaved": ("Interleaved",),
    "processes.noise": ("Noise", "trajectory_seeds"),
    "processes.objectives": ("Objective",),
    "processes.paths": ("CategoricalPath", "CentredGaussianPath", "GaussianPath"),
    "processes.process": ("Process",),
    "processes.samplers": ("DDIM", "DDPM", "Euler", "Heun", "Sampler"),
    "processes.schedules": ("Cosine", "FromTable", "Linear", "RectifiedFlow", "ScaledLinear", "Trigonometric"),
    "processes.stitched": ("Stitched",),
    "processes.times": ("UniformTime", "VisitedLevels"),
    "rejection.acceptance": ("BestOfN", "ClassicalRejection", "Quantile", "SoftAcceptance", "Threshold", "TopK"),
    "rejection.accepted": ("AcceptedStream", "tensor_stream"),
    "rejection.collection": ("Collection",),
    "rejection.own_model": ("OwnModel",),
    "rejection.pool": ("TrajectoryPool",),
    "rejection.reference": ("LoRA", "Reference", "open_views"),
    "rejection.reward": ("Reward",),
    "rejection.rewards.function": ("CallableReward", "FunctionReward"),
    "rejection.rewards.weighted": ("WeightedSum",),
    "rejection.selection": ("select",),
    "domains.base": ("Texts",),
    "datamodules.accepted": ("AcceptedTrajectories",),
    "modules.graft": ("Graft", "PGraft"),
    "callbacks.collect": ("Collect",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted([*_HOME, "open_run", "sample"])


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"graft_lightning.api has no {name!r}; it has {', '.join(__all__)}")
    found = getattr(importlib.import_module(f"graft_lightning.{_HOME[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__


def open_run(run: Path | str, checkpoint: Path | str | None = None, device: str = "cpu") -> Any:
    """The module of a run, with the weights of its newest checkpoint or of another one, ready to be sampled.

    Classes that the run's configuration names are imported: open runs that you trust. Of the checkpoint nothing but
    tensors is read.

    Raises:
        FileNotFoundError: if the run lacks its configuration or a checkpoint.
    """
    exporting: Any = importlib.import_module("graft_lightning.cli.exporting")
    module, _ = exporting.built(Path(run))
    exporting.load(module, Path(checkpoint) if checkpoint else exporting.newest_checkpoint(Path(run)))
    return module.to(device).eval()


def sample(module: Any, conditions: Sequence[str], seed: int = 0) -> Any:
    """One sample of every condition, decoded; the same seed gives the same samples.

    Args:
        module: what `open_run` gave, or a module of one's own whose networks are built.
        conditions: texts; "" where there is nothing to say.
        seed: with the condition and its place, of each sample.
    """
    torch: Any = importlib.import_module("torch")
    types: Any = importlib.import_module("graft_lightning.types")
    seeds = importlib.import_module("graft_lightning.processes.noise").trajectory_seeds
    places = list(range(len(conditions)))
    draws = types.Draws(list(conditions), torch.tensor(places), seeds(seed, 0, conditions, places))
    with torch.no_grad():
        return module.decoder.decode(module.sample(draws))
