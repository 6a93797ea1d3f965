"""What a module is made of, as it says itself: plans, costs and reports add up and need not know its class."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from graft_lightning.processes.denoiser import Denoiser
from graft_lightning.rejection.reference import Reference


@dataclass(frozen=True)
class Stage:
    """One network that a sample goes through; the stages of a module stand in their order.

    Attributes:
        name: "network", "corrector", "flow": what a plan calls it.
        reference: whose network it is.
        calls: evaluations of it in one sample of the model under training.
        base_calls: the same in one sample of the base, 0 where the base goes without.
        frozen: gives the frozen view of it, once the networks are built.
        trained: whether it is what training changes.
        beside_training: evaluations without gradient that every training example takes too.
    """

    name: str
    reference: Reference
    calls: int
    base_calls: int
    frozen: Callable[[], Denoiser]
    trained: bool = False
    beside_training: int = 0


def visited(reference: Reference, boundaries: Sequence[float] = ()) -> list[tuple[float, int]]:
    """Level and number of evaluations of every step of the sampler; two-stage steps that end at a boundary have one."""
    sampler = reference.sampler
    grid = sampler.levels(reference.process)
    descent = sorted({*grid, *(t for t in boundaries if t < grid[-1])}, reverse=True)
    ends = {descent[-1], *boundaries}
    return [(t, sampler.evaluations(t_next not in ends)) for t, t_next in pairwise(descent)]


def halves(reference: Reference) -> int:
    """Evaluations in one call of the guided reference: 2 with classifier-free guidance."""
    return 1 if reference.guidance_scale == 1 else 2


def evaluations_of(reference: Reference) -> int:
    """Network evaluations of one sample, guidance and two-stage steps counted."""
    return sum(stages for _, stages in visited(reference)) * halves(reference)
