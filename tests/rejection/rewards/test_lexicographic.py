import pytest
import torch

from graft_lightning.rejection.reward import Reward
from graft_lightning.rejection.rewards import Lexicographic


class Fixed(Reward):
    """Returns what it was given."""

    def __init__(self, values: list[float], groupwise: bool = False) -> None:
        self.values, self.groupwise = values, groupwise
        self.device = "nowhere"

    def __call__(self, samples, conditions) -> torch.Tensor:
        return torch.tensor(self.values)

    def to(self, device):
        self.device = device
        return self


def test_digits_of_a_number():
    """With 3 and 5 levels, (1/2, 3/4) is the number 1 * 5 + 3 of 0 to 14; values beyond [0, 1] are clipped."""
    got = Lexicographic([Fixed([0.5, -2.0, 7.0]), Fixed([0.75, 0.25, 1.5])], [3, 5])(None, [""] * 3)
    torch.testing.assert_close(got, torch.tensor([8 / 14, 1 / 14, 1.0]))


def test_the_order_is_that_of_pairs():
    first = [0.0, 1.0, 0.0, 1.0, 0.49, 0.51]
    second = [1.0, 0.0, 0.2, 0.7, 0.3, 0.9]
    got = Lexicographic([Fixed(first), Fixed(second)])(None, [""] * 6)
    pairs = list(zip([round(value) for value in first], second, strict=True))
    assert got.argsort().tolist() == sorted(range(6), key=pairs.__getitem__)
    assert (float(got.min()) >= 0, float(got.max()) <= 1) == (True, True)
    highest = Lexicographic([Fixed([1.0]), Fixed([1.0])])(None, [""])
    assert highest.tolist() == [1.0]


def test_levels_stay_apart_in_float32():
    """With the most levels allowed, a step of the last reward still shows, also at the top of the first."""
    values = torch.arange(2**12) / (2**12 - 1)
    got = Lexicographic([Fixed([1.0] * 2**12), Fixed(values.tolist())], [2**12, 2**12])(None, [""] * 2**12)
    assert len(got.unique()) == 2**12


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("failed", [0, 1])
def test_what_one_reward_cannot_score_none_can(failed, value):
    values = [[1.0, 1.0], [0.5, 0.5]]
    values[failed][1] = float(value)
    got = Lexicographic([Fixed(column) for column in values])(None, [""] * 2)
    assert got.isnan().tolist() == [False, True]


def test_what_the_parts_are_the_whole_is():
    parts = [Fixed([1.0]), Fixed([1.0], groupwise=True)]
    whole = Lexicographic(parts)
    assert whole.groupwise
    assert not Lexicographic(parts[:1]).groupwise
    assert whole.to("cpu") is whole
    assert [part.device for part in parts] == ["cpu", "cpu"]


@pytest.mark.parametrize(
    ("rewards", "levels", "problem"),
    [
        (0, None, "give at least one"),
        (1, [2, 3], r"levels=\[2, 3\] for 1 rewards"),
        (1, [1], "at least 2"),
        (2, [5000, 5000], "25000000 values"),
    ],
)
def test_arguments_out_of_range(rewards, levels, problem):
    with pytest.raises(ValueError, match=problem):
        Lexicographic([Fixed([1.0])] * rewards, levels)
