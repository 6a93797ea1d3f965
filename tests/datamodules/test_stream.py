from collections import Counter
from itertools import islice

import pytest
import torch

from graft_lightning.datamodules.stream import StreamLoader, noise_seeds


def positions(loader: StreamLoader) -> list[list[int]]:
    return [list(batch) for batch in loader]


def test_epochs_continue_the_stream():
    loader = StreamLoader(list, batch_size=3, steps_per_epoch=2)
    assert len(loader) == 2
    assert positions(loader) == [[0, 1, 2], [3, 4, 5]]
    assert positions(loader) == [[6, 7, 8], [9, 10, 11]]


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_out_the_positions_of_one(world):
    one = positions(StreamLoader(list, 2 * world, 4))
    several = [positions(StreamLoader(list, 2, 4, rank, world)) for rank in range(world)]
    assert [[p for part in parts for p in part] for parts in zip(*several, strict=True)] == one


@pytest.mark.parametrize("done", [0, 1, 3, 4, 5, 8])
def test_a_resumed_stream_goes_on_where_it_was(done):
    whole = StreamLoader(list, 2, steps_per_epoch=4)
    expected = [batch for _ in range(4) for batch in positions(whole)]
    first = StreamLoader(list, 2, 4)
    seen = []
    while len(seen) < done:
        seen += [list(batch) for batch in islice(first, done - len(seen))]
    second = StreamLoader(list, 2, 4)
    second.load_state_dict(first.state_dict())
    rest = positions(second)
    assert len(rest) == 4 - done % 4  # the epoch that was begun is finished, no more
    assert seen + rest + positions(second) == expected[: done + len(rest) + 4]


def test_an_epoch_that_is_cut_short_does_not_shorten_the_next():
    loader = StreamLoader(list, 1, steps_per_epoch=4)
    list(islice(loader, 3))  # as under trainer.limit_train_batches=3
    assert positions(loader) == [[3], [4], [5], [6]]


def test_every_position_has_noise_of_its_own():
    seeds = noise_seeds(3, range(2000))
    assert seeds.dtype == torch.int64
    assert (seeds >= 0).all()
    assert max(Counter(seeds.tolist()).values()) == 1
    assert torch.equal(noise_seeds(3, [7, 5]), seeds[[7, 5]])
    assert not torch.equal(noise_seeds(4, range(2000)), seeds)
