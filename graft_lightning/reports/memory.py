"""The memory of a run: weights, gradients, optimiser states and activations, counted before anything runs.

Everything but activations follows from shapes, so that a network without weights (on torch's meta device) is enough.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from graft_lightning.allocator import freed_at_once, give_back_freed_memory
from graft_lightning.modules.denoising import DenoisingModule
from graft_lightning.processes.process import Shape
from graft_lightning.rejection.reference import Views, adapter_layers

TYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16", torch.float64: "fp64"}


@dataclass(frozen=True)
class Memory:
    """Bytes in training, of one process that holds everything (sharding divides all but ``original``).

    Attributes:
        dtype: of most of the reference's weights.
        original: weights of the reference.
        trained: weights that are trained and are not the reference's own: a copy of the network, or adapters.
        gradients: one a trained parameter.
        optimiser: its states after the first step; None if it cannot be tried without weights.
        average: the moving average of the trained weights, 0 without one.
        adapters: whether what is trained are adapters.
        checkpoint: one checkpoint on disk; None like ``optimiser``.
        flow: weights of the frozen flow that a corrector stands before, 0 without one.
    """

    dtype: str
    original: int
    trained: int
    gradients: int
    optimiser: int | None
    average: int
    adapters: bool
    checkpoint: int | None
    flow: int = 0

    @property
    def resident(self) -> int:
        """What stays on the device in training, without activations."""
        return self.flow + self.original + self.trained + self.gradients + (self.optimiser or 0) + self.average


def memory_of(module: DenoisingModule, views: Views, averaged: bool) -> Memory:
    """Counts a module's memory.

    Args:
        module: gives the optimiser.
        views: of its reference; on the meta device if weights are absent.
        averaged: whether a moving average of the trained weights is kept.
    """
    original = list(views.original.parameters())
    shared = {id(p) for p in original} if views.original is not views.network else set()
    everything = [p for p in views.network.parameters() if id(p) not in shared]
    trained = [p for p in everything if p.requires_grad]
    one_copy = views.original is views.network
    adapters = bool(adapter_layers(views.network))
    frozen = [p for p in original if not p.requires_grad] if adapters else original
    states = optimiser_bytes(module.optimizer, trained)
    weights = size_of(trained)
    average = weights if averaged else 0
    saved = weights if adapters else size_of(everything)
    return Memory(
        dtype=_commonest(p.dtype for p in original),
        original=size_of(frozen),
        trained=weights if adapters or not one_copy else 0,
        gradients=weights,
        optimiser=states,
        average=average,
        adapters=adapters,
        checkpoint=None if states is None else saved + states + average,
        flow=sum(
            size_of(stage.reference.meta_network().parameters()) for stage in module.stages() if not stage.trained
        ),
    )


def elements_of(shape: Shape | Mapping[str, Shape]) -> int:
    """Numbers in one state, all of its fields together."""
    return sum(math.prod(one) for one in (shape.values() if isinstance(shape, Mapping) else [shape]))


def size_of(tensors: Iterable[Tensor]) -> int:
    """Bytes of tensors."""
    return sum(t.numel() * t.element_size() for t in tensors)


def optimiser_bytes(make: Callable[[Any], torch.optim.Optimizer], parameters: Sequence[Tensor]) -> int | None:
    """Bytes of the states that an optimiser keeps, found by one step on parameters without storage.

    Args:
        make: makes the optimiser from parameters.
        parameters: gives shapes and types.

    Returns:
        Bytes, without single numbers such as step counts; None if the optimiser cannot step without storage.
    """
    stand_ins = [nn.Parameter(torch.empty_like(p, device="meta")) for p in parameters]
    for stand_in in stand_ins:
        stand_in.grad = torch.empty_like(stand_in)
    try:
        optimiser = make(stand_ins)
        optimiser.step()
    except (RuntimeError, NotImplementedError):
        return None
    held = [value for state in optimiser.state.values() for value in state.values() if isinstance(value, Tensor)]
    return size_of(value for value in held if value.numel() > 1)


def saved_bytes(work: Callable[[], Any], own: Iterable[Tensor]) -> int:
    """Bytes that ``work`` keeps for its backward pass, each storage once.

    Args:
        work: a forward pass, with or without its backward pass.
        own: tensors that are there anyway: parameters and buffers.
    """
    known = {_storage(tensor) for tensor in own}
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in known:
            kept[_storage(tensor)] = tensor.untyped_storage()  # held, so that its place is not given to another
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        work()
    return sum(storage.nbytes() for storage in kept.values())


def activation_bytes(work: Callable[[int], Any], own: Sequence[Tensor], batch_size: int) -> tuple[int, int]:
    """Bytes of activations of a training step, measured on one and on two examples.

    Args:
        work: a training step of so many examples.
        own: parameters and buffers.
        batch_size: of the step that is asked for.

    Returns:
        Bytes of ``batch_size`` examples, and of each further one.
    """
    give_back_freed_memory()
    with freed_at_once():
        one, two = (saved_bytes(lambda: work(1), own), saved_bytes(lambda: work(2), own))
    each = max(two - one, 0)
    return one + each * (batch_size - 1), each


def recomputes(network: nn.Module) -> bool:
    """Whether a network recomputes activations in its backward pass."""
    return any(getattr(module, "gradient_checkpointing", False) for module in network.modules())


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _commonest(types: Iterable[torch.dtype]) -> str:
    counted = Counter(types)
    return TYPES.get(counted.most_common(1)[0][0], "") if counted else ""
