"""What flows along the pipeline: states and the named results that the layers pass to each other.

A *state* is a tensor ``(batch, *shape)``, or a ``TensorDict`` with one entry per field of a mixed process (molecules:
positions, types). The method is written once for both, with `map_state`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

State = Tensor | TensorDictBase
"""``(batch, *shape)``, or a TensorDict of such fields."""


class SettingsError(ValueError):
    """Settings that contradict each other; the message names the key, the value and what would be right."""


@dataclass(frozen=True)
class Trajectory:
    """A batch of sampled trajectories.

    Attributes:
        x_0: the finished states, ``(batch, *shape)``.
        states: kept intermediate states by their noise level t.
        evaluations: calls of the denoiser per trajectory.
    """

    x_0: State
    states: dict[float, State]
    evaluations: int


@dataclass(frozen=True)
class Batch:
    """A batch of training examples.

    Attributes:
        x: states at the level where training starts: x_s, or x_0 (``(batch, *shape)``).
        conditions: the condition of each example, as text.
        seeds: int64 ``(batch,)``; the noise of an example is drawn from its own seed.
        weight: float ``(batch,)``; 1, or under soft acceptance the probability over its mean in the condition.
    """

    x: State
    conditions: list[str]
    seeds: Tensor
    weight: Tensor

    def to(self, device: Any, non_blocking: bool = False) -> "Batch":
        """The same batch on ``device`` (seeds stay where generators live: on the CPU)."""
        return Batch(self.x.to(device), self.conditions, self.seeds, self.weight.to(device))


@dataclass(frozen=True)
class Draws:
    """Samples to be drawn: the conditions, which draw of its condition each one is, and its seed (``(batch,)``).

    The draw number -1 marks a sample that only keeps processes in step, and is not counted.
    """

    conditions: list[str]
    draw: Tensor
    seeds: Tensor

    def to(self, device: Any, non_blocking: bool = False) -> "Draws":
        """Unchanged: seeds live on the CPU, where the generators are."""
        return self


def map_state(function: Callable[..., Tensor], *states: State) -> State:
    """``function`` applied to a tensor, or field by field to TensorDicts with the same fields."""
    first = states[0]
    if isinstance(first, Tensor):
        return function(*states)
    return TensorDict(
        {name: function(*(state[name] for state in states)) for name in first.keys()},  # noqa: SIM118
        batch_size=first.batch_size,
    )


def field_of(state: State, name: str | None) -> Tensor:
    """A field of a mixed state, or the tensor itself where ``name`` is None."""
    field = state if name is None else state[name]  # type: ignore[index]
    assert isinstance(field, Tensor)
    return field


def mask_of(state: State) -> Tensor | None:
    """Which elements of a state are real, bool ``(batch, n)``; None where all are."""
    return None if isinstance(state, Tensor) or "mask" not in state.keys() else state["mask"]  # noqa: SIM118


def level_of(t: Tensor, field: int) -> Tensor:
    """The level ``(batch,)`` of a field, by its place in the process, from ``(batch,)`` or ``(batch, fields)``."""
    return t if t.ndim == 1 else t[:, field]


def batch_of(state: State) -> int:
    """The number of samples in a state."""
    return state.shape[0]


def concatenate(states: list[State]) -> State:
    """States joined along the batch."""
    return torch.cat(states, 0)


def broadcast(values: Tensor, like: Tensor) -> Tensor:
    """``(batch,)`` values with as many trailing axes as ``like``, so that they multiply it sample by sample."""
    return values.reshape(values.shape + (1,) * (like.ndim - values.ndim))
