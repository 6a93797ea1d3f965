"""What a configuration asks for, counted from its settings alone: evaluations of networks, samples, bytes of pools."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import WeightAveraging

from graft_lightning.callbacks.collect import Collect
from graft_lightning.callbacks.ema import TrainableEMA
from graft_lightning.callbacks.evaluate import BASE_SAMPLES, Evaluate
from graft_lightning.callbacks.invert import Invert
from graft_lightning.callbacks.keep_best import KeepBest, interval_of
from graft_lightning.datamodules.accepted import AcceptedTrajectories
from graft_lightning.datamodules.inverse_noise import InverseNoise
from graft_lightning.domains.base import listed
from graft_lightning.modules.sampled import SampledModule
from graft_lightning.modules.stages import visited
from graft_lightning.rejection.levels import kept_levels
from graft_lightning.reports.inverting import Inverting, inverting
from graft_lightning.reports.memory import elements_of

Calls = Counter[str]
"""Samples that go through each network, by the name of its `Stage`."""

COLUMNS_BYTES = 4 * 8
"""Of a trajectory in a pool: condition, draw, seed and key, int64."""


@dataclass(frozen=True)
class Loop:
    """What a trainer will do.

    Attributes:
        steps: gradient steps.
        validations: evaluations on the way.
        baseline: whether the base is evaluated before.
        redrawn: samples of the base that every validation draws again, to see whether training has an effect.
        averaged: whether a moving average of the trained weights is kept.
        batches: that one process reads; more than ``steps`` where gradients are accumulated.
        processes: that work side by side.
        measures: names of what evaluations say of the model itself, whose cost is not counted.
    """

    steps: int
    validations: int
    baseline: bool
    redrawn: int = 0
    averaged: bool = False
    batches: int = 0
    processes: int = 1
    measures: Sequence[str] = ()


def loop_of(trainer: L.Trainer, data: Any, evaluate: Evaluate, has_base: bool) -> Loop:
    """Counts from a trainer's settings, as Lightning reads them.

    Args:
        trainer: gives max_steps, max_epochs and how often it validates.
        data: gives steps_per_epoch.
        evaluate: whether it evaluates the base first.
        has_base: whether there is a model to compare with.
    """
    per_epoch = -(-data.steps_per_epoch // trainer.accumulate_grad_batches)
    limits = [trainer.max_steps] if trainer.max_steps >= 0 else []
    if trainer.max_epochs is not None and trainer.max_epochs >= 0:
        limits.append(trainer.max_epochs * per_epoch)
    steps = min(limits, default=1000 * per_epoch)  # Lightning's own default
    every = trainer.check_val_every_n_epoch or 1
    validations = steps // per_epoch // every if trainer.limit_val_batches and data.validation else 0
    keeps = any(isinstance(callback, KeepBest) and callback.on for callback in trainer.callbacks)  # type: ignore[attr-defined]
    if keeps and has_base and (between := interval_of(trainer, data)):
        validations = steps * trainer.accumulate_grad_batches // between
    read = steps // per_epoch * data.steps_per_epoch + steps % per_epoch * trainer.accumulate_grad_batches
    callbacks: Any = trainer.callbacks  # type: ignore[attr-defined]
    baseline = bool(data.validation and has_base and evaluate.baseline and (evaluate.rewards or evaluate.metrics))
    redrawn = 0
    if data.validation and has_base and evaluate.alarms.on and not baseline:
        redrawn = min(BASE_SAMPLES * trainer.world_size, len(texts_of(data.validation)[0]) * data.eval_draws)
    return Loop(
        steps,
        validations,
        baseline,
        redrawn,
        averaged=any(isinstance(callback, TrainableEMA | WeightAveraging) for callback in callbacks),
        batches=read,
        processes=trainer.world_size,
        measures=[type(measure).__name__ for measure in evaluate.measures],
    )


def texts_of(conditions: Any) -> tuple[list[str], str]:
    """The conditions and "", or one for all of them and why they cannot be read."""
    try:
        return listed(conditions), ""
    except FileNotFoundError as error:
        return ["a condition"], str(error)


@dataclass(frozen=True)
class Work:
    """What a run does.

    Attributes:
        conditions: that are collected for; those of validation where nothing is collected.
        absent: why they cannot be read, and count as one; "" where they can.
        drawn: trajectories that are collected; None where none are.
        scored: rewards that are given to them.
        held_out: samples of one evaluation.
        evaluations: of the model and of its base.
        inverting: what finding the inverse noise takes; None where none is sought.
        calls: samples through the networks, without gradient.
        examples: that are trained on.
        disk: bytes of the pool.
    """

    conditions: list[str]
    absent: str
    drawn: int | None
    scored: int
    held_out: int
    evaluations: int
    inverting: Inverting | None
    calls: Calls = field(default_factory=Counter)
    examples: int = 0
    disk: int = 0


def work_of(module: SampledModule, data: Any, collect: Collect, loop: Loop, invert: Invert | None = None) -> Work:
    """Counts a run.

    Args:
        module: the module; its networks need not be built.
        data: its datamodule.
        collect: settings of the collection; without a reward there is none.
        loop: what the trainer will do.
        invert: settings of the inversion.
    """
    collecting = collect.reward is not None and isinstance(data, AcceptedTrajectories)
    validation, unknown = texts_of(data.validation) if data.validation else ([], "")
    conditions, absent = texts_of(data.conditions) if collecting else (validation or [""], "")
    per_round = len(conditions) * collect.draws if collecting else 0
    drawn = per_round * collect.rounds
    held_out = len(validation) * data.eval_draws
    inversion = None
    if invert is not None and module.inverts and isinstance(data, InverseNoise):
        flow = module.decoder
        inversion = inverting(visited(flow), elements_of(flow.shape([""])), data, invert)

    of_base, of_tuned = base_calls(module), tuned_calls(module)
    calls = times(of_base, per_round) + times(of_tuned, per_round * (collect.rounds - 1))
    calls += times(of_base, held_out * loop.baseline + loop.redrawn * loop.validations)
    calls += times(of_tuned, held_out * loop.validations)
    examples = loop.batches * loop.processes * data.batch_size
    calls += Counter({stage.name: stage.beside_training * examples for stage in module.stages()})
    if inversion is not None:
        calls += Counter(flow=inversion.calls)

    one = trajectory_bytes(module, collect, conditions[0]) if collecting else 0
    return Work(
        conditions,
        absent or unknown,
        drawn if collecting else None,
        drawn * len(collect.rewards),
        held_out,
        loop.validations + loop.baseline,
        inversion,
        calls,
        examples,
        disk=inversion.samples * (COLUMNS_BYTES + inversion.row_bytes) if inversion else one * drawn,
    )


def times(calls: Calls, samples: int) -> Calls:
    """The evaluations of so many samples."""
    return Counter({name: count * samples for name, count in calls.items()})


def base_calls(module: SampledModule) -> Calls:
    """Network evaluations of one sample of the reference, or of the flow without its corrector."""
    return Counter({stage.name: stage.base_calls for stage in module.stages() if stage.base_calls})


def tuned_calls(module: SampledModule) -> Calls:
    """The same of one sample of the model under training."""
    return Counter({stage.name: stage.calls for stage in module.stages()})


def trajectory_bytes(module: SampledModule, collect: Collect, condition: str) -> int:
    """Bytes of one collected trajectory: x_0 in float32, kept states as they are kept, 4 integers, the rewards."""
    elements = elements_of(module.decoder.shape([condition]))
    states = len(kept_levels(module.decoder, collect.keep)) * (4 if collect.keep_as is None else 2)
    return elements * (4 + states) + COLUMNS_BYTES + 4 * len(collect.rewards)
