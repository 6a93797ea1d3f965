"""Where to hand off: at which level the reward is decided, and what a hand-off there can reach."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from graft_lightning.processes.denoiser import Denoiser, Prediction, predict
from graft_lightning.processes.noise import Noise, derived_seeds
from graft_lightning.processes.paths import GaussianPath
from graft_lightning.rejection.reference import Reference
from graft_lightning.rejection.reward import Reward, score
from graft_lightning.statistics import student_quantile
from graft_lightning.types import State, broadcast, field_of, mask_of


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


def within_condition_variance(rewards: Tensor) -> float:
    """E_c Var(r | c) of a table ``(conditions, draws)``, unbiased; what E[Var(r | X_t)] tends to at t = T."""
    variances = [row[row.isfinite()].double().var(correction=1) for row in rewards if row.isfinite().sum() > 1]
    return float(torch.stack(variances).mean()) if variances else float("nan")


def continue_from(
    reference: Reference,
    denoiser: Denoiser,
    reward: Reward,
    states: State,
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
            states[part].to(device),
            level,
        )
        scores.append(score(reward, reference.decode(trajectory.x_0), texts[part]))
    return torch.cat(scores)


def reward_variance(
    reference: Reference,
    denoiser: Denoiser,
    reward: Reward,
    states: State,
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
    if not reference.sampler.stochastic:
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
    reference: Reference, denoiser: Denoiser, states: State, level: float, texts: Sequence[str]
) -> Estimate | None:
    """Mean squared distance, per dimension and in units of eps, of the model's score from that of N(0, I) at ``level``.

    The states are scaled to unit noise-to-data variance first, so that a flow is measured with the same rule. Of a
    mixed state it is that of the Gaussian fields, padding left out: classes have no score. None where all are classes.
    """
    paths = {name: path for name, path in reference.process.paths.items() if isinstance(path, GaussianPath)}
    if not paths:
        return None
    device = field_of(states, next(iter(paths))).device
    t = torch.full((len(texts),), level, dtype=torch.float64, device=device)
    with torch.no_grad():
        fields = predict(denoiser, reference.process, states, t, reference.encode(texts, device))
    mask, squares, counts = mask_of(states), torch.zeros_like(t), torch.zeros_like(t)
    for name, path in paths.items():
        x, prediction = field_of(states, name), fields[name]
        assert isinstance(prediction, Prediction)
        alpha, sigma = path.alpha_sigma(t)
        of_gaussian = broadcast(sigma / (alpha**2 + sigma**2), x).to(x) * x
        real = torch.ones_like(x) if mask is None else broadcast(mask, x).to(x).expand_as(x)
        squares += ((prediction.epsilon - of_gaussian).pow(2) * real).flatten(1).double().sum(1)
        counts += real.flatten(1).double().sum(1)
    return estimate(squares / counts)


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
