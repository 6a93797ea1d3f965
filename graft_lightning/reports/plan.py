"""``plan``: what a configuration will cost, counted from its settings and measured on a few steps."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import lightning as L
import torch
from tensordict import TensorDictBase

from graft_lightning.callbacks.collect import Collect
from graft_lightning.callbacks.ema import TrainableEMA
from graft_lightning.callbacks.evaluate import BASE_SAMPLES, Evaluate
from graft_lightning.datamodules.accepted import AcceptedTrajectories
from graft_lightning.modules.denoising import DenoisingModule
from graft_lightning.modules.graft import PGraft
from graft_lightning.processes.denoiser import Guided
from graft_lightning.processes.noise import Noise
from graft_lightning.rejection.collect import kept_levels
from graft_lightning.rejection.reward import score
from graft_lightning.reports.memory import activation_bytes, memory_of, recomputes, size_of, skeleton_views
from graft_lightning.types import Batch, State

REPEATS = 3
"""Timed calls; the fastest counts."""


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
    """

    steps: int
    validations: int
    baseline: bool
    redrawn: int = 0
    averaged: bool = False
    batches: int = 0
    processes: int = 1


def loop_of(trainer: L.Trainer, data: Any, evaluate: Evaluate, collecting: bool) -> Loop:
    """Counts from a trainer's settings, as Lightning reads them.

    Args:
        trainer: gives max_steps, max_epochs and how often it validates.
        data: gives steps_per_epoch.
        evaluate: whether it evaluates the reference first.
        collecting: whether there is a pool, without which nothing is fine-tuned.
    """
    per_epoch = -(-data.steps_per_epoch // trainer.accumulate_grad_batches)
    limits = [trainer.max_steps] if trainer.max_steps >= 0 else []
    if trainer.max_epochs is not None and trainer.max_epochs >= 0:
        limits.append(trainer.max_epochs * per_epoch)
    steps = min(limits, default=1000 * per_epoch)  # Lightning's own default
    every = trainer.check_val_every_n_epoch or 1
    validations = steps // per_epoch // every if trainer.limit_val_batches else 0
    read = steps // per_epoch * data.steps_per_epoch + steps % per_epoch * trainer.accumulate_grad_batches
    amount = {"batches": read, "processes": trainer.world_size}
    averaged = any(isinstance(callback, TrainableEMA) for callback in trainer.callbacks)  # type: ignore[attr-defined]
    if not data.validation:
        return Loop(steps, 0, False, averaged=averaged, **amount)
    baseline = bool(collecting and evaluate.baseline and evaluate.rewards)
    redrawn = BASE_SAMPLES * trainer.world_size if collecting and evaluate.alarms.on and not baseline else 0
    held_out = len(texts_of(data.validation)[0]) * data.eval_draws
    return Loop(steps, validations, baseline, min(redrawn, held_out), averaged, **amount)


def texts_of(conditions: Any) -> tuple[list[str], str]:
    """The conditions and "", or one for all of them and why they cannot be read."""
    try:
        return conditions.texts(), ""
    except FileNotFoundError as error:
        return ["a condition"], str(error)


def make_plan(module: DenoisingModule, data: Any, collect: Collect, loop: Loop, measure: bool = True) -> str:
    """The costs of a configuration, as text.

    Args:
        module: the module; its reference is built if ``measure``.
        data: its datamodule.
        collect: settings of the collection; without a reward there is none.
        loop: what the trainer will do.
        measure: time network, reward and training step on this machine.
    """
    reference = module.reference
    collecting = collect.reward is not None and isinstance(data, AcceptedTrajectories)
    validation, unknown = texts_of(data.validation) if data.validation else ([], "")
    conditions, absent = texts_of(data.conditions) if collecting else (validation or [""], "")
    per_round = len(conditions) * collect.draws if collecting else 0
    drawn = per_round * collect.rounds
    held_out = len(validation) * data.eval_draws
    evaluations = loop.validations + loop.baseline
    of_base, of_tuned = base_calls(module), tuned_calls(module)
    calls = per_round * (of_base + (collect.rounds - 1) * of_tuned)
    calls += held_out * (loop.baseline * of_base + loop.validations * of_tuned)
    calls += loop.validations * loop.redrawn * of_base
    if guided_in_training(module):
        calls += loop.batches * loop.processes * data.batch_size  # the frozen unconditional half
    examples = loop.batches * loop.processes * data.batch_size
    lines = [
        "What this configuration costs",
        *([f"  conditions       cannot be read, counted as one: {absent or unknown}"] if absent or unknown else []),
        f"  sampler          {type(reference.sampler).__name__}, {reference.sampler.steps} steps, "
        f"{of_base} network evaluations a sample",
        f"  collection       {drawn:,} trajectories = {len(conditions):,} conditions x {collect.draws} draws "
        f"x {collect.rounds} rounds"
        if collecting
        else "  collection       none",
        f"  evaluation       {held_out * evaluations:,} samples = {held_out:,} x {evaluations} evaluations",
        f"  model calls      {calls:,} samples through the network, without gradient",
        f"  reward calls     {drawn * len(collect.rewards):,} in collection",
        f"  gradient steps   {loop.steps:,} on {examples:,} examples, batches of {data.batch_size}"
        + (f" on each of {loop.processes} processes" if loop.processes > 1 else ""),
    ]
    if collecting:
        lines.append(f"  disk             {readable(pool_bytes(module, collect, conditions[0]) * drawn)} for the pool")
    reason = "" if measure else "not asked for"
    if measure:
        try:
            module.configure_model()
            lines += _measured(module, data, collect, conditions, drawn, calls, loop.batches)
        except OSError as error:  # weights that are not here
            reason = str(error).partition("\n")[0]
    lines += _memory(module, data, conditions, loop.averaged, reason)
    if reason:
        lines.append(f"  time             not measured: {reason}")
    return "\n".join(lines)


def _memory(module: DenoisingModule, data: Any, conditions: Sequence[str], averaged: bool, reason: str) -> list[str]:
    """What training keeps in memory and leaves on disk; activations only where the network could be built."""
    views = module.views or skeleton_views(module)
    if views is None:
        return [f"  memory           not measured: {reason}"]
    memory = memory_of(module, views, averaged)
    trained = sum(p.numel() for p in views.network.parameters() if p.requires_grad)
    network = sum(p.numel() for p in views.original.parameters()) - memory.adapters * trained
    optimiser = (
        "of the optimiser not measured" if memory.optimiser is None else f"{readable(memory.optimiser)} optimiser"
    )
    what = [
        f"{readable(memory.original)} weights ({memory.dtype})",
        f"{readable(memory.trained)} {'adapters' if memory.adapters else 'trained copy'}" if memory.trained else "",
        f"{readable(memory.gradients)} gradients",
        optimiser,
        f"{readable(memory.average)} average" if memory.average else "",
    ]
    lines = [
        f"  parameters       {network:,} in the network, {trained:,} trained",
        f"  memory           {readable(memory.resident)} in training = {' + '.join(filter(None, what))}",
    ]
    if memory.checkpoint is not None:
        lines.append(f"  checkpoint       {readable(memory.checkpoint)}")
    if reason:
        return [*lines, f"  activations      not measured: {reason}"]
    x, encoded = _start(module, conditions, 2)
    fields: Any = encoded.values() if isinstance(encoded, TensorDictBase) else [encoded]
    one = size_of(fields)
    held = [*views.original.parameters(), *views.network.parameters(), *views.network.buffers()]
    texts = _texts(conditions, 2)
    whole, each = activation_bytes(lambda count: _train(module, x, texts, count), held, data.batch_size)
    least = "at least " if recomputes(views.network) else ""
    return [
        *lines,
        f"  activations      {least}{readable(whole)} in a step of {data.batch_size} examples, {readable(each)} each",
        f"  encoded texts    {readable(one / 2 * len(set(conditions)))} for {len(set(conditions)):,} conditions",
    ]


def _texts(conditions: Sequence[str], size: int) -> list[str]:
    return [conditions[i % len(conditions)] for i in range(size)]


def _start(module: DenoisingModule, conditions: Sequence[str], size: int) -> tuple[State, Any]:
    """Pure noise and encoded conditions of a batch."""
    reference, texts = module.reference, _texts(conditions, size)
    noise = Noise(torch.arange(size), module.device)
    carried = reference.carried(texts, module.device)
    x = reference.process.prior(reference.shape(texts), noise, carried)
    return x, reference.encode(texts, module.device)


def visited(module: DenoisingModule, boundaries: Sequence[float] = ()) -> list[tuple[float, int]]:
    """Level and number of evaluations of every step of the sampler; two-stage steps that end at a boundary have one."""
    sampler = module.reference.sampler
    grid = sampler.levels(module.reference.process)
    descent = sorted({*grid, *(t for t in boundaries if t < grid[-1])}, reverse=True)
    ends = {descent[-1], *boundaries}
    return [(t, sampler.evaluations(t_next not in ends)) for t, t_next in pairwise(descent)]


def base_calls(module: DenoisingModule) -> int:
    """Network evaluations of one sample of the reference, guidance and two-stage steps counted."""
    return sum(stages for _, stages in visited(module)) * _halves(module)


def tuned_calls(module: DenoisingModule) -> int:
    """The same of one sample of the model under training."""
    if not isinstance(module, PGraft):
        return base_calls(module)
    s = module.handoff_level
    total = 0
    for t, stages in visited(module, (s,) if s > 0 else ()):
        tuned = (t > s) != module.reverse
        total += stages * (1 if tuned and module.guidance == "absorbed" else _halves(module))
    return total


def guided_in_training(module: DenoisingModule) -> bool:
    """Whether a training step also calls the frozen unconditional model."""
    return isinstance(module, PGraft) and module.guidance == "composed" and _halves(module) == 2


def _halves(module: DenoisingModule) -> int:
    return 1 if module.reference.guidance_scale == 1 else 2


def pool_bytes(module: DenoisingModule, collect: Collect, condition: str) -> int:
    """Bytes of one trajectory in the pool: float32 states, 4 integers, the rewards."""
    shape = module.reference.shape([condition])
    shapes = [shape] if isinstance(shape, tuple) else list(shape.values())
    elements = sum(int(torch.tensor(one).prod()) if one else 1 for one in shapes)
    states = 1 + len(kept_levels(module.reference, collect.keep))
    return 4 * elements * states + 4 * 8 + 4 * len(collect.rewards)


def _measured(
    module: DenoisingModule,
    data: Any,
    collect: Collect,
    conditions: list[str],
    drawn: int,
    calls: int,
    batches: int,
) -> list[str]:
    views = module.opened()
    size = min(collect.batch_size, 64)
    texts = _texts(conditions, size)
    x, encoded = _start(module, conditions, size)
    t = torch.full((size,), module.reference.process.t_max, dtype=torch.float64)
    with torch.no_grad():
        each = fastest(lambda: views.frozen(x, t, encoded)) / size / (2 if isinstance(views.frozen, Guided) else 1)
    sampling = each * base_calls(module)
    lines = [
        f"  one sample       {sampling * 1e3:.2f} ms ({1 / sampling:.1f} a second), batches of {size}",
    ]
    judging = 0.0
    if collect.reward is not None:
        samples = module.reference.decode(x)
        judging = fastest(lambda: score(collect.reward, samples, texts)) / size  # type: ignore[arg-type]
        lines.append(f"  one reward       {judging * 1e3:.2f} ms")
    step = fastest(lambda: _train(module, x, texts, data.batch_size))
    network, judge, train = calls * each, drawn * judging * len(collect.rewards), batches * step
    lines += [
        f"  one training step {step * 1e3:.0f} ms",
        f"  time             about {duration(network + judge + train)} on this machine: "
        f"sampling {duration(network)}, rewards {duration(judge)}, training {duration(train)}",
    ]
    return lines


def _train(module: DenoisingModule, x: State, texts: list[str], batch_size: int) -> None:
    index = torch.arange(batch_size) % len(texts)
    chosen = [texts[i] for i in index.tolist()]
    level, low, high = module.loss_range()
    batch = Batch(x[index], chosen, torch.arange(batch_size), torch.ones(batch_size))
    loss = module.objective.loss(
        module.opened().trainable,
        module.reference.process,
        batch.x,
        module.reference.encode(chosen, module.device),
        Noise(batch.seeds, module.device),
        level,
        low,
        high,
    )
    loss.value.mean().backward()
    module.zero_grad()


def fastest(work: Callable[[], Any]) -> float:
    """Seconds of the fastest of a few calls, after one to warm up."""
    work()
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        result = work()
        if (
            isinstance(result, torch.Tensor | TensorDictBase)
            and result.device is not None
            and result.device.type == "cuda"
        ):
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def readable(count: float) -> str:
    """Bytes with a unit."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def duration(seconds: float) -> str:
    """Seconds in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"
