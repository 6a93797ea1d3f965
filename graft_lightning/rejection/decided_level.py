"""Where to hand off: at which level the reward is decided, and what a hand-off there can reach."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from graft_lightning.processes.denoiser import Denoiser, predict
from graft_lightning.processes.noise import Noise, derived_seeds
from graft_lightning.processes.paths.base import weight_of
from graft_lightning.rejection.reference import Reference
from graft_lightning.rejection.reward import Reward, score
from graft_lightning.rejection.selection import Selection
from graft_lightning.statistics import student_quantile
from graft_lightning.types import MASK, StateLike, as_state, device_of, on_device, take

Under = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Estimate:
    """A mean with its standard error over ``n`` independent values: the states of a pool whose conditions are given."""

    mean: float
    error: float
    n: int

    @property
    def half_width(self) -> float:
        """How far the 95 % interval (Student's t) reaches to each side of the mean; NaN for a single value."""
        return student_quantile(self.n) * self.error


def estimate(values: Tensor) -> Estimate:
    """Mean and standard error of independent values; those that are not finite are left out."""
    finite = values[values.isfinite()].double()
    if not len(finite):
        return Estimate(float("nan"), float("nan"), 0)
    error = float(finite.std(correction=1)) / len(finite) ** 0.5 if len(finite) > 1 else float("nan")
    return Estimate(float(finite.mean()), error, len(finite))


def accepted_mean(selection: Selection) -> Estimate:
    """Mean reward of the accepted, conditions alike and members by weight: what P-GRAFT under an ODE can reach.

    A deterministic sampler finishes the stored x_s at the stored x_0, whatever the level, so no network is asked. The
    error is that of a weighted mean over as many values as the weights are worth.
    """
    share, rewards = selection.share[selection.accepted.any(1)].double(), selection.rewards[selection.accepted.any(1)]
    weight = share / share.sum(1, keepdim=True) / len(share)
    mean, effective = selection.mean(selection.rewards), selection.effective_sample_size
    squares = (rewards.double() - mean).square().masked_fill(weight == 0, 0.0)
    error = math.sqrt(float((weight * squares).sum()) / (effective - 1)) if effective > 1 else math.nan
    return Estimate(mean, error, round(effective))


def within_condition_variance(rewards: Tensor) -> float:
    """E_c Var(r | c) of a table ``(conditions, draws)``, unbiased; what E[Var(r | X_t)] tends to at t = T."""
    variances = [row[row.isfinite()].double().var(correction=1) for row in rewards if row.isfinite().sum() > 1]
    return float(torch.stack(variances).mean()) if variances else float("nan")


def error_of_variance(rewards: Tensor) -> float:
    """Standard error of `within_condition_variance`, the conditions held fixed; NaN where that is.

    From the fourth moment of each condition: Var(s^2) = (m_4 - s^4 (n - 3) / (n - 1)) / n.
    """
    squares = []
    for row in rewards:
        values = row[row.isfinite()].double()
        if (n := len(values)) > 1:
            fourth, variance = (values - values.mean()).pow(4).mean(), values.var(correction=1)
            squares.append((fourth - variance**2 * (n - 3) / (n - 1)).clamp_min(0) / n)
    return float(torch.stack(squares).sum().sqrt()) / len(squares) if squares else float("nan")


def share_of(part: Estimate, whole: float, error: float) -> Estimate:
    """``part / whole``, with the errors of both; they are independent.

    Args:
        part: an estimate.
        whole: a positive number.
        error: standard error of ``whole``.
    """
    share = part.mean / whole
    return Estimate(share, math.hypot(part.error, share * error) / whole, part.n)


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
    under: Under = nullcontext,
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
        under: makes the context in which networks are called, as in `Collection`; rewards are outside.
    """
    scores = []
    for low in range(0, len(texts), batch_size):
        part = slice(low, low + batch_size)
        with under():
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
    under: Under = nullcontext,
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
            under,
        )
        for k in range(continuations)
    ]
    return estimate(torch.stack(rewards, 1).double().var(dim=1, correction=1))


def score_distance(
    reference: Reference,
    denoiser: Denoiser,
    states: StateLike,
    level: float,
    texts: Sequence[str],
    under: Under = nullcontext,
) -> Estimate | None:
    """Mean squared distance, per dimension and in units of eps, of the model's score from that of N(0, I) at ``level``.

    The states are scaled to unit noise-to-data variance first, so that a flow is measured with the same rule. Of a
    mixed state it is that of the Gaussian fields, padding left out: classes have no score. None where all are classes.
    """
    process, x = reference.process, as_state(states)
    device = device_of(x)
    with torch.no_grad(), under():
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
    """Where values that rise with the level cross a threshold, by linear interpolation between two given levels.

    Outside the levels nothing is known: there is no interpolation below the first nor beyond the last. Next to an
    infinite value it is that of larger and larger ones: the line crosses at the level of the other value.

    Args:
        levels: increasing.
        values: one a level; they may be infinite.
        threshold: the value to cross.

    Returns:
        The level; -inf where the first value is above the threshold already, inf where none is.
    """
    below: tuple[float, float] | None = None
    for level, value in zip(levels, values, strict=True):
        if value > threshold:
            if below is None:
                return -math.inf
            if math.isinf(below[1]):
                return level
            return below[0] + (level - below[0]) * (threshold - below[1]) / (value - below[1])
        below = level, value
    return math.inf


@dataclass(frozen=True)
class Recommendation:
    """The highest kept level at which a share of the reward's variance that is small enough is still open.

    Attributes:
        level: the kept level, below which all are small enough too. Where none is, the lowest: the answer is "at or
            below"; where all are, the highest: "at or above".
        crossing: where the shares cross the limit, interpolated between kept levels; NaN where they do not.
        low: lower end of the crossing's 95 % interval; 0, the data, where it lies below the kept levels.
        high: upper end; 1, the noise, where it lies above them.
        below: whether the interval is open at its lower end: levels below the lowest kept one may be right.
        above: whether it is open at its upper end.
        decided: whether the share at the level is small enough; it is not where that of no level is.
    """

    level: float
    crossing: float
    low: float
    high: float
    below: bool
    above: bool
    decided: bool = True


def recommended(levels: Sequence[float], shares: Sequence[Estimate], limit: float) -> Recommendation:
    """The hand-off that the open shares of the variance recommend.

    The share is 0 at the data and 1 at the noise, and crosses the limit in between for certain; where, is only known
    between kept levels.

    Args:
        levels: kept ones, in any order, as fractions N_I / N.
        shares: E[Var(r | X_t)] over the variance within conditions, one a level. One without an interval, of a single
            state say, is not bounded by it.
        limit: the share up to which a level is recommended.

    Raises:
        ValueError: if there is no level, or a share is NaN.
    """
    pairs = sorted(zip(levels, shares, strict=True), key=lambda pair: pair[0])
    levels, shares = [level for level, _ in pairs], [share for _, share in pairs]
    means = [share.mean for share in shares]
    if not means or any(map(math.isnan, means)):
        raise ValueError(f"shares={means}; there must be at least one, and none NaN")
    half = [math.inf if math.isnan(share.half_width) else share.half_width for share in shares]
    small = next((place for place, mean in enumerate(means) if mean > limit), len(means))
    middle = crossing(levels, means, limit)
    low = crossing(levels, [mean + h for mean, h in zip(means, half, strict=True)], limit)
    high = crossing(levels, [mean - h for mean, h in zip(means, half, strict=True)], limit)
    return Recommendation(
        level=levels[max(small - 1, 0)],
        crossing=middle if math.isfinite(middle) else math.nan,
        low=min(max(low, 0.0), levels[-1]),
        high=max(min(high, 1.0), levels[0]),
        below=low == -math.inf,
        above=high == math.inf,
        decided=small > 0,
    )
