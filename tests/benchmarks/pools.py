"""What the pool costs: a batch read, two processes filling it against one, decoding beside judging."""

import io
import multiprocessing
import statistics
import time
from collections.abc import Sequence
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graft_lightning.datamodules.accepted import AcceptedTrajectories
from graft_lightning.domains.base import Texts
from graft_lightning.domains.digits import DigitPrompts, DigitReference
from graft_lightning.processes.samplers import DDPM
from graft_lightning.rejection.acceptance import TopK
from graft_lightning.rejection.collection import Collection
from graft_lightning.rejection.pool import Round
from graft_lightning.rejection.ranks import ALONE, Ranks
from graft_lightning.rejection.reference import FrozenDenoiser, Reference
from graft_lightning.rejection.reward import Reward
from tests.benchmarks.free import Case
from tests.benchmarks.measure import seconds

CONDITIONS, DRAWS, READS = 4, 16, 25


class Random(Reward):
    """A reward that takes as long as it is told to, asleep, as one on another device or machine is waited for."""

    def __init__(self, wait: float = 0.0) -> None:
        self._wait = wait

    @property
    def apart(self) -> bool:
        return self._wait > 0

    def __call__(self, samples: Any, conditions: Sequence[str]) -> Tensor:
        time.sleep(self._wait * len(conditions))
        return torch.rand(len(conditions), generator=torch.Generator().manual_seed(0))


def filled(case: Case, folder: Path) -> AcceptedTrajectories:
    """Accepted trajectories of a free network: 64 are drawn, a quarter is accepted."""
    reference = case.reference(8)
    texts = [f"condition {n}" for n in range(CONDITIONS)]
    collection = Collection(reference, [Random()], folder / "pool", texts, DRAWS, [0.25])
    opened = _filled(collection, FrozenDenoiser(reference, reference.build()))
    acceptance = TopK(DRAWS // 4)
    data = AcceptedTrajectories(Texts(texts), acceptance, str(folder / "pool"), case.batch, 100, seed=0)
    data.use(opened, "Random", next(iter(opened.kept_levels)))
    return data


def read_milliseconds(data: AcceptedTrajectories) -> float:
    """Of a batch, from the file system's cache: the median, wall time, after a first one."""
    size = data.batch_size
    times = [seconds(partial(data.read, range(size * i, size * (i + 1))), time.perf_counter) for i in range(READS + 1)]
    return statistics.median(times[1:]) * 1e3


def overlap(folder: Path, samples: int = 128, each: float = 0.01) -> float:
    """How many seconds of decoding and judging pass in one: 1 is one after the other, 2 both at once.

    Args:
        folder: of the pool.
        samples: that are judged.
        each: seconds that decoding and judging of one take; both sleep, as if each had a device of its own.
    """

    class Slow(DigitReference):
        def decode(self, x_0: Tensor) -> Tensor:
            time.sleep(each * len(x_0))
            return super().decode(x_0)

    reference = Slow(sampler=DDPM(2, clip_sample=1.0), network={"width": 32, "depth": 1})
    texts = ["two ones", "two eights"]
    network = reference.build(pretrained=False)
    collection = Collection(reference, [Random(each)], folder, texts, samples // 2, batch_size=8)
    drawing = Collection(reference, [], folder, texts, samples // 2, batch_size=8)
    _filled(drawing, FrozenDenoiser(reference, network))
    took = seconds(lambda: _filled(collection, FrozenDenoiser(reference, network)), time.perf_counter)
    return 2 * samples * each / took


def efficiency(folder: Path, draws: int = 24) -> float:
    """Two single-threaded processes against one, filling the pool of digits: 1 is half the time."""
    alone, both = (
        statistics.median(_filling(folder / f"{world}-{n}", world, draws) for n in range(3)) for world in (1, 2)
    )
    return alone / (2 * both)


def _filling(folder: Path, world: int, draws: int) -> float:
    """Seconds from when all processes are ready until the round is full."""
    reference = DigitReference(sampler=DDPM(20, clip_sample=1.0))
    collection = Collection(reference, [Random()], folder, DigitPrompts("train", 16).texts(), draws, batch_size=16)
    collection.open({})
    context = multiprocessing.get_context("fork")
    barrier, queue = context.Barrier(world), context.SimpleQueue()
    arguments = (collection, reference, world, barrier, queue)
    processes = [context.Process(target=_fill, args=(rank, *arguments)) for rank in range(world)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return max(queue.get() for _ in processes)


def _fill(rank: int, collection: Collection, reference: Reference, world: int, barrier: Any, queue: Any) -> None:
    torch.set_num_threads(1)
    denoiser = FrozenDenoiser(reference, reference.build(pretrained=False))
    ranks = ALONE if world == 1 else Ranks(rank, world, lambda value: value, barrier.wait)
    barrier.wait()
    queue.put(seconds(lambda: _filled(collection, denoiser, ranks), time.perf_counter))


def _filled(collection: Collection, denoiser: FrozenDenoiser, ranks: Ranks = ALONE) -> Round:
    """Fills a round, without its bars."""
    with redirect_stderr(io.StringIO()):
        return collection.fill(denoiser, {}, ranks=ranks).round
