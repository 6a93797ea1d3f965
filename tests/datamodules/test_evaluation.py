import pytest
import torch

from graft_lightning.datamodules.evaluation import DrawLoader, HeldOutConditions, draws_of
from graft_lightning.domains.base import Texts
from graft_lightning.types import Draws


def test_every_condition_is_drawn_equally_often_with_seeds_of_its_own():
    draws = draws_of(Texts(["a", "b"]), 3, seed=0, purpose="test")
    assert draws.conditions == ["a", "a", "a", "b", "b", "b"]
    assert draws.draw.tolist() == [0, 1, 2, 0, 1, 2]
    other = draws_of(Texts(["a", "b"]), 3, 0, "validation"), draws_of(Texts(["a", "b"]), 3, 1, "test")
    seeds = torch.cat([draws.seeds, *(d.seeds for d in other)])
    assert len(seeds.unique()) == len(seeds)
    fewer = draws_of(Texts(["b"]), 2, 0, "test")
    assert torch.equal(fewer.seeds, draws.seeds[3:5])  # neither the list nor the number of draws matters


def test_a_condition_that_is_named_twice_counts_once():
    assert draws_of(Texts(["b", "a", "b"]), 2, 0, "test").conditions == ["b", "b", "a", "a"]


def made(count: int) -> Draws:
    return Draws([str(i) for i in range(count)], torch.zeros(count, dtype=torch.int64), torch.arange(count))


@pytest.mark.parametrize(("count", "size"), [(1, 4), (3, 4), (8, 4), (9, 4), (13, 1), (208, 256), (600, 256)])
@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_processes_take_equally_many_batches_and_each_sample_once(count, size, world):
    loaders = [DrawLoader(lambda: made(count), size, rank, world) for rank in range(world)]
    batches = [list(loader) for loader in loaders]
    assert [len(part) for part in batches] == [len(loader) for loader in loaders]
    assert len({len(part) for part in batches}) == 1
    assert all(0 < len(batch.conditions) <= size for part in batches for batch in part)
    counted = [
        s for part in batches for batch in part for s, d in zip(batch.seeds.tolist(), batch.draw, strict=True) if d >= 0
    ]
    assert sorted(counted) == list(range(count))


def test_loaders_fall_back_from_prediction_to_test_to_validation():
    first, second = Texts(["a"]), Texts(["b"])
    data = HeldOutConditions(validation=first, seed=0)
    assert (data.test, data.predict) == (first, first)
    data = HeldOutConditions(validation=first, test=second, seed=0)
    assert (data.test, data.predict) == (second, second)
    assert HeldOutConditions(seed=0).val_dataloader() == []


def test_the_seed_is_that_of_the_run(monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "11")
    assert HeldOutConditions().seed == 11
    assert HeldOutConditions(seed=2).seed == 2


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("draws", [1, 3, 4])
def test_the_draws_of_a_condition_stay_together(world, draws):
    every = draws_of(Texts(list("abcdefg")), draws, 0, "test")
    batches = [b for r in range(world) for b in DrawLoader(lambda: every, 8, r, world, draws)]
    counted = [b for b in batches if (b.draw >= 0).all()]
    assert all(len(b.conditions) <= 8 for b in counted)
    assert sorted(t for b in counted for t in set(b.conditions)) == list("abcdefg")  # each in one batch alone
    assert sum(len(b.conditions) for b in counted) == 7 * draws


def test_more_draws_than_a_batch_holds_are_cut():
    every = draws_of(Texts(["a", "b"]), 5, 0, "test")
    assert [len(b.conditions) for b in DrawLoader(lambda: every, 4, group=5)] == [3, 3, 4]
