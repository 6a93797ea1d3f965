"""Numbers against the ranges that are declared for them, and that every number of a public class has one."""

import inspect
import math

import pytest

from graft_lightning.cli.settings import refuse_out_of_range
from graft_lightning.ranges import (
    BelowOne,
    Count,
    Fraction,
    Natural,
    Positive,
    Unlimited,
    Whole,
    parameters,
    violations,
)
from graft_lightning.types import SettingsError
from tests.faults.names import BY_NAME

NONE = inspect.Parameter.empty


def wrong(annotation, value, default=NONE, strict=True):
    return [(at, right) for at, _, right in violations(annotation, default, value, strict)]


@pytest.mark.parametrize(
    ("annotation", "right", "refused"),
    [
        (Count, [1, 10**6], [0, -1]),
        (Natural, [0, 1], [-1]),
        (Whole, [-5, 0, 5], []),
        (Positive, [1e-9, 1], [0, -1.0, math.nan, math.inf]),
        (Fraction, [0, 0.5, 1], [-0.1, 1.1, math.nan]),
        (BelowOne, [0, 0.99], [1, 1.0]),
        (Unlimited, [1.0, math.inf], [0, -math.inf, math.nan]),
        (float, [-1e9, 0.0], [math.nan, math.inf, -math.inf]),
        (float | None, [None, 1.0], [math.nan]),
        (Natural | None, [None, 0], [-1]),
    ],
)
def test_a_range(annotation, right, refused):
    assert [value for value in right if wrong(annotation, value)] == []
    assert [value for value in refused if not wrong(annotation, value)] == []


@pytest.mark.parametrize(("default", "least"), [(NONE, 1), (None, 1), (8, 1), (0, 0), (-1, -10)])
def test_an_integer_without_a_range_is_ruled_by_its_default(default, least):
    assert not wrong(int, least, default)
    assert bool(wrong(int, least - 1, default)) == (default != -1)


def test_places_inside_lists_and_mappings_are_named():
    assert [at for at, _ in wrong(list[float], [1.0, math.nan])] == ["[1]"]
    assert [at for at, _ in wrong(dict[str, float], {"x": math.inf})] == [".x"]
    assert wrong(list[int], [0, 1]) == []


def test_a_text_without_a_default_is_not_empty():
    assert all(wrong(str, empty) for empty in ("", " "))
    assert not wrong(str, "pool")
    assert not any(wrong(str | None, "", default) for default in ("suffix", "", None))
    assert not wrong(list[str], ["", "the empty prompt"])


def test_a_refusal_names_the_whole_path_the_value_and_what_is_right():
    sampler = {"class_path": "graft_lightning.processes.samplers.DDIM", "init_args": {"steps": 0}}
    settings = {"model": {"class_path": "fractions.Fraction", "init_args": {"references": [{"sampler": sampler}]}}}
    with pytest.raises(SettingsError, match=r"^model\.references\[0\]\.sampler\.steps=0; it must be at least 1$"):
        refuse_out_of_range(settings, {})


def test_every_number_of_a_public_class_has_a_range():
    """-1 where its default is 0 or more, and a number that is none, are refused for every argument there is."""
    checked = 0
    for kind in {found for found in BY_NAME.values() if found.__module__.startswith("graft_lightning")}:
        for name, (annotation, default) in parameters(kind).items():
            parts = str(annotation)
            if "Whole" in parts or name.startswith("_"):
                continue
            if annotation in (int, int | None) and (default in (NONE, None) or default >= 0):
                assert wrong(annotation, -1, default), f"{kind.__name__}.{name}"
                checked += 1
            if annotation in (float, float | None):
                assert wrong(annotation, math.nan, default), f"{kind.__name__}.{name}"
                checked += 1
    assert checked > 100
