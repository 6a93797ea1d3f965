"""The most memory that a process will hold at a time, and whether the machine has it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from graft_lightning.modules.denoising import DenoisingModule
from graft_lightning.rejection.reward import Reward
from graft_lightning.reports.memory import Memory, memory_of

STARTED = 600_000_000
"""Bytes of a process on a CPU that has imported everything and holds nothing yet; measured, with torch 2.13."""


@dataclass(frozen=True)
class Footing:
    """What a fit holds throughout, before a step is taken.

    Attributes:
        memory: of the networks that are trained, and of their reference.
        beside: bytes of encoders, decoders and rewards; on a GPU they take turns, and none stays.
        known: whether all of these could be counted.
        device: where it runs.
    """

    memory: Memory
    beside: int
    known: bool
    device: torch.device

    def peak(self, step: int = 0) -> int:
        """The most bytes, with ``step`` those of the largest piece of work: without it, what is needed at least.

        On a CPU everything is in one memory: the program, all networks, and what a step makes. A file of weights is
        mapped while it is read, so that for a moment the network is there twice.
        """
        gradients = self.memory.gradients if step else 0  # a step makes them too
        work = max(step - gradients, 0)
        if self.device.type != "cpu":
            return self.memory.resident + max(work, self.beside)
        return STARTED + max(self.memory.resident + self.beside + work, 2 * self.memory.original)

    @property
    def there(self) -> int:
        """Bytes of the device, whether in use or not."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_properties(self.device).total_memory
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def footing_of(
    module: DenoisingModule, rewards: Sequence[Reward], averaged: bool, device: torch.device
) -> Footing | None:
    """Counts what a fit holds throughout; nothing is loaded.

    Args:
        module: what is trained.
        rewards: all of the run; each loads a network of its own.
        averaged: whether a moving average of the trained weights is kept.
        device: where it runs.
    """
    views = module.views or module.meta_views()
    if views is None:
        return None
    decoder = module.decoder
    known = [decoder.beside_bytes()] if decoder.beside else []
    known += [reward.weight_bytes() for reward in rewards]
    sizes = [size or 0 for size in known]
    beside = sum(sizes) if device.type == "cpu" else max(sizes, default=0)
    return Footing(memory_of(module, views, averaged), beside, None not in known, device)
