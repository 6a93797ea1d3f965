"""Trajectories walked again from their seeds by the model that drew them, with all that it said on the way."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from graft_lightning.processes.denoiser import Denoiser, Fields, Level, predict
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.process import Process
from graft_lightning.processes.samplers import Sampler
from graft_lightning.processes.transitions import Transition
from graft_lightning.rejection.pool import PoolError
from graft_lightning.rejection.reference import Reference
from graft_lightning.rejection.walked_again import TOLERANCE
from graft_lightning.types import State, StateLike, as_state


class Remembered(Denoiser):
    """A model's answers on a walk: asked and kept the first time, told again afterwards.

    Args:
        inner: the model.
        answers: by the levels of the first sample.
    """

    def __init__(self, inner: Denoiser, answers: dict[Any, Any] | None = None) -> None:
        self.inner, self.answers = inner, {} if answers is None else answers
        self.output, self.boundaries, self.origin = inner.output, inner.boundaries, inner.origin

    def __call__(self, x_t: Any, t: Tensor, condition: Any) -> Any:
        key = tuple(t[:1].flatten().tolist())
        if key not in self.answers:
            self.answers[key] = self.inner(x_t, t, condition)
        return self.answers[key]

    def at(self, t: float) -> Denoiser:
        return Remembered(self.inner.at(t), self.answers)


@dataclass(frozen=True)
class Walk:
    """A batch of trajectories.

    Attributes:
        seeds: of the trajectories, by which they are known.
        condition: encoded.
        levels: of the states n = 0 .. N.
        states: by level.
        drew: the model that drew them, which answers from memory.
        by_reference: whether that was the reference.
    """

    seeds: Tensor
    condition: Any
    levels: list[float]
    states: dict[float, Any] = field(repr=False)
    drew: Denoiser = field(repr=False)
    by_reference: bool = False

    def before(self, step: int) -> State:
        """The states from which the step goes."""
        return as_state(self.states[self.levels[step]])

    def after(self, step: int) -> State:
        """The states to which it has gone."""
        return as_state(self.states[self.levels[step - 1]])


@torch.no_grad()
def walked(
    reference: Reference,
    drawing: Denoiser,
    conditions: Sequence[str],
    seeds: Tensor,
    ends: StateLike,
    by_reference: bool = False,
) -> Walk:
    """Walks trajectories again.

    Args:
        reference: gives process and sampler.
        drawing: the model that drew them.
        conditions: of each.
        seeds: of each.
        ends: where they ended the first time, ``(batch, *shape)``.
        by_reference: whether ``drawing`` is the reference.

    Raises:
        PoolError: if one ends elsewhere now.
    """
    sampler, process, device = reference.sampler, reference.process, next(iter(as_state(ends).values())).device
    condition, levels = reference.encode(conditions, device), sampler.levels(process)
    drew = Remembered(drawing)
    trajectory = sampler.sample(
        drew,
        process,
        condition,
        Noise(seeds, device),
        reference.shape(conditions),
        keep=levels,
        static=reference.static_fields(conditions, device),
    )
    for name in process.paths:
        then, now = as_state(ends)[name].double().flatten(1), as_state(trajectory.x_0)[name].double().flatten(1)
        off = (then - now).square().mean(1).sqrt() / then.square().mean().sqrt().clamp_min(1e-12)
        if wrong := int((off.nan_to_num(torch.inf) > TOLERANCE).sum()):
            raise PoolError(
                f"{wrong} of {len(seeds)} trajectories end elsewhere when they are walked again from their seeds "
                f"({name!r} by {float(off.max()):.2g} of its root mean square): samples that were imported, or drawn "
                "by another device, precision or library, have no steps to take a policy gradient of. Draw a pool "
                "here (another data.pool), or use an objective over x_0 such as NFT or RWR"
            )
    return Walk(seeds, condition, levels, trajectory.states, drew, by_reference)


def laws_of(model: Denoiser, sampler: Sampler, process: Process, walk: Walk, step: int) -> dict[str, Transition]:
    """The distribution of a step of the walk by any model, field by field; differentiable in it.

    Args:
        model: who is asked.
        sampler: of the walk.
        process: of the walk.
        walk: gives the states on both sides.
        step: state index n of the step to n - 1.
    """

    def asked(x: State, t: Level) -> Fields:
        return predict(model, process, x, t, walk.condition, sampler.clip_sample)

    t, t_next = walk.levels[step], walk.levels[step - 1]
    return sampler.transitions(process, asked, walk.before(step), walk.after(step), t, t_next)
