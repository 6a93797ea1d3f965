"""Pools that are grown by real processes, and killed in it, are those that are drawn at once."""

import os
import signal

import pytest
import torch

from graft_lightning.cli.main import main
from graft_lightning.rejection.acceptance import TopK
from graft_lightning.rejection.pool import TrajectoryPool
from graft_lightning.rejection.pool.round import Round
from graft_lightning.rejection.selection import select
from tests.runs import HELD_OUT, PROMPTS, arguments, tiny_config

TEXTS = [*PROMPTS, *HELD_OUT]
SMALL, LARGE, BETWEEN = (4, 3), (7, 8), (5, 6)
"""Conditions and draws."""
TWO = {"trainer.devices": 2, "trainer.strategy": "ddp_fork"}


def collect(folder, size, batch_size, processes=1):
    conditions, draws = size
    changes = {
        "data.conditions.values": TEXTS[:conditions],
        "data.acceptance.k": 1,
        "collect.draws": draws,
        "collect.batch_size": batch_size,
        **(TWO if processes == 2 else {}),
    }
    main(arguments("collect", folder, tiny_config(folder, changes)))


def grow_until_killed(folder, batch_size, processes, writes):
    """Grows a pool in processes of their own, all of which are killed after so many shards of one of them."""
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            write, written = Round.write, []

            def write_and_die(self, shard, data):
                write(self, shard, data)
                written.append(shard)
                if len(written) == writes:
                    os.killpg(0, signal.SIGKILL)

            Round.write = write_and_die
            collect(folder, LARGE, batch_size, processes)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "it was not killed"
    assert os.WTERMSIG(status) == signal.SIGKILL


def read(folder, size):
    conditions, draws = size
    return TrajectoryPool.open(folder / "pool").round(0, TEXTS[:conditions], draws)


@pytest.fixture(scope="module")
def direct(tmp_path_factory):
    """Pools that are drawn at once, by size and batch size."""
    made = {}

    def of(size, batch_size):
        if (size, batch_size) not in made:
            folder = made[size, batch_size] = tmp_path_factory.mktemp("direct")
            collect(folder, size, batch_size)
        return read(made[size, batch_size], size)

    return of


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("processes", "batch_size"), [(2, 1), pytest.param(2, 5, marks=SLOW), pytest.param(1, 1, marks=SLOW)]
)
def test_a_pool_that_was_killed_in_growing_is_the_one_that_is_drawn_at_once(
    tmp_path, direct, processes, batch_size, capfd
):
    collect(tmp_path, SMALL, batch_size, processes)
    grow_until_killed(tmp_path, batch_size, processes, writes=3)
    there = TrajectoryPool.open(tmp_path / "pool").statistics()["trajectories"]
    assert 12 + 3 * batch_size <= there < 7 * 8
    assert there % batch_size == 12 % batch_size, "whole shards alone"
    collect(tmp_path, LARGE, batch_size, processes)
    told = capfd.readouterr().out
    assert f"newly drawn: {7 * 8 - there}\n" in told
    collect(tmp_path, BETWEEN, batch_size, processes)
    assert "newly drawn: 0\n" in capfd.readouterr().out
    for size in (LARGE, BETWEEN):
        grown, at_once = read(tmp_path, size), direct(size, batch_size)
        for name in ("condition", "draw", "seed", "key"):
            assert torch.equal(grown.column(name), at_once.column(name)), name
        tolerance = 0 if batch_size == 1 else 1e-5
        for name in at_once.fields:
            torch.testing.assert_close(
                grown.column(name), at_once.column(name), rtol=0, atol=tolerance, msg=f"{name} of {size}"
            )
        torch.testing.assert_close(grown.rewards("Ink"), at_once.rewards("Ink"), rtol=0, atol=tolerance)
        chosen = [
            select(one.rewards("Ink"), one.column("key"), one.column("seed"), TopK(2)).accepted
            for one in (grown, at_once)
        ]
        assert torch.equal(*chosen)
