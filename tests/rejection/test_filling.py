"""Shards are taken as processes come to them: each is made once, and a slow process keeps nobody waiting."""

import itertools
import threading
import time
from collections import Counter

import pytest

from graft_lightning.rejection.filling import share, work_through
from graft_lightning.rejection.pool import Shard
from graft_lightning.rejection.ranks import Ranks

SHARDS = [Shard(i, 3 * i, 3 * i + 3) for i in range(24)]


def together(shards_of, seconds, dynamic=True, in_step=False):
    """What each of several processes, here threads, has made, and when the last had finished.

    Args:
        shards_of: what each of them finds missing.
        seconds: that each takes for a shard.
        dynamic: with a counter.
        in_step: see `work_through`.
    """
    world = len(seconds)
    made: list[list[int]] = [[] for _ in range(world)]
    counter, lock = itertools.count(), threading.Lock()
    told, heard = [], threading.Barrier(world)

    def broadcast(rank, value):
        if rank == 0:
            told.append(value)
        heard.wait()
        return told[-1]

    def following():
        with lock:
            return next(counter)

    def process(rank):
        ranks = Ranks(
            rank, world, lambda value: broadcast(rank, value), counter=(lambda: following) if dynamic else None
        )

        def work(shard):
            time.sleep(seconds[rank])
            made[rank].append(shard.index)

        counted[rank] = work_through(shards_of(rank), work, lambda shard: made[rank].append(-1), "x", ranks, in_step)

    counted = [0] * world
    threads = [threading.Thread(target=process, args=(rank,)) for rank in range(world)]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted == [3 * sum(i >= 0 for i in found) for found in made]
    return made, time.monotonic() - start


@pytest.mark.parametrize("dynamic", [True, False])
def test_every_shard_is_made_once(dynamic):
    made, _ = together(lambda rank: SHARDS, [0.0, 0.0, 0.0], dynamic)
    assert sorted(itertools.chain(*made)) == [shard.index for shard in SHARDS]


def test_a_slow_process_makes_fewer():
    """Four times as slow, it makes a fifth; shared out beforehand, all would wait for its half."""
    made, seconds = together(lambda rank: SHARDS, [0.04, 0.01])
    assert 3 <= len(made[0]) <= 8
    assert len(made[0]) + len(made[1]) == len(SHARDS)
    assert seconds < 12 * 0.04
    fixed, _ = together(lambda rank: SHARDS, [0.04, 0.01], dynamic=False)
    assert len(fixed[0]) == 12


def test_all_work_on_what_process_0_found_missing():
    """One that looks later finds less: its places would be those of other shards."""
    made, _ = together(lambda rank: SHARDS[5 * rank :], [0.0, 0.0, 0.0])
    assert Counter(itertools.chain(*made)) == Counter(range(len(SHARDS)))


def test_nothing_missing_makes_no_counter():
    def none():
        raise AssertionError("a counter was made")

    assert work_through([], print, print, "x", Ranks(0, 2, counter=none)) == 0


def test_in_step_all_call_equally_often():
    made, _ = together(lambda rank: SHARDS[:3], [0.0, 0.0], in_step=True)
    assert [len(found) for found in made] == [2, 2]
    assert made[1] == [1, -1]
    assert made[0] == [shard.index for shard in share(SHARDS[:3], 0, 2)]
