import math

import pytest
import torch

from graft_lightning.domains.text_to_image.prompts.base import Prompt, PromptSet, lines


class Skills(PromptSet):
    def __init__(self):
        self.reads = 0

    def read(self):
        self.reads += 1
        return [Prompt("a", "one", ("x",)), Prompt("b", "two", ("x", "y")), Prompt("c", "three")]


def test_files_are_read_once_and_not_by_the_constructor():
    skills = Skills()
    assert skills.reads == 0
    assert skills.texts() == ["one", "two", "three"]
    assert skills.tags() == [("x",), ("x", "y"), ()]
    assert len(skills) == 3
    assert skills.reads == 1


def test_averages_by_tag():
    assert Skills().averages([1.0, 2.0, 6.0]) == {"overall": 3.0, "x": 1.5, "y": 2.0}


def test_images_of_a_prompt_are_averaged_first():
    scores = torch.tensor([[0.0, 2.0], [1.0, 3.0], [6.0, 6.0]])
    assert Skills().averages(scores) == {"overall": 3.0, "x": 1.5, "y": 2.0}


def test_scores_by_text():
    repeated = Skills()
    repeated._read = [*repeated.read(), Prompt("d", "one", ("y",))]
    assert repeated.texts() == ["one", "two", "three"]
    assert len(repeated.tags()) == len(repeated) == 4
    assert repeated.averages({"three": 6.0, "two": 2.0, "one": 1.0}) == {"overall": 2.5, "x": 1.5, "y": 1.5}
    with pytest.raises(KeyError, match="three"):
        repeated.averages({"one": 1.0, "two": 2.0})


def test_what_could_not_be_judged_shows():
    means = Skills().averages([1.0, float("nan"), 6.0])
    assert all(math.isnan(mean) for mean in means.values())
    assert Skills().averages([1.0, 2.0, float("nan")])["x"] == 1.5


@pytest.mark.parametrize("shape", [(2,), (3, 1, 1), (4, 3)])
def test_scores_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"for 3 prompts; expected \(3,\)"):
        Skills().averages(torch.zeros(shape))


def test_lines_with_every_line_end():
    assert lines("a\r\n\n  b \nc\u2028d\re") == ["a", "b", "c\u2028d\re"]


def test_asking_whether_a_set_is_there_reads_nothing():
    from graft_lightning.domains.text_to_image.prompts import PromptFile

    assert PromptFile("nowhere")
