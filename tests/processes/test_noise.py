"""Noise: a trajectory's randomness is its own."""

import math

import numpy as np
import pytest
import torch

from graft_lightning.processes import noise_numpy
from graft_lightning.processes.noise import (
    Noise,
    _normal,
    _uniform,
    derived_seeds,
    hashed_seed,
    place_seeds,
    shuffled,
    trajectory_seed,
    trajectory_seeds,
)
from graft_lightning.processes.philox import rows_of_words
from graft_lightning.processes.splitmix import signed

PINNED = 2908606192388393988
"""The seed of draw 0 of \"a\" in round 0 of run 1."""


def test_rows_do_not_depend_on_the_batch():
    seeds = torch.arange(6) + 2**40
    whole = Noise(seeds)
    parts = [Noise(seeds[torch.tensor(part)]) for part in ([4, 0], [5], [2, 1, 3])]
    for _ in range(20):
        expected, uniform = whole.normal(2, 3), whole.uniform(4)
        for part, noise in zip(([4, 0], [5], [2, 1, 3]), parts, strict=True):
            assert torch.equal(noise.normal(2, 3), expected[torch.tensor(part)])
            assert torch.equal(noise.uniform(4), uniform[torch.tensor(part)])


def test_numbers_follow_their_distribution():
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
    assert (base, hashed_seed("trajectory", 1, 0, "a")) == (PINNED, 3270081820341522609)


def test_the_seed_of_a_draw_does_not_depend_on_how_many_there_are():
    few = trajectory_seeds(5, 1, ["a"] * 8 + ["b"] * 8, [*range(8)] * 2)
    many = trajectory_seeds(5, 1, ["a"] * 32 + ["b"] * 32, [*range(32)] * 2)
    assert torch.equal(few, many.view(2, 32)[:, :8].flatten())


def test_seeds_do_not_collide():
    """A million of them in 2^63 places collide with a probability of 5e-8."""
    seeds = trajectory_seeds(3, 0, ["a seven"] * 500_000, range(500_000))
    places = place_seeds("noise", 3, range(500_000))
    both = torch.cat([seeds, places, derived_seeds(seeds[:1000], "decision")])
    assert both.min() >= 0
    assert len(both.unique()) == len(both)


def test_all_bits_of_a_seed_count():
    """The generator of a trajectory once read the low half alone."""
    seeds = torch.tensor([5, 5 + 2**32, 5 + 2**62])
    rows = Noise(seeds).normal(64)
    assert len({tuple(row.tolist()) for row in rows}) == 3


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


def test_a_number_does_not_depend_on_how_many_are_asked_for():
    short, long = Noise(torch.arange(3)), Noise(torch.arange(3))
    assert torch.equal(short.normal(5), long.normal(40_000)[:, :5])
    assert torch.equal(short.uniform(3), long.uniform(40_000)[:, :3])
    assert torch.equal(short.normal(2), long.normal(2, 2).flatten(1)[:, :2])


def test_normal_and_uniform_numbers_are_counted_apart():
    first, second = Noise(torch.arange(4)), Noise(torch.arange(4))
    second.uniform(7)
    assert torch.equal(first.normal(3), second.normal(3))


@pytest.mark.parametrize("rows", [4, 1000])
def test_both_ways_of_making_numbers_agree(rows):
    """NumPy's generator of long rows and operations on whole tensors, which other devices take, to rounding."""
    seeds = torch.arange(rows) * 7919 + 2**61
    for _ in range(2):
        here = Noise(seeds).normal(33)
        words = rows_of_words(seeds, 0, 0, 17)
        there = _normal(words, torch.float32, 24).flatten(1)[:, :33]
        torch.testing.assert_close(here, there, rtol=1e-6, atol=1e-6)
        uniform = _uniform(rows_of_words(seeds, 1, 0, 5), torch.float32, 24).flatten(1)
        assert torch.equal(Noise(seeds).uniform(5), uniform)
    assert torch.equal(Noise(seeds).normal(70), torch.cat([Noise(seeds[i : i + 1]).normal(70) for i in range(rows)]))


def test_precision_changes_digits_and_nothing_else():
    seeds = torch.arange(50)
    exact = Noise(seeds, dtype=torch.float64).normal(100)
    torch.testing.assert_close(Noise(seeds).normal(100).double(), exact, rtol=1e-5, atol=2e-6)
    torch.testing.assert_close(Noise(seeds, dtype=torch.bfloat16).normal(100).double(), exact, rtol=1e-2, atol=1e-2)
    assert Noise(seeds, dtype=torch.float16).uniform(5000).max() < 1
    assert Noise(seeds, dtype=torch.bfloat16).uniform(5000).max() < 1


def test_normal_numbers_are_normal_to_the_tails():
    """Kolmogorov's distance at p = 0.001, the fourth moment, and the share beyond 4, in a million numbers."""
    x = Noise(torch.arange(1000), dtype=torch.float64).normal(1000).flatten().sort().values
    place = (torch.arange(len(x)) + 0.5) / len(x)
    assert (torch.special.ndtr(x) - place).abs().max() < 1.95 / len(x) ** 0.5
    assert abs(float(x.pow(4).mean()) - 3) < 5 * (96 / len(x)) ** 0.5
    beyond = float((x.abs() > 4).double().mean())
    assert abs(beyond - 6.334e-5) < 5 * (6.334e-5 / len(x)) ** 0.5


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 8])
def test_nothing_is_correlated(lag):
    """Numbers of one row, of neighbouring seeds, of seeds that differ in one high bit, and of successive draws."""
    seeds, noise = torch.arange(1000), Noise(torch.arange(1000), dtype=torch.float64)
    x, later = noise.normal(400), noise.normal(400)
    far = Noise(seeds + 2 ** (30 + 4 * lag), dtype=torch.float64).normal(400)
    for one, other in ((x[:, lag:], x[:, :-lag]), (x[lag:], x[:-lag]), (x, far), (x, later), (x**2 - 1, later**2 - 1)):
        product = one * other
        assert abs(float(product.mean())) < 5 * float(product.std()) / product.numel() ** 0.5


def test_a_shuffle_holds_everything_once_and_is_even():
    for length in (1, 2, 7, 1000):
        assert sorted(shuffled(length, 3).tolist()) == list(range(length))
    places = torch.stack([shuffled(5, seed).argsort() for seed in range(4000)])
    counts = torch.stack([(places == place).sum(0) for place in range(5)]).double()
    assert float(((counts - 800) ** 2 / 800).sum()) < 44.3  # chi squared, 16 degrees of freedom, p = 2e-4


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-12), (torch.float32, 4e-6)])
def test_a_word_gives_the_two_numbers_of_its_halves(dtype, close):
    """Number by number by the definition; also of words whose places in memory are not neighbours."""
    halves = [(0, 0), (0, -(2**31)), (2**32 - 2**20, 2**31 - 1), (2**31, 1), (12345, -678_910_111)]
    words = torch.tensor([signed((high << 32) + low % 2**32) for high, low in halves])
    expected = []
    for high, low in halves:
        radius = math.sqrt(-2 * math.log((high + 0.5) / 2**32))
        angle = low * math.tau / 2**32
        expected.append([radius * math.cos(angle), radius * math.sin(angle)])
    apart = torch.stack([words, torch.zeros_like(words)], 1)[:, 0]
    for given in (words, apart):
        made = _normal(given, dtype, 0)
        by_numpy = torch.full((len(words), 2), torch.nan, dtype=dtype)
        noise_numpy.normal(given.numpy().view(np.uint64), by_numpy.numpy(), 0)
        for found in (made, by_numpy):
            assert found.dtype == dtype
            torch.testing.assert_close(found.double(), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=close)


def test_a_traced_draw_agrees_with_one_that_is_not():
    """Under ``torch.compile`` the numbers come from operations of PyTorch."""
    noise = Noise(torch.arange(300))
    expected = [noise.normal(9), noise.uniform(3)]

    def draws(seeds):
        noise = Noise(seeds)
        return noise.normal(9), noise.uniform(3)

    traced = torch.compile(draws, backend="eager")(torch.arange(300))
    torch.testing.assert_close(traced[0], expected[0], rtol=1e-6, atol=4e-6)
    assert torch.equal(traced[1], expected[1])
