"""What flows along the pipeline: states and the named results that the layers pass to each other.

A *state* is a ``dict`` of fields, each ``(batch, *shape)``: one for every path of the process (molecules: positions,
types) and those that are carried along unchanged (a mask). Where a process has one field without a name, users see a
plain tensor, and `as_state` and `bare` are the two ways across that edge: into the process, and out of it. A ``dict``
and not a TensorDict, because a step of a sampler makes a new one: 0.2 microseconds against 3, and ``torch.compile``
takes it as it is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from graft_lightning.refusals import SettingsError as SettingsError

FIELD = "x"
"""The field of a state that users see as a plain tensor."""

MASK = "mask"
"""The field that says which elements are real, bool ``(batch, n)``; it is carried along."""

State = dict[str, Tensor]
"""What processes, samplers and objectives work on: fields ``(batch, *shape)`` by name."""

StateLike = Tensor | Mapping[str, Tensor]
"""What users give and get: ``(batch, *shape)``, or a mapping of such fields."""


@dataclass(frozen=True)
class Trajectory:
    """A batch of sampled trajectories.

    Attributes:
        x_0: the finished states, ``(batch, *shape)``.
        states: kept intermediate states by their noise level t.
        evaluations: calls of the denoiser per trajectory.
    """

    x_0: Any
    states: dict[float, Any]
    evaluations: int


@dataclass(frozen=True)
class Batch:
    """A batch of training examples.

    Attributes:
        x: states at the level where training starts: x_s, or x_0 (``(batch, *shape)``, or by field).
        conditions: the condition of each example, as text.
        seeds: int64 ``(batch,)``; the noise of an example is drawn from its own seed.
        weight: float ``(batch,)``; 1, or under soft acceptance the probability over its mean in the condition.
    """

    x: Any
    conditions: list[str]
    seeds: Tensor
    weight: Tensor

    def to(self, device: Any, non_blocking: bool = False) -> "Batch":
        """The same batch on ``device``; its seeds stay on the CPU, from where `Noise` takes them.

        Args:
            device: where the model is.
            non_blocking: ignored: nothing waits for a copy to a GPU, and everything for one from there.
        """
        return self._moved(lambda tensor: sent(tensor, device), {"seeds"})

    def pinned(self) -> "Batch":
        """The same batch in memory from which a GPU copies by itself, while the program goes on."""
        return self._moved(Tensor.pin_memory, set())

    def _moved(self, move: Callable[[Tensor], Tensor], without: set[str]) -> Any:
        """The same with every tensor moved, but for the fields named."""
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in without | {"x"}}
        moved: dict[str, Any] = {name: move(value) for name, value in own.items() if isinstance(value, Tensor)}
        return replace(self, x=map_fields(move, self.x) if isinstance(self.x, Tensor | Mapping) else self.x, **moved)


@dataclass(frozen=True)
class Groups(Batch):
    """Draws of a pool in groups, one group after the other, each of one condition: accepted ones and rejected ones.

    Attributes:
        weight: what each draw counts, as an objective over groups has made it of all rewards; may be 0 or negative.
        rewards: float ``(batch,)``; not finite where a draw could not be judged.
        size: draws in a group, by which the batch is divisible.
    """

    rewards: Tensor
    size: int

    @property
    def shared_seeds(self) -> Tensor:
        """The seed of its first draw for every draw of a group: the same level and noise for all of them."""
        return self.seeds[:: self.size].repeat_interleave(self.size)

    def by_group(self, values: Tensor) -> Tensor:
        """Values ``(batch, ...)`` as ``(groups, size, ...)``."""
        return values.unflatten(0, (-1, self.size))


@dataclass(frozen=True)
class Chains(Groups):
    """Draws of a pool, one step of whose way there is trained on; ``x`` is where they ended.

    Attributes:
        seeds: of the trajectories, from which they are walked again.
        step: state index n of the step from n to n - 1.
    """

    step: int


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


def as_state(x: StateLike) -> State:
    """Into the process: the fields of what a user gave."""
    return {FIELD: x} if isinstance(x, Tensor) else {name: x[name] for name in x.keys()}  # noqa: SIM118


def bare(state: State) -> Any:
    """Out of the process: the tensor alone where it is the only field, without a name of its own; else the fields."""
    return state[FIELD] if state.keys() == {FIELD} else state


def map_fields(function: Callable[..., Tensor], *states: StateLike) -> Any:
    """``function`` of tensors, or field by field of mappings with the same fields."""
    if isinstance(states[0], Tensor):
        return function(*states)
    fields = [as_state(state) for state in states]
    return {name: function(*(state[name] for state in fields)) for name in fields[0]}


def on_device(x: Any, device: Any) -> Any:
    """The same state or samples on ``device``; what is no tensor, and holds none, stays where it is."""
    if isinstance(x, dict):
        return {name: field.to(device) for name, field in x.items()}
    return x.to(device) if hasattr(x, "to") else x


def sent(tensor: Tensor, device: Any) -> Tensor:
    """The same tensor on ``device``, to which it is on its way: what uses it there waits by itself, the host does not.

    Only from pinned memory (`Batch.pinned`) does a copy to a GPU not wait. A copy to the CPU is complete.
    """
    return tensor.to(device, non_blocking=torch.device(device).type != "cpu")


def take(x: Any, index: Any) -> Any:
    """The samples of a state, or of a batch of any kind, at ``index``: a slice, or of tensors positions or a mask."""
    return {name: field[index] for name, field in x.items()} if isinstance(x, dict) else x[index]


def batch_of(x: StateLike) -> int:
    """The number of samples in a state."""
    return len(x) if isinstance(x, Tensor) else len(next(iter(x.values())))


def device_of(x: StateLike) -> torch.device:
    """Where a state is."""
    return x.device if isinstance(x, Tensor) else next(iter(x.values())).device


def concatenate(states: Sequence[Any]) -> Any:
    """States or batches of samples joined, one after the other."""
    first = states[0]
    if isinstance(first, dict):
        return {name: torch.cat([state[name] for state in states]) for name in first}
    return [sample for state in states for sample in state] if isinstance(first, list) else torch.cat(list(states))


def broadcast(values: Tensor, like: Tensor) -> Tensor:
    """``(batch,)`` values with as many trailing axes as ``like``, so that they multiply it sample by sample."""
    return values.reshape(values.shape + (1,) * (like.ndim - values.ndim))
