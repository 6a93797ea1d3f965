"""Noise: a trajectory's randomness is its own."""

import pytest
import torch

from graft_lightning.processes.noise import (
    Noise,
    derived_seeds,
    hashed_seed,
    trajectory_seed,
    trajectory_seeds,
)


def test_rows_do_not_depend_on_the_batch():
    seeds = torch.arange(6) + 2**40
    whole = Noise(seeds)
    parts = [Noise(seeds[torch.tensor(part)]) for part in ([4, 0], [5], [2, 1, 3])]
    for _ in range(20):  # more than two blocks of the stream
        expected, uniform = whole.normal(2, 3), whole.uniform(4)
        for part, noise in zip(([4, 0], [5], [2, 1, 3]), parts, strict=True):
            assert torch.equal(noise.normal(2, 3), expected[torch.tensor(part)])
            assert torch.equal(noise.uniform(4), uniform[torch.tensor(part)])


def test_numbers_follow_their_law():
    noise = Noise(torch.arange(3000))
    normal = torch.stack([noise.normal(4) for _ in range(10)])
    uniform = torch.stack([noise.uniform() for _ in range(40)])
    count = normal.numel()
    assert abs(normal.mean()) < 5 / count**0.5
    assert abs(normal.var() - 1) < 5 * (2 / count) ** 0.5
    assert abs(uniform.mean() - 0.5) < 5 * (1 / 12 / count) ** 0.5
    assert uniform.min() >= 0
    assert uniform.max() < 1
    steps = normal.flatten(1)  # successive draws, and successive seeds, are independent
    assert abs((steps[0] * steps[1]).mean()) < 5 / steps.shape[1] ** 0.5
    assert abs((normal[:, 1:] * normal[:, :-1]).mean()) < 5 / count**0.5


def test_dtype_is_the_one_asked_for():
    assert Noise(torch.arange(2), dtype=torch.float64).normal(3).dtype == torch.float64
    assert Noise(torch.arange(2)).uniform().dtype == torch.float32


def test_seeds_depend_on_every_part():
    base = trajectory_seed(1, 0, "a", 0)
    others = [trajectory_seed(*parts) for parts in ((2, 0, "a", 0), (1, 1, "a", 0), (1, 0, "b", 0), (1, 0, "a", 1))]
    assert len({base, *others}) == 5
    assert all(0 <= seed < 2**63 for seed in (base, *others))
    assert trajectory_seeds(1, 0, ["a", "b"], [0, 0]).tolist() == [base, others[2]]
    # pinned: a changed hash would make every stored pool a foreign one
    assert hashed_seed("trajectory", 1, 0, "a") == base == trajectory_seed(1, 0, "a", 1) - 1


def test_draws_of_a_condition_never_share_the_bits_that_a_generator_reads():
    low = {trajectory_seed(3, 0, "a seven", draw) % 2**32 for draw in range(5000)}
    assert len(low) == 5000


def test_parts_are_kept_apart():
    assert hashed_seed("a", "bc") != hashed_seed("ab", "c")


def test_derived_streams_differ_from_their_origin():
    seeds = trajectory_seeds(0, 0, ["x"] * 3, range(3))
    decision, other = derived_seeds(seeds, "decision"), derived_seeds(seeds, "other")
    assert decision.dtype == torch.int64
    assert len({*seeds.tolist(), *decision.tolist(), *other.tolist()}) == 9
    assert torch.equal(decision[1:], derived_seeds(seeds[1:], "decision"))


def test_unequal_lists_are_refused():
    with pytest.raises(ValueError, match=r"shorter|longer"):
        trajectory_seeds(0, 0, ["a", "b"], [0])
