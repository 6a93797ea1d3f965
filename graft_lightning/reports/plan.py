"""``plan``: what a configuration will cost, counted from its settings and timed on a few steps."""

import time
from collections.abc import Callable
from typing import Any

import torch
from tensordict import TensorDictBase

from graft_lightning.callbacks.collect import Collect
from graft_lightning.datamodules.accepted import AcceptedTrajectories
from graft_lightning.modules.denoising import DenoisingModule
from graft_lightning.processes.denoiser import Guided
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.samplers import Heun
from graft_lightning.rejection.collect import kept_levels
from graft_lightning.rejection.reward import score
from graft_lightning.types import Batch, State

REPEATS = 3
"""Timed calls; the fastest counts."""


def make_plan(module: DenoisingModule, data: Any, collect: Collect, max_steps: int, measure: bool = True) -> str:
    """The costs of a configuration, as text.

    Args:
        module: the module; its reference is built if ``measure``.
        data: its datamodule.
        collect: settings of the collection; without a reward there is none.
        max_steps: gradient steps.
        measure: time network, reward and training step on this machine.
    """
    reference = module.reference
    calls = sampler_calls(module)
    fit_steps = max(max_steps, 0)
    collecting = collect.reward is not None and isinstance(data, AcceptedTrajectories)
    conditions = data.conditions.texts() if collecting else [""]
    drawn = len(conditions) * collect.draws * collect.rounds if collecting else 0
    epochs = -(-fit_steps // data.steps_per_epoch)
    held_out = len(data.validation.texts()) * data.eval_draws if data.validation else 0
    evaluated = held_out * (epochs + 1)
    lines = [
        "What this configuration costs",
        f"  sampler          {type(reference.sampler).__name__}, {reference.sampler.steps} steps, "
        f"{calls} network evaluations a sample",
        f"  collection       {drawn:,} trajectories = {len(conditions):,} conditions x {collect.draws} draws "
        f"x {collect.rounds} rounds"
        if collecting
        else "  collection       none",
        f"  evaluation       {evaluated:,} samples = {held_out:,} x {epochs + 1} evaluations",
        f"  model calls      {(drawn + evaluated) * calls:,} samples through the network",
        f"  reward calls     {drawn * len(collect.rewards):,} in collection",
        f"  gradient steps   {fit_steps:,} of {data.batch_size} examples = {fit_steps * data.batch_size:,} examples",
    ]
    if collecting:
        lines.append(f"  disk             {readable(pool_bytes(module, collect, conditions[0]) * drawn)} for the pool")
    if measure:
        lines += _measured(module, data, collect, conditions, drawn, evaluated, calls, fit_steps)
    else:
        lines.append("  time             not measured")
    return "\n".join(lines)


def sampler_calls(module: DenoisingModule) -> int:
    """Network evaluations of one sample, guidance and two-stage steps counted."""
    sampler = module.reference.sampler
    steps = 2 * sampler.steps - 1 if isinstance(sampler, Heun) else sampler.steps
    return steps * (1 if module.reference.guidance_scale == 1 else 2)


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
    evaluated: int,
    calls: int,
    fit_steps: int,
) -> list[str]:
    module.configure_model()
    views = module.opened()
    parameters = sum(p.numel() for p in views.original.parameters())
    trained = sum(p.numel() for p in views.network.parameters() if p.requires_grad)
    weights = sum(p.numel() * p.element_size() for p in views.original.parameters())
    size = min(collect.batch_size, 64)
    texts = (conditions * size)[:size]
    encoded = module.reference.encode(texts, module.device)
    noise = Noise(torch.arange(size), module.device)
    carried = module.reference.carried(texts, module.device)
    x = module.reference.process.prior(module.reference.shape(texts), noise, carried)
    t = torch.full((size,), module.reference.process.t_max, dtype=torch.float64)
    with torch.no_grad():
        each = fastest(lambda: views.frozen(x, t, encoded)) / size / (2 if isinstance(views.frozen, Guided) else 1)
    sampling = each * calls
    lines = [
        f"  parameters       {parameters:,}, of which {trained:,} are trained; weights {readable(weights)}",
        f"  one sample       {sampling * 1e3:.2f} ms ({1 / sampling:.1f} a second), batches of {size}",
    ]
    judging = 0.0
    if collect.reward is not None:
        samples = module.reference.decode(x)
        judging = fastest(lambda: score(collect.reward, samples, texts)) / size  # type: ignore[arg-type]
        lines.append(f"  one reward       {judging * 1e3:.2f} ms")
    step = fastest(lambda: _train(module, x, texts, data.batch_size))
    total = drawn * (sampling + judging * len(collect.rewards)) + evaluated * sampling + fit_steps * step
    lines += [
        f"  one training step {step * 1e3:.0f} ms",
        f"  time             about {duration(total)} on this machine: "
        f"collection {duration(drawn * (sampling + judging))}, "
        f"training {duration(fit_steps * step)}, evaluation {duration(evaluated * sampling)}",
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
