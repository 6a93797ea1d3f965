"""The library in one place, for scripts and notebooks: ``from graft_lightning import api``.

Every name is imported when it is first used: this module by itself loads nothing.

- reference: `OwnModel` (any network), `Reference` (to derive from), `open_views`, `LoRA`
- processes: `Process`, `GaussianPath`, `CategoricalPath`, schedules, samplers, `Objective`, `Noise`
- rewards: `CallableReward` (a function), `Reward` (to derive from), `WeightedSum`
- pools: `Collection` (draws, scores, keeps), `TrajectoryPool`, acceptance rules
- streams: `AcceptedStream` and `GroupStream` of a pool, `TensorStream` of data at hand
- objectives over whole groups of a pool: `RWR`, `RAFT`, `NFT`, `AWM`, `DGPO`, `DPO`, `UnselectedBaseline`, and
  `PoolObjective` to derive from
- Lightning: `PGraft`, `Graft`, `AcceptedTrajectories`; `DurableCheckpoints`, a plugin of the Trainer
- samples: `sample`, of a view of a reference or of a module; `open_run`, the module of a run or checkpoint; `Steering`,
  samples that follow a reward
"""

import importlib
from typing import Any

_HOMES = {
    "checkpoints": ("DurableCheckpoints",),
    "processes.denoiser": ("Denoiser", "Guided"),
    "processes.grids": ("Explicit", "Leading", "Linspace", "Powered", "Shifted", "Uniform"),
    "processes.interleaved": ("Interleaved",),
    "processes.noise": ("Noise", "trajectory_seeds"),
    "processes.objectives": ("Objective",),
    "processes.paths": ("CategoricalPath", "CentredGaussianPath", "GaussianPath"),
    "processes.process": ("Process",),
    "processes.samplers": ("DDIM", "DDPM", "Euler", "Heun", "Sampler"),
    "processes.schedules": (
        "Cosine",
        "FromTable",
        "Linear",
        "Polynomial2",
        "RectifiedFlow",
        "ScaledLinear",
        "Trigonometric",
    ),
    "processes.stitched": ("Stitched",),
    "processes.times": ("LogitNormalTime", "UniformTime", "VisitedLevels"),
    "processes.weightings": ("CappedInverseAlpha", "MinSNR", "OwnOutput", "Unit"),
    "rejection.acceptance": (
        "Acceptance",
        "Always",
        "BestOfN",
        "BinaryDeduplicated",
        "Chain",
        "ClassicalRejection",
        "Deduplicated",
        "Preference",
        "Quantile",
        "RandomK",
        "SoftAcceptance",
        "Threshold",
        "TopK",
    ),
    "rejection.accepted": ("AcceptedStream", "TensorStream"),
    "rejection.grouped": ("GroupStream",),
    "rejection.objectives": (
        "AWM",
        "DDPO",
        "DGPO",
        "DPO",
        "FlowGRPO",
        "NFT",
        "PoolObjective",
        "RAFT",
        "RWR",
        "UnselectedBaseline",
    ),
    "rejection.collection": ("Collection",),
    "rejection.own_model": ("OwnModel",),
    "rejection.pool": ("TrajectoryPool",),
    "rejection.reference": ("LoRA", "Reference", "open_views"),
    "rejection.reward": ("Reward",),
    "rejection.rewards.function": ("CallableReward", "FunctionReward"),
    "rejection.rewards.weighted": ("WeightedSum",),
    "rejection.sampling": ("sample",),
    "rejection.steering": ("Steering",),
    "rejection.selection": ("select",),
    "domains.base": ("Texts",),
    "datamodules.accepted": ("AcceptedTrajectories",),
    "datamodules.pretraining": ("PretrainingExamples",),
    "modules.graft": ("Graft", "PGraft"),
    "modules.pretrain": ("Pretrain",),
    "callbacks.collect": ("Collect",),
    "callbacks.evaluate": ("Evaluate",),
    "callbacks.keep_best": ("KeepBest",),
    "cli.loading": ("open_run",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"graft_lightning.api has no {name!r}; it has {', '.join(__all__)}")
    found = getattr(importlib.import_module(f"graft_lightning.{_HOME[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
