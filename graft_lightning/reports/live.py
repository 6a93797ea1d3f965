"""How much memory a piece of work holds at a time."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from graft_lightning.allocator import freed_at_once


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors that are made and not yet given back, at most at any moment.

    Attributes:
        most: bytes beyond what was there before.
    """

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for given in tree_leaves((args, kwargs)):
            if isinstance(given, Tensor):
                self._known.add(given.untyped_storage()._cdata)  # a view of what is there is nothing new
        answer = func(*args, **(kwargs or {}))
        for made in tree_leaves(answer):
            if isinstance(made, Tensor):
                self._add(made.untyped_storage())
        return answer

    def _add(self, storage: torch.UntypedStorage) -> None:
        place = storage._cdata
        if place in self._known:
            return
        self._known.add(place)
        self._now += storage.nbytes()
        self.most = max(self.most, self._now)
        weakref.finalize(storage, self._drop, place, storage.nbytes())

    def _drop(self, place: int, size: int) -> None:
        self._known.discard(place)
        self._now -= size


def live_bytes(work: Callable[[], Any]) -> int:
    """The most bytes that ``work`` holds at any moment in tensors that it makes itself.

    Of a GPU its own allocator says so: a backward pass runs in a thread where nothing else counts.
    """
    if torch.cuda.is_initialized():
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        return torch.cuda.max_memory_allocated() - before
    with freed_at_once(), LiveBytes() as counted:
        work()
    return counted.most
