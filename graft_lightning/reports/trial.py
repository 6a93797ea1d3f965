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
        x, condition = pure_noise(reference, texts, module.device), reference.encode(texts, module.device)
        t = torch.full((size,), reference.process.t_max, dtype=torch.float64, device=module.device)
        with torch.no_grad():
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
    return fastest(lambda: score(reward, made[0], texts), held) / size


def training_step(module: DenoisingModule, conditions: Sequence[str], size: int) -> Callable[[], None]:
    """A forward and a backward pass on ``size`` examples; the optimiser's own step is left out.

    Pure noise stands for the examples: what a step costs does not depend on their values.
    """
    reference = module.reference
    texts = texts_for(conditions, size)
    examples = pure_noise(reference, texts, module.device), texts, torch.arange(size), torch.ones(size)
    over_groups = getattr(module, "pool_objective", None) is not None
    batch = Groups(*examples, torch.zeros(size), size) if over_groups else Batch(*examples)
    batch = batch.to(module.device)

    def step() -> None:
        module.loss_of(batch)[0].backward()
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
    seconds = []
    for _ in range(REPEATS):
        _wait()
        start = time.perf_counter()
        work()
        _wait()
        seconds.append(time.perf_counter() - start)
    if held is not None:
        held.append(_held(most, growth))
    return min(seconds)


def _held(tensors: int, growth: ResidentGrowth) -> int:
    """Bytes of a piece of work: on a GPU those of its tensors, in a CPU's memory what the process has grown by."""
    return tensors if torch.cuda.is_initialized() else max(tensors, growth.most)


def _wait() -> None:
    """Until a GPU, where one is in use, has done what it was asked for."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
