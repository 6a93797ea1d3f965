"""The kernel distance of paired samples, by hand and against the unpaired one; and when the alarm on it is raised."""

import math

import pytest
import torch
from sklearn.datasets import load_digits

from graft_lightning.callbacks.alarms import Alarms, raised
from graft_lightning.callbacks.drifting import drift, keep_features
from graft_lightning.callbacks.sample_facts import facts_of
from graft_lightning.domains.base.drift import distance_of_halves, paired_distance, polynomial_kernel
from graft_lightning.domains.digits import DigitReference
from graft_lightning.domains.digits.flow import DigitFeatures

DIGITS = torch.tensor(load_digits().images, dtype=torch.float32)[:, None] / 16
NETWORK = DigitFeatures()
LABELS = torch.tensor(load_digits().target)


def test_two_pairs_by_hand():
    now, base = torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0], [1.0]])
    # over the two ordered pairs of different rows: k(1, 2) + k(0, 1) - (k(1, 1) + k(0, 2)), k(x, y) = (xy + 1)^3
    assert paired_distance(now, base) == pytest.approx(27 + 1 - (8 + 1))
    assert polynomial_kernel(torch.tensor([[1.0, 3.0]]), torch.tensor([[2.0, 2.0]])).item() == pytest.approx(5**3)


def test_the_same_samples_have_no_distance_and_few_none_at_all():
    x = torch.randn(30, 4)
    assert paired_distance(x, x) == pytest.approx(0, abs=1e-12)
    assert math.isnan(paired_distance(x[:1], x[:1]))
    assert math.isnan(distance_of_halves(x[:3], ["a"] * 3))


def test_it_is_unbiased_where_pairs_depend_on_each_other():
    """x = y + e: the expectation is that of independent draws, (E k over distributions) in closed form for d = 1."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(4000):
        y = torch.randn(6, 1, generator=generator)
        found.append(paired_distance(y + 1, y))
    # E k(X, X') = sum binom E[X^j]^2: moments of N(1, 1) are 1, 2, 4; of N(0, 1) 0, 1, 0
    right = 3 * (1 - 0) ** 2 + 3 * (2 - 1) ** 2 + (4 - 0) ** 2
    values = torch.tensor(found)
    assert abs(float(values.mean()) - right) < 4 * float(values.std()) / 4000**0.5


def test_conditions_are_cut_in_halves():
    """Two conditions far apart: halves with equal parts of both are near each other, random ones would not be."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(40, 2, generator=generator) * 0.1
    base[20:] += 10
    apart = distance_of_halves(base, ["a"] * 20 + ["b"] * 20)
    assert apart < 0.01 * distance_of_halves(base, ["a"] * 40)


def facts(images, conditions=("a", "b")):
    each = len(images) // len(conditions)
    texts = [text for text in conditions for _ in range(each)]
    draws = list(range(each)) * len(conditions)
    return facts_of(DigitReference(), images, texts, draws, NETWORK)


def alarms(folder, now, base):
    keep_features(folder / "base", NETWORK, 0, facts(base))
    return "drift" in raised(Alarms(), drift(folder / "base", NETWORK, 0, facts(now)), {}, [])


def test_the_alarm_is_quiet_on_other_draws_of_one_law_and_raised_by_a_shift(tmp_path):
    generator = torch.Generator().manual_seed(0)

    def drawn(of, count=200):
        return of[torch.randint(len(of), (count,), generator=generator)]

    pairs = [(drawn(DIGITS), drawn(DIGITS)) for _ in range(50)]
    assert sum(alarms(tmp_path, now, base) for now, base in pairs) <= 3
    few = DIGITS[LABELS < 5]
    assert sum(alarms(tmp_path, drawn(few), base) for _, base in pairs) >= 48
    mirrored = sum(alarms(tmp_path, base.flip(-1), base) for _, base in pairs)  # of the same seeds
    assert mirrored >= 48


def test_nothing_is_said_of_other_seeds_or_networks_or_without_features(tmp_path):
    images, base = DIGITS[:32], tmp_path / "base"
    assert drift(base, NETWORK, 0, facts(images)) == {}
    keep_features(base, NETWORK, 0, facts(images))
    found = drift(base, NETWORK, 0, facts(images))
    assert found["drift"] == pytest.approx(0, abs=1e-9)
    assert found["drift_of_halves"] > 0
    of, other = torch.nn.Linear(2, 2), tmp_path / "other"
    keep_features(other, of, 0, facts(images))
    assert drift(other, of, 0, facts(images))
    of.weight.data[0, 0] += 1
    assert drift(other, of, 0, facts(images)) == {}
    assert drift(base, of, 0, facts(images)) == {}
    assert drift(base, NETWORK, 1, facts(images)) == {}
    assert drift(base, NETWORK, 0, facts(images[:16])) == {}
    plain = facts_of(DigitReference(), images, ["a"] * 32, range(32))
    assert drift(base, NETWORK, 0, plain) == {}
    keep_features(tmp_path / "none", NETWORK, 0, plain)
    assert not (tmp_path / "none").exists()
    base.write_bytes(b"x")
    assert drift(base, NETWORK, 0, facts(images)) == {}
