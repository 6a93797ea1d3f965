"""Feynman-Kac steering: a sampler at inference that follows a reward, of any reference, and trains nothing."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from graft_lightning.processes.denoiser import Denoiser, Fields
from graft_lightning.processes.noise import Noise, derived_seeds
from graft_lightning.processes.samplers import Sampler
from graft_lightning.ranges import Count, Fraction, Positive
from graft_lightning.rejection.potentials import Potential, Potentials, effective, systematic
from graft_lightning.rejection.reference import Reference
from graft_lightning.rejection.reward import Reward, score
from graft_lightning.types import MASK, SettingsError, State, StateLike, bare, concatenate, take

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Steered:
    """Groups of particles, finished.

    Attributes:
        x_0: the sample of each group, ``(groups, *shape)``.
        particles: all of them, one group after the other, ``(groups * particles, *shape)``.
        rewards: of the particles, float64 ``(groups, particles)``.
        log_weights: of the particles, of any sum; those of the tilted distribution.
        log_normaliser: the logarithm of an unbiased estimate of E[exp(r / temperature)], ``(groups,)``.
        resampled: how often each group was resampled, int64 ``(groups,)``.
        evaluations: calls of the denoiser per group.
        reward_calls: scores per group.
    """

    x_0: Any
    particles: Any
    rewards: Tensor
    log_weights: Tensor
    log_normaliser: Tensor
    resampled: Tensor
    evaluations: int
    reward_calls: int


class Steering:
    """Feynman-Kac steering (arXiv 2501.06848): particles are weighted by the rewards of what they promise to become.

    Every sample is a group of particles. At every so many steps the reward scores the x_0 that the model predicts for
    each, which its next step needs anyhow; where the weights have become uneven, particles that promise little are
    replaced by copies of others. Finished particles are weighted by exp(r / temperature) in all, whatever the
    potential. The numbers of a group are those of its own seed: of its first particle the seed of the sample itself,
    so that one particle is plain sampling, bit for bit.

    Copies part again by the sampler's noise. Those of a deterministic one (an ODE) stay the same: it says so once.

    Args:
        particles: k, in a group.
        every: steps between two looks at the predictions.
        temperature: rewards are divided by it; the smaller, the more one reward outweighs another.
        potential: "max", the largest reward so far; "difference" from the last; "sum" of all so far.
        threshold: a group is resampled where its effective number of particles falls below this share of k.
        choose: the sample of a group: "best", its greatest reward, or "drawn" by weight, which follows the tilted
            distribution as k grows.
    """

    def __init__(
        self,
        particles: Count = 4,
        every: Count = 5,
        temperature: Positive = 0.1,
        potential: Potential = "max",
        threshold: Fraction = 0.5,
        choose: Literal["best", "drawn"] = "best",
    ) -> None:
        for name, value in (("particles", particles), ("every", every)):
            if value < 1:
                raise ValueError(f"{name}={value}; it must be at least 1")
        if not temperature > 0:
            raise ValueError(f"temperature={temperature}; it must be above 0")
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold={threshold}; it is a share of the particles, in [0, 1]")
        for name, text, known in (
            ("potential", potential, ("difference", "max", "sum")),
            ("choose", choose, ("best", "drawn")),
        ):
            if text not in known:
                raise ValueError(f"{name}={text!r}; it is one of {', '.join(known)}")
        self.particles, self.every, self.temperature = particles, every, temperature
        self.potential: Potential = potential
        self.threshold, self.choose = threshold, choose

    def sample(
        self,
        reference: Reference,
        reward: Reward,
        denoiser: Denoiser,
        conditions: Sequence[str],
        seeds: Tensor,
        device: torch.device | str = "cpu",
        at_once: int | None = None,
    ) -> Steered:
        """One steered sample of every condition.

        Args:
            reference: gives process, sampler and decoder.
            reward: that is followed.
            denoiser: the model, stitched or not.
            conditions: one text a sample.
            seeds: int64 ``(batch,)``, one a sample.
            device: where the networks and the reward are.
            at_once: groups that are drawn together; as many as make no more particles than there are samples by
                default.

        Raises:
            SettingsError: if the reward looks at whole groups of draws.
        """
        self.require(reward)
        if self.particles > 1 and not reference.sampler.stochastic(reference.process):
            _warn_of_copies(reference.sampler)
        size = at_once or max(1, len(conditions) // self.particles)
        cuts = [slice(low, low + size) for low in range(0, len(conditions), size)]
        parts = [self._groups(reference, reward, denoiser, conditions[cut], seeds[cut], device) for cut in cuts]
        return parts[0] if len(parts) == 1 else _joined(parts)

    @staticmethod
    def require(reward: Reward) -> None:
        """Refuses a reward that cannot be followed.

        Raises:
            SettingsError: if it looks at whole groups of draws.
        """
        if reward.groupwise:
            raise SettingsError(
                f"steering follows a reward of single samples, and {reward.name} looks at all draws of a condition"
            )

    def looks(self, steps: int) -> int:
        """How often the predictions are scored in so many steps of a sampler."""
        return (steps - 1) // self.every

    def _groups(
        self,
        reference: Reference,
        reward: Reward,
        denoiser: Denoiser,
        conditions: Sequence[str],
        seeds: Tensor,
        device: torch.device | str,
    ) -> Steered:
        texts = [text for text in conditions for _ in range(self.particles)]
        others = [derived_seeds(seeds, f"particle {number}") for number in range(1, self.particles)]
        own = torch.stack([seeds, *others], 1).flatten()

        def scores(x_0: StateLike) -> Tensor:
            return score(reward, reference.decode(x_0), texts, shared=True).double().view(len(conditions), -1)

        group = _Groups(self, reference, scores, seeds)
        trajectory = reference.sampler.sample(
            denoiser,
            reference.process,
            reference.encode(texts, device),
            Noise(own, device),
            reference.shape(texts),
            static=reference.static_fields(texts, device),
            choose=group,
        )
        rewards = scores(trajectory.x_0)
        group.finish(rewards)
        rows = self._chosen(group.log_weights, rewards, seeds)
        x_0 = take(trajectory.x_0, rows + torch.arange(len(conditions)) * self.particles)
        return Steered(
            x_0,
            trajectory.x_0,
            rewards,
            group.log_weights,
            group.log_normaliser,
            group.resampled,
            trajectory.evaluations * self.particles,
            (group.looks + 1) * self.particles,
        )

    def _chosen(self, log_weights: Tensor, rewards: Tensor, seeds: Tensor) -> Tensor:
        """Which particle is the sample of its group, ``(groups,)``; the first where none can be judged."""
        if self.choose == "best":
            return torch.where(rewards.isfinite(), rewards, -torch.inf).argmax(1)
        uniform = Noise(derived_seeds(seeds, "the sample of a group"), dtype=torch.float64).uniform(1)
        cumulative = _usable(log_weights).softmax(1).cumsum(1)
        found = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
        return found.squeeze(1).clamp_max(log_weights.shape[1] - 1)


class _Groups:
    """Groups of particles on their way: what chooses among the trajectories of a batch (`processes.resampled`)."""

    def __init__(
        self, steering: Steering, reference: Reference, scores: Callable[[StateLike], Tensor], seeds: Tensor
    ) -> None:
        count = len(seeds), steering.particles
        self.steering, self.process, self.scores = steering, reference.process, scores
        self.potentials = Potentials(steering.potential, steering.temperature, *count)
        self.log_weights = torch.zeros(count, dtype=torch.float64)
        self.log_normaliser = torch.zeros(len(seeds), dtype=torch.float64)
        self.resampled = torch.zeros(len(seeds), dtype=torch.int64)
        self.looks, self._steps = 0, 0
        self._uniform = Noise(derived_seeds(seeds, "resampling"), dtype=torch.float64)

    def __call__(self, x: State, t: float, predicted: Callable[[], Fields]) -> Tensor | None:
        number, self._steps = self._steps, self._steps + 1
        if number == 0 or number % self.steering.every:
            return None
        self.looks += 1
        found = predicted()
        data = {name: path.data_of(found[name], x.get(MASK)) for name, path in self.process.paths.items()}
        self.log_weights = self.log_weights + self.potentials.on_the_way(self.scores(bare({**x, **data})))
        uniform = self._uniform.uniform(1)  # of every group, so that one's number does not hang on another's weights
        few = effective(self.log_weights) < self.steering.threshold * self.steering.particles
        if not few.any():
            return None
        here = torch.arange(self.steering.particles).expand_as(self.log_weights)
        rows = torch.where(few[:, None], systematic(self.log_weights, uniform), here)
        self._weigh(few)
        self.potentials.chosen(rows)
        self.resampled = self.resampled + few
        whole = rows + torch.arange(len(rows))[:, None] * self.steering.particles
        return whole.flatten().to(next(iter(x.values())).device)

    def finish(self, rewards: Tensor) -> None:
        """Weighs the finished particles."""
        self.log_weights = self.log_weights + self.potentials.at_the_end(rewards)
        self.log_normaliser = self.log_normaliser + _log_mean(self.log_weights)
        self.log_weights = _usable(self.log_weights)

    def _weigh(self, few: Tensor) -> None:
        """Takes the weights of groups that are resampled into their normalisers, and makes them even."""
        self.log_normaliser = torch.where(few, self.log_normaliser + _log_mean(self.log_weights), self.log_normaliser)
        self.log_weights = torch.where(few[:, None], 0.0, self.log_weights)


def _log_mean(log_weights: Tensor) -> Tensor:
    return log_weights.logsumexp(1) - torch.tensor(float(log_weights.shape[1])).log()


def _usable(log_weights: Tensor) -> Tensor:
    """The weights; even ones of a group of which nothing can be judged."""
    return torch.where((log_weights > -torch.inf).any(1, keepdim=True), log_weights, 0.0)


def _joined(parts: Sequence[Steered]) -> Steered:
    tensors = {
        name: torch.cat([getattr(part, name) for part in parts])
        for name in ("rewards", "log_weights", "log_normaliser", "resampled")
    }
    return Steered(
        concatenate([part.x_0 for part in parts]),
        concatenate([part.particles for part in parts]),
        **tensors,
        evaluations=parts[0].evaluations,
        reward_calls=parts[0].reward_calls,
    )


_TOLD: set[str] = set()


def _warn_of_copies(sampler: Sampler) -> None:
    name = type(sampler).__name__
    if name not in _TOLD:
        _TOLD.add(name)
        log.warning(
            "steering with %s, which draws nothing on the way: copies of a particle stay the same, and only as many "
            "samples as there are particles are chosen among; DDPM, or DDIM with eta=1, lets them part, of flows too",
            name,
        )
