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


def together(shards_of, world, dynamic=True, in_step=False, slowly=lambda made: None):
    """What each of several processes, here threads, has made.

    Args:
        shards_of: what each of them finds missing.
        world: how many there are.
        dynamic: with a counter.
        in_step: see `work_through`.
        slowly: how process 0 spends its time on a shard, given what all have made.
    """
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
            if rank == 0:
                slowly(made)
            made[rank].append(shard.index)

        counted[rank] = work_through(shards_of(rank), work, lambda shard: made[rank].append(-1), "x", ranks, in_step)

    counted = [0] * world
    threads = [threading.Thread(target=process, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counted == [3 * sum(i >= 0 for i in found) for found in made]
    return made


@pytest.mark.parametrize("dynamic", [True, False])
def test_every_shard_is_made_once(dynamic):
    made = together(lambda rank: SHARDS, 3, dynamic)
    assert sorted(itertools.chain(*made)) == [shard.index for shard in SHARDS]


def test_a_slow_process_makes_fewer():
    """Four times as slow, it makes a fifth; shared out beforehand, all would wait for its half."""

    def as_four_of_the_other(made):
        while len(made[1]) < min(4 * (len(made[0]) + 1), len(SHARDS) - len(made[0]) - 1):
            time.sleep(0.001)

    slow, fast = together(lambda rank: SHARDS, 2, slowly=as_four_of_the_other)
    assert len(slow) <= len(SHARDS) // 5 + 1
    assert len(slow) + len(fast) == len(SHARDS)
    slow, _ = together(lambda rank: SHARDS, 2, dynamic=False)
    assert len(slow) == 12


def test_all_work_on_what_process_0_found_missing():
    """One that looks later finds less: its places would be those of other shards."""
    made = together(lambda rank: SHARDS[5 * rank :], 3)
    assert Counter(itertools.chain(*made)) == Counter(range(len(SHARDS)))


def test_nothing_missing_makes_no_counter():
    def none():
        raise AssertionError("a counter was made")

    assert work_through([], print, print, "x", Ranks(0, 2, counter=none)) == 0


def test_in_step_all_call_equally_often():
    made = together(lambda rank: SHARDS[:3], 2, in_step=True)
    assert [len(found) for found in made] == [2, 2]
    assert made[1] == [1, -1]
    assert made[0] == [shard.index for shard in share(SHARDS[:3], 0, 2)]
