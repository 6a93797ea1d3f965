"""Conditions of one's own are held to be a list of texts."""

import numpy as np
import pytest

from graft_lightning.callbacks.understood import refuse_conditions
from graft_lightning.domains.base import Conditions, listed
from graft_lightning.types import SettingsError
from tests.fakes import TinyReference


class Mine(Conditions):
    def __init__(self, found):
        self.found = found

    def texts(self):
        return self.found


@pytest.mark.parametrize("found", [["a", "b"], ("a", "b"), np.array(["a", "b"])], ids=repr)
def test_any_sequence_of_texts_is_taken(found):
    assert listed(Mine(found)) == ["a", "b"]


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ("abc", "an object of type str"),
        ({"a", "b"}, "an object of type set"),
        (iter("ab"), "an object of type str_(ascii_)?iterator"),
        (None, "None"),
        ([], r"\[\]"),
        (["a", 2], "2 of type int at place 1"),
    ],
    ids=["text", "set", "iterator", "none", "empty", "number"],
)
def test_anything_else_is_refused_by_the_name_of_the_class_and_the_key(found, message):
    class Data:
        conditions = Mine(found)

    with pytest.raises(
        SettingsError, match=rf"^data\.conditions: Mine\.texts returned ({message}); it must return a list"
    ):
        refuse_conditions(TinyReference(), Data, "conditions")
