"""What a refusal says of a setting: its whole path, its value, and what would be right."""

import collections.abc
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from graft_lightning.cli.mistakes import mistakes
from graft_lightning.cli.written import merged, overridden, overrides, put, read_value
from graft_lightning.ranges import Range


class Shape(ABC):  # noqa: B024
    pass


class Square(Shape):
    def __init__(self, side: Annotated[float, Range(0)], name: str = "", colour: Literal["red", "blue"] = "red"):
        pass


class Circle(Shape):
    def __init__(self, radius: int | None = None, **rest: Any):
        pass


class Other:
    pass


class Solid(Shape):
    @abstractmethod
    def volume(self):
        """What a class below this one must say."""


@dataclass
class Frame:
    width: int = 1


class Page:
    def __init__(
        self,
        shape: Shape,
        shapes: list[Shape] | None = None,
        make: collections.abc.Callable[[int], Shape] | None = None,
        frame: Frame | None = None,
        sizes: dict[str, int] | None = None,
        file: Path = Path("."),
        on: bool = True,
        levels: collections.abc.Sequence[float] = (),
        anything: Any = None,
    ):
        pass


def of(kind: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": kind, "init_args": arguments}


SQUARE = of("Square", side=1)
NONE = "there is no Shape of this name, or it cannot be imported; "


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"shape": {"class_path": "Sqare"}}, f"shape=Sqare: {NONE}did you mean 'Square'?"),
        ({"shape": "Triangle"}, f"shape=Triangle: {NONE}there are Circle, Shape, Square"),
        ({"shape": f"{__name__}.Other"}, f"shape={__name__}.Other: this is no Shape; there are Circle, Shape, Square"),
        ({"shape": f"{__name__}.Solid"}, f"shape={__name__}.Solid: Solid lacks volume, which every Shape must have"),
        (
            {"shape": of(f"{__name__}.Solid")},
            f"shape={__name__}.Solid: Solid lacks volume, which every Shape must have",
        ),
        (
            {"shape": f"{__name__}.Squar"},
            f"shape={__name__}.Squar: module {__name__!r} has no 'Squar'; did you mean 'Square'?",
        ),
        (
            {"shape": "absent.of.All"},
            "shape=absent.of.All: there is no module 'absent', neither installed nor in the working folder; there are "
            "Circle, Shape, Square",
        ),
        ({"shape": {"side": 1}}, "shape: it has settings and no class; say which: Circle, Shape, Square"),
        ({"shape": of("Square", sid=1)}, "shape.sid: Square has no such setting; did you mean 'side'?"),
        ({"shape": of("Square", side="long")}, "shape.side=long: it must be a number"),
        ({"shape": of("Square", side=None)}, "shape.side is empty: it must be a number"),
        ({"shape": of("Square", side=True)}, "shape.side=True: it must be a number"),
        ({"shape": of("Square", colour="green")}, "shape.colour=green: it must be one of red, blue"),
        ({"shapes": [SQUARE, of("Circle", radius=1.5)]}, "shapes[1].radius=1.5: it must be a whole number"),
        ({"shapes": {"side": 1}}, "shapes={'side': 1}: it must be a list, not a mapping"),
        ({"make": "Sqare"}, f"make=Sqare: {NONE}did you mean 'Square'?"),
        ({"frame": {"width": "wide"}}, "frame.width=wide: it must be a whole number"),
        ({"frame": {"height": 1}}, "frame.height: Frame has no such setting; it has width"),
        ({"sizes": [1]}, "sizes=[1]: it must be a mapping, not a list"),
        ({"on": "perhaps"}, "on=perhaps: it must be true or false"),
        ({"levels": 0.5}, "levels=0.5: it must be a list"),
        ({"levels": [0.5, "half"]}, "levels[1]=half: it must be a number"),
        ({"file": [1]}, "file=[1]: it must be a path, not a list"),
        ({"side": 1}, "side: Page has no such setting; did you mean 'sizes'?"),
    ],
)
def test_a_mistake_is_told_with_its_path_and_what_is_right(settings, told):
    assert next(mistakes({"page": settings}, {"page": Page}, {}, "")) == f"page.{told}"


def test_settings_of_a_class_stand_below_its_arguments():
    (told,) = mistakes({"page": {"shape": {"class_path": "Square", "side": 1}}}, {"page": Page}, {}, "")
    assert told == "page.shape.side: it must stand below init_args, as the settings of Square do"


@pytest.mark.parametrize(
    "settings",
    [
        {"shape": SQUARE, "shapes": [SQUARE, of("Circle", whatever=1)], "make": "Circle"},
        {
            "shape": f"{__name__}.Square",
            "file": "a/b",
            "on": False,
            "levels": [0, 0.5],
            "anything": {"class_path": "?"},
        },
        {"shape": of("Square", side="${vars.side}", name="", colour="blue")},
        {"shapes": None, "frame": {"width": 3}, "sizes": {"a": 1}},
    ],
)
def test_what_may_be_meant_is_passed_over(settings):
    assert list(mistakes({"page": settings, "vars": {"side": "?"}}, {"page": Page}, {}, "")) == []


def test_a_class_that_hands_arguments_on_has_none_that_the_parser_has_refused():
    settings = {"page": {"shape": of("Circle", whatever=1)}}
    (told,) = mistakes(settings, {"page": Page}, {}, "Option 'whatever' is not accepted")
    assert told == "page.shape.whatever: Circle has no such setting; it has radius"


def test_a_command_line_is_read_as_the_parser_reads_it():
    words = ["fit", "--config", "a.yaml", "--a.b=1", "--a.c", "two", "--d+=x", "--e", "--f"]
    assert list(overrides(words)) == [("a.b", "1"), ("a.c", "two"), ("d+", "x"), ("e", None), ("f", None)]
    assert overridden({"d": ["w"]}, words) == {"a": {"b": 1, "c": "two"}, "d": ["w", "x"]}


@pytest.mark.parametrize(
    ("keys", "value", "expected"),
    [
        ("shape.side", 2, of("Square", side=2)),
        ("shape.init_args.side", 2, of("Square", side=2)),
        ("shape", "Circle", "Circle"),
        ("shape", "Square", SQUARE),
        ("shape.class_path", "Circle", {"class_path": "Circle"}),
    ],
)
def test_what_a_command_line_sets_of_a_class_goes_where_its_arguments_are(keys, value, expected):
    assert put({"shape": SQUARE}, keys.split("."), value)["shape"] == expected


def test_what_a_command_line_sets_below_a_list_is_its_last_items():
    assert put({"shapes": [SQUARE, "Circle"]}, ["shapes", "radius"], 3)["shapes"] == [
        SQUARE,
        of("Circle", radius=3),
    ]


def test_the_later_of_two_files_wins_and_another_class_begins_anew():
    first = {"shape": SQUARE, "a": {"b": 1, "c": 2}}
    assert merged(first, {"a": {"c": 3}}) == {"shape": SQUARE, "a": {"b": 1, "c": 3}}
    assert merged(first, {"shape": {"class_path": "Circle"}})["shape"] == {"class_path": "Circle"}
    wider = of("Square", side=2)
    assert merged(first, {"shape": wider})["shape"] == wider


@pytest.mark.parametrize(
    ("text", "value"), [("1e9", 1e9), ("2", 2), ("inf", "inf"), ("nan", "nan"), ("[1, x]", [1, "x"]), ("[1", "[1")]
)
def test_words_are_values_as_the_parser_has_them(text, value):
    assert read_value(text) == value
    assert type(read_value(text)) is type(value)


def test_a_module_that_cannot_be_imported_says_why(tmp_path, monkeypatch):
    (tmp_path / "lacks_something.py").write_text("import a_package_that_is_absent\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = list(mistakes({"page": of("Page", shape="lacks_something.Square")}, {}, {"page": Page}, ""))
    assert found == [
        "page.shape=lacks_something.Square: module 'lacks_something' cannot be imported: No module named "
        "'a_package_that_is_absent'"
    ]
