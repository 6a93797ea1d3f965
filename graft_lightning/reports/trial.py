"""A few evaluations and training steps on pure noise: what is timed, and what activations are measured on."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from graft_lightning.modules.denoising import DenoisingModule
from graft_lightning.modules.sampled import SampledModule
from graft_lightning.modules.stages import halves
from graft_lightning.processes.noise import Noise
from graft_lightning.rejection.reference import Reference
from graft_lightning.rejection.reward import Reward, score
from graft_lightning.reports.live import live_bytes
from graft_lightning.reports.memory import optimiser_bytes, size_of
from graft_lightning.reports.resident import ResidentGrowth
from graft_lightning.types import Batch, Groups, StateLike

REPEATS = 3
"""Timed calls; the fastest counts."""


def texts_for(conditions: Sequence[str], size: int) -> list[str]:
    """The conditions of a batch, in turn."""
    return [conditions[i % len(conditions)] for i in range(size)]


def pure_noise(reference: Reference, texts: Sequence[str], device: torch.device | str = "cpu") -> StateLike:
    """States at t = T, ``(batch, *shape)``."""
    noise = Noise(torch.arange(len(texts)), device)
    return reference.process.prior(reference.shape(texts), noise, reference.static_fields(texts, device))


def seconds_of_networks(
    module: SampledModule, conditions: Sequence[str], size: int, held: list[int] | None = None
) -> dict[str, float]:
    """Seconds of one evaluation of one sample without gradient, by the names of the module's stages.

    Args:
        module: its networks are built.
        conditions: of the samples.
        size: of the batch that is timed.
        held: is given the bytes that each network's evaluation holds.
    """
    texts = texts_for(conditions, size)
    seconds = {}
    for stage in module.stages():
        reference, denoiser = stage.reference, stage.frozen()
        x = pure_noise(reference, texts, module.device)
        t = torch.full((size,), reference.process.t_max, dtype=torch.float64, device=module.device)
        with torch.no_grad(), module.in_precision():
            condition = reference.encode(texts, module.device)
            took = fastest(lambda: denoiser(x, t, condition), held)  # noqa: B023 (called before the loop goes on)
        seconds[stage.name] = took / size / halves(reference)
    return seconds


def seconds_of_reward(
    module: SampledModule, reward: Reward, conditions: Sequence[str], size: int, held: list[int] | None = None
) -> float:
    """Seconds of the score of one sample; ``held`` is given the bytes that decoding and scoring hold."""
    texts = texts_for(conditions, size)
    made: list[Any] = []
    noise = pure_noise(module.decoder, texts, module.device)
    module.decoder.decode(
        pure_noise(module.decoder, texts[:1], module.device)
    )  # networks beside are loaded by their first call, and counted apart
    growth = ResidentGrowth()
    decoding = live_bytes(lambda: made.append(module.decoder.decode(noise)))
    if held is not None:
        held.append(_held(decoding, growth))
    reward = reward.to(module.device)
    return fastest(lambda: score(reward, made[0], texts, shared=True), held) / size


def seconds_of_training(module: DenoisingModule, conditions: Sequence[str], size: int, held: list[int]) -> float:
    """Seconds of one training step, the optimiser's own aside; ``held`` is given the bytes that steps in a row hold.

    In a CPU's memory the second step takes more than the first: it finds the gradients of that one, which are there
    until its own backward pass, and the states of the optimiser, where memory was free, and goes elsewhere with what
    does not fit between them.

    Args:
        module: its networks are built.
        conditions: of the examples.
        size: examples of a step.
        held: bytes of pieces of work, gradients included and states of the optimiser not.
    """
    most = live_bytes(training_step(module, conditions, size))
    growth = ResidentGrowth()
    step, states, seconds = training_step(module, conditions, size, kept=True), list[torch.Tensor](), []
    for number in range(REPEATS):
        seconds.append(_seconds(step))
        if number == 0 and not torch.cuda.is_initialized():
            states = optimiser_states(module)
    module.zero_grad()
    held.append(_held(most, growth, size_of(states)))
    return min(seconds)


def optimiser_states(module: DenoisingModule) -> list[torch.Tensor]:
    """As many numbers as the module's optimiser keeps after a step; those of AdamW where that is not known."""
    if module.views is None:
        return []
    trained = [p for p in module.views.network.parameters() if p.requires_grad]
    known = optimiser_bytes(module.optimizer, trained)
    copies = 2 if known is None else round(known / max(size_of(trained), 1))
    return [torch.ones_like(p) for p in trained for _ in range(copies)]


def training_step(
    module: DenoisingModule, conditions: Sequence[str], size: int, kept: bool = False
) -> Callable[[], None]:
    """A forward and a backward pass on ``size`` examples; the optimiser's own step is left out.

    Pure noise stands for the examples: what a step costs does not depend on their values.

    Args:
        module: its networks are built.
        conditions: of the examples.
        size: how many.
        kept: as in a trainer, gradients are there until the next backward pass; they are left behind.
    """
    reference = module.reference
    texts = texts_for(conditions, size)
    examples = pure_noise(reference, texts, module.device), texts, torch.arange(size), torch.ones(size)
    over_groups = getattr(module, "pool_objective", None) is not None
    batch = Groups(*examples, torch.zeros(size), size) if over_groups else Batch(*examples)
    batch = batch.to(module.device)

    def step() -> None:
        with module.in_precision():
            loss = module.loss_of(batch)[0]
        module.zero_grad()
        loss.backward()
        if not kept:
            module.zero_grad()

    return step


def fastest(work: Callable[[], Any], held: list[int] | None = None) -> float:
    """Seconds of the fastest of a few calls, after one to warm up.

    Args:
        work: what is timed.
        held: is given the bytes that these calls hold at most.
    """
    most = live_bytes(work)
    growth = ResidentGrowth()  # from here on: the first call also reads weights that were only mapped
    seconds = [_seconds(work) for _ in range(REPEATS)]
    if held is not None:
        held.append(_held(most, growth))
    return min(seconds)


def _seconds(work: Callable[[], Any]) -> float:
    _wait()
    start = time.perf_counter()
    work()
    _wait()
    return time.perf_counter() - start


def _held(tensors: int, growth: ResidentGrowth, beside: int = 0) -> int:
    """Bytes of a piece of work: on a GPU those of its tensors, in a CPU's memory what the process has grown by.

    Args:
        tensors: bytes of its tensors.
        growth: since before it.
        beside: bytes of what has been made meanwhile, and is counted elsewhere.
    """
    return tensors if torch.cuda.is_initialized() else max(tensors, growth.most - beside)


def _wait() -> None:
    """Until a GPU, where one is in use, has done what it was asked for."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
