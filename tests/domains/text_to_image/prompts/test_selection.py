import pytest

from graft_lightning.domains.text_to_image.prompts import Prompt, PromptSet, Selected, Split


class Listed(PromptSet):
    def __init__(self, prompts):
        self.listed = prompts

    def read(self):
        return self.listed


SKILLS = Listed(
    [
        Prompt("0", "one", ("a",)),
        Prompt("1", "one two", ("b",)),
        Prompt("2", "one two three", ("a", "b")),
        Prompt("3", "one", ("c",)),
        Prompt("4", "one two three four"),
    ]
)


@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        ({}, "01234"),
        ({"tags": ["a"]}, "02"),
        ({"tags": ["a", "c"]}, "023"),
        ({"tags": ["a"], "without_tags": ["b"]}, "0"),
        ({"without_tags": ["b"]}, "034"),
        ({"min_words": 2}, "124"),
        ({"min_words": 2, "max_words": 3}, "12"),
        ({"unique": True}, "0124"),
        ({"min_words": 2, "first": 2}, "12"),
    ],
)
def test_filters(filters, ids):
    assert "".join(prompt.id for prompt in Selected(SKILLS, **filters).prompts()) == ids


def test_unknown_tags_and_empty_selections_are_refused():
    with pytest.raises(ValueError, match="carries the tag 'd'; the set has a, b, c"):
        Selected(SKILLS, tags=["d"]).prompts()
    with pytest.raises(ValueError, match="none of the 5 prompts passes"):
        Selected(SKILLS, min_words=9).prompts()


def test_the_benchmark_keeps_its_own_overall_figure():
    class Largest(Listed):
        def overall(self, prompts, scores):
            return float(scores.max())

    source = Largest(SKILLS.listed)
    assert Selected(source, tags=["a"]).averages([1.0, 5.0])["overall"] == 5.0
    assert Split(source, "all", {"all": 1.0}).averages([1.0, 5.0, 2.0, 2.0, 2.0])["overall"] == 5.0


NUMBERS = Listed([Prompt(str(i), f"prompt {i}") for i in range(2000)])
PARTS = ("train", "validation", "test")


def test_parts_are_disjoint_complete_and_of_the_asked_size():
    parts = {part: Split(NUMBERS, part).texts() for part in PARTS}
    assert sorted(text for part in parts.values() for text in part) == sorted(NUMBERS.texts())
    # three standard deviations of a binomial of 2,000: 54 at .8, 40 at .1
    assert abs(len(parts["train"]) - 1600) < 54
    assert abs(len(parts["test"]) - 200) < 40


def test_a_part_does_not_depend_on_order_or_company():
    kept = set(Split(NUMBERS, "test", seed=3).texts())
    some = Listed(NUMBERS.listed[::-7])
    assert set(Split(some, "test", seed=3).texts()) == kept & set(some.texts())
    assert set(Split(NUMBERS, "test", seed=4).texts()) != kept


def test_the_split_never_changes():
    # a recorded value: held-out prompts must stay held out from one release to the next
    part = Split(Listed(NUMBERS.listed[:40]), "test")
    assert [prompt.id for prompt in part.prompts()] == ["4", "15", "16", "18", "30", "33"]


def test_wrong_parts_are_refused():
    with pytest.raises(ValueError, match="add up to 1"):
        Split(NUMBERS, fractions={"train": 0.5, "test": 0.4})
    with pytest.raises(ValueError, match="'dev' is not one of the parts of `fractions`, train, validation, test"):
        Split(NUMBERS, "dev")
    with pytest.raises(ValueError, match="'test' holds none of the 1 prompts"):
        Split(Listed(NUMBERS.listed[:1]), "test", {"train": 1.0, "test": 0.0}).prompts()
