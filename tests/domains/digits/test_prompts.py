from itertools import permutations

import pytest

from graft_lightning.domains.digits.prompts import (
    BOTTOM,
    LEFT,
    NOTHING,
    RELATIONS,
    RIGHT,
    SLOTS,
    SPLITS,
    TOP,
    VOCABULARY,
    encode,
    kind_prompt,
    layouts,
    prompts,
    relation_prompt,
)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a three to the left of a seven", {((LEFT, 3), (RIGHT, 7))}),
        ("a three to the right of a seven", {((LEFT, 7), (RIGHT, 3))}),
        ("an eight above a one", {((TOP, 8), (BOTTOM, 1))}),
        ("A two  below an eight.", {((TOP, 8), (BOTTOM, 2))}),
        ("two sixes", {((LEFT, 6), (RIGHT, 6)), ((TOP, 6), (BOTTOM, 6))}),
        ("two fives", {((LEFT, 5), (RIGHT, 5)), ((TOP, 5), (BOTTOM, 5))}),
    ],
)
def test_a_prompt_means_its_layouts(prompt: str, expected: set) -> None:
    assert set(layouts(prompt)) == expected


def test_every_sentence_is_understood_and_each_relation_is_the_reverse_of_another() -> None:
    reverse = {"to the left of": "to the right of", "above": "below"}
    for first, second in permutations(range(10), 2):
        for there, back in reverse.items():
            assert layouts(relation_prompt(first, there, second)) == layouts(relation_prompt(second, back, first))
    assert all(len(layouts(kind_prompt(digit))) == 2 for digit in range(10))


@pytest.mark.parametrize(
    "prompt", ["", "a cat", "two three", "three fives", "a three to the left of a", "a ten above a two"]
)
def test_what_is_not_understood_is_named(prompt: str) -> None:
    with pytest.raises(ValueError, match="understood are") as error:
        layouts(prompt)
    assert repr(prompt) in str(error.value)


def test_splits_share_no_layout_and_are_large_enough() -> None:
    shown = {split: [layout for prompt in prompts(split) for layout in layouts(prompt)] for split in SPLITS}
    assert [len(prompts(split)) for split in SPLITS] == [80, 26, 48]
    assert sum(len(set(found)) for found in shown.values()) == len(set().union(*shown.values()))
    for split in SPLITS:
        assert len(set(shown[split])) == len(shown[split]), f"{split} holds two wordings of one layout"
        assert all(any(relation in prompt for prompt in prompts(split)) for relation in RELATIONS)


def test_the_splits_never_change() -> None:
    """Results on `report` are comparable between versions only as long as these stay."""
    assert prompts("train")[:2] == ["a four to the left of a nine", "an eight to the right of a seven"]
    assert prompts("report")[-2:] == ["two zeros", "two ones"]
    with pytest.raises(ValueError, match="'test' is unknown"):
        prompts("test")


def test_encoding_tells_all_meanings_apart() -> None:
    every = [relation_prompt(a, relation, b) for a, b in permutations(range(10), 2) for relation in RELATIONS]
    every += ["", *(kind_prompt(digit) for digit in range(10))]
    tokens = encode(every)
    assert tokens.shape == (371, len(SLOTS))
    assert len(tokens.unique(dim=0)) == 180 + 11, "two wordings of one layout are one meaning"
    assert set(tokens.unique().tolist()) == set(range(VOCABULARY))
    assert (tokens[every.index("")] == NOTHING).all()


def test_encoding_names_each_slot_s_digit() -> None:
    assert encode(["a three to the right of a seven"]).tolist() == [[7, 3, NOTHING, NOTHING]]
    assert encode(["a three above a seven"]).tolist() == [[NOTHING, NOTHING, 3, 7]]
    assert encode(["two sixes"]).tolist() == [[6, 6, 6, 6]]


def test_encoding_refuses_other_sentences() -> None:
    with pytest.raises(ValueError, match="'a cat'"):
        encode(["a cat"])
