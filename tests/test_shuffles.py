import pytest

from graft_lightning.processes.noise import hashed_seed, shuffled
from graft_lightning.shuffles import Shuffles, shuffles


def test_shuffles_are_permutations_that_differ_and_do_not_depend_on_the_order_of_questions():
    shuffles = Shuffles(5, seed=1)
    values = [shuffles[i] for i in range(50)]
    blocks = [values[i : i + 5] for i in range(0, 50, 5)]
    assert all(sorted(block) == list(range(5)) for block in blocks)
    assert len({tuple(block) for block in blocks}) > 5
    backwards = Shuffles(5, seed=1)
    assert [backwards[i] for i in reversed(range(50))] == values[::-1]
    other = Shuffles(5, seed=2)
    assert [other[i] for i in range(50)] != values


def test_a_shuffle_is_that_of_the_seed_of_purpose_run_and_turn():
    expected = shuffled(7, hashed_seed("molecules", 3, 2)).tolist()
    assert sorted(expected) == list(range(7))
    assert Shuffles(7, 3, "molecules").at(range(14, 21)) == expected


@pytest.mark.parametrize("length", [1, 2, 7, 60, 64, 65, 200])
def test_how_many_are_made_at_once_changes_nothing(length):
    numbers = range(150 if length < 10 else 4)
    expected = [value for n in numbers for value in shuffled(length, hashed_seed("shuffle", 5, n)).tolist()]
    assert Shuffles(length, 5).at(range(len(expected))) == expected


@pytest.mark.parametrize("other", [(7, 4, "molecules"), (7, 3, "images"), (8, 3, "molecules")])
def test_seed_purpose_and_length_have_shuffles_of_their_own(other):
    places = range(7 * 8)
    assert Shuffles(*other).at(places) != Shuffles(7, 3, "molecules").at(places)


def test_what_is_kept_between_batches_answers_like_a_new_one():
    places = [0, 40, 3, 99, 16, 17, 18, 500, 0]
    assert shuffles(17, 5, "digits") is shuffles(17, 5, "digits")
    assert shuffles(17, 5, "digits").at(places) == Shuffles(17, 5, "digits").at(places)
    assert shuffles(17, 5, "digits").at(reversed(places)) == Shuffles(17, 5, "digits").at(places)[::-1]


def test_nothing_cannot_be_shuffled():
    with pytest.raises(ValueError, match="length=0; at least 1 element"):
        Shuffles(0, 1)
