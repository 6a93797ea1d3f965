"""Where to hand off: at which level the reward is decided, and what a hand-off there can reach."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from graft_lightning.processes.denoiser import Denoiser, predict
from graft_lightning.processes.noise import Noise, derived_seeds
from graft_lightning.processes.paths.base import weight_of
from graft_lightning.rejection.reference import Reference
from graft_lightning.rejection.reward import Reward, score
from graft_lightning.types import MASK, StateLike, as_state, device_of, on_device, take


@dataclass(frozen=True)
class Estimate:
    """A mean with its standard error over ``n`` independent values."""

    mean: float
    error: float
    n: int


def estimate(values: Tensor) -> Estimate:
    """Mean and standard error of independent values; those that are not finite are left out."""
    finite = values[values.isfinite()].double()
    if not len(finite):
        return Estimate(float("nan"), float("nan"), 0)
    error = float(finite.std(correction=1)) / len(finite) ** 0.5 if len(finite) > 1 else float("nan")
    return Estimate(float(finite.mean()), error, len(finite))


def within_condition_variance(rewards: Tensor) -> float:
    """E_c Var(r | c) of a table ``(conditions, draws)``, unbiased; what E[Var(r | X_t)] tends to at t = T."""
    variances = [row[row.isfinite()].double().var(correction=1) for row in rewards if row.isfinite().sum() > 1]
    return float(torch.stack(variances).mean()) if variances else float("nan")


def continue_from(
    reference: Reference,
    denoiser: Denoiser,
    reward: Reward,
    states: StateLike,
    level: float,
    texts: Sequence[str],
    seeds: Tensor,
    batch_size: int,
    device: Any,
) -> Tensor:
    """Rewards of trajectories finished from ``states`` at ``level``, float32 ``(batch,)``.

    Args:
        reference: gives sampler, process and decoder.
        denoiser: finishes the trajectories.
        reward: scores them.
        states: ``(batch, *shape)``.
        level: of the states.
        texts: their conditions.
        seeds: of the noise on the way, one a trajectory.
        batch_size: trajectories at a time.
        device: where the networks are.
    """
    scores = []
    for low in range(0, len(texts), batch_size):
        part = slice(low, low + batch_size)
        trajectory = reference.sampler.resume(
            denoiser,
            reference.process,
            reference.encode(texts[part], device),
            Noise(seeds[part], device),
            on_device(take(states, part), device),
            level,
        )
        scores.append(score(reward, reference.decode(trajectory.x_0), texts[part]))
    return torch.cat(scores)


def reward_variance(
    reference: Reference,
    denoiser: Denoiser,
    reward: Reward,
    states: StateLike,
    level: float,
    texts: Sequence[str],
    seeds: Tensor,
    continuations: int,
    batch_size: int,
    device: Any,
) -> Estimate:
    """E[Var(r(X_0) | X_t = state)] by nested sampling: the variance among fresh continuations of each state.

    Arguments as in `continue_from`; ``seeds`` are those of the states.

    Raises:
        ValueError: for a deterministic sampler, with which the variance is identically 0.
    """
    if not reference.sampler.stochastic(reference.process):
        raise ValueError(
            f"sampler {type(reference.sampler).__name__} is deterministic: every continuation of a state is the same, "
            "and E[Var(r | X_t)] would be 0; use DDPM, or DDIM with eta > 0"
        )
    if continuations < 2:
        raise ValueError(f"continuations={continuations}; a variance needs at least 2")
    rewards = [
        continue_from(
            reference,
            denoiser,
            reward,
            states,
            level,
            texts,
            derived_seeds(seeds, f"continuation {k}"),
            batch_size,
            device,
        )
        for k in range(continuations)
    ]
    return estimate(torch.stack(rewards, 1).double().var(dim=1, correction=1))


def score_distance(
    reference: Reference, denoiser: Denoiser, states: StateLike, level: float, texts: Sequence[str]
) -> Estimate | None:
    """Mean squared distance, per dimension and in units of eps, of the model's score from that of N(0, I) at ``level``.

    The states are scaled to unit noise-to-data variance first, so that a flow is measured with the same rule. Of a
    mixed state it is that of the Gaussian fields, padding left out: classes have no score. None where all are classes.
    """
    process, x = reference.process, as_state(states)
    device = device_of(x)
    with torch.no_grad():
        fields = predict(denoiser, process, x, level, reference.encode(texts, device))
    found = {name: path.excess(x[name], fields[name], level) for name, path in process.paths.items()}
    mask, squares, counts = x.get(MASK), torch.zeros(len(texts)).double(), torch.zeros(len(texts)).double()
    for excess in found.values():
        if excess is not None:
            real = torch.ones_like(excess) if mask is None else weight_of(mask, excess).expand_as(excess)
            squares += (excess.square() * real).flatten(1).double().sum(1).cpu()
            counts += real.flatten(1).double().sum(1).cpu()
    return estimate(squares / counts) if bool(counts.any()) else None


def crossing(levels: Sequence[float], values: Sequence[float], threshold: float) -> float:
    """The level below which ``values`` stay under a threshold, by linear interpolation from (0, 0).

    Args:
        levels: increasing.
        values: one a level.
        threshold: the value to cross.
    """
    before = (0.0, 0.0)
    for here in zip(levels, values, strict=True):
        if here[1] > threshold:
            return before[0] + (here[0] - before[0]) * (threshold - before[1]) / max(here[1] - before[1], 1e-12)
        before = here
    return before[0]
