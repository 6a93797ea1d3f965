"""What thousands of commands in one process need not do each: wait for a disk, draw letters, ask the same parser."""

import os
import sys
from functools import partial
from typing import Any

DOTS = 20
"""Pixels an inch of figures."""

REAL: list[tuple[Any, str, Any]] = []
"""What draws figures as users see them: where, under which name, and what."""


def without_waiting() -> None:
    """No test outlives a power cut, and there are thousands of files to wait for; processes that tests start wait."""
    os.fsync = lambda descriptor: None


class Blank:
    """Axes on which nothing is drawn, and every answer of theirs."""

    def __call__(self, *given: Any, **settings: Any) -> "Blank":
        return self

    def __getattr__(self, name: str) -> "Blank":
        return self

    __getitem__ = __rmul__ = __call__


def with_blank_figures() -> None:
    """Figures stay small and blank, without axes: they are matplotlib's, and take half of a tiny run."""
    import matplotlib
    from matplotlib.figure import Figure

    from graft_lightning.callbacks import figures, inversion_figures  # noqa: F401
    from graft_lightning.reports import diagnosed  # noqa: F401

    def new_figure(width: float = 9, height: float = 4, columns: int = 1) -> tuple[Any, Any]:
        return Figure(figsize=(width, height)), Blank() if columns == 1 else [Blank()] * columns

    _put(figures, "SHARP", DOTS)
    _put(figures, "LAYOUT", None)
    _put(Figure, "draw", lambda self, renderer: None)
    _put_everywhere(figures.new_figure, new_figure)
    for name in ("figure.dpi", "savefig.dpi"):
        matplotlib.rcParams[name] = DOTS


def with_sheets_of_one() -> None:
    """Of a sheet of samples the first is drawn, small, without what stands below it."""
    from graft_lightning.callbacks import figures
    from graft_lightning.types import take

    whole = figures.sheet_of

    def sheet_of(module: Any, samples: Any, captions: Any) -> Any:
        return whole(module, take(samples, slice(0, 1)), [""])

    _put_everywhere(whole, sheet_of)
    for name, value in (("COLUMNS", 1), ("SIDE", DOTS), ("LETTERS", 4)):
        _put(sys.modules["graft_lightning.callbacks.two_rows"], name, value)


def _put(where: Any, name: str, value: Any) -> None:
    REAL.append((where, name, getattr(where, name)))
    setattr(where, name, value)


def _put_everywhere(old: Any, new: Any) -> None:
    """Wherever in the package a function is known."""
    for path, module in list(sys.modules.items()):
        if path.startswith("graft_lightning."):
            for name in [name for name, value in vars(module).items() if value is old]:
                _put(module, name, new)


def with_compiled_yaml() -> None:
    """Text is written by libyaml, which takes a fifth of the time and other escapes."""
    import yaml

    if hasattr(yaml, "CSafeDumper"):
        yaml.safe_dump = partial(yaml.dump, Dumper=yaml.CSafeDumper)


def with_shared_parsers() -> None:
    """Commands of one kind and trainer share a parser, which is the same each time."""
    from graft_lightning.cli.lightning import GraftCLI

    make, names = GraftCLI.setup_parser, ("parser", "_subcommand_method_arguments", "_subcommand_parsers")
    made: dict[Any, dict[str, Any]] = {}

    def setup_parser(self: GraftCLI, *given: Any) -> None:
        kind = type(self), self.trainer_class, tuple(self.subcommands()), repr(given)
        if kind not in made:
            make(self, *given)
            made[kind] = {name: getattr(self, name) for name in names if hasattr(self, name)}
        vars(self).update(made[kind])

    GraftCLI.setup_parser = setup_parser  # type: ignore[method-assign]


def made_affordable() -> None:
    """All of it, of what is loaded: tests of the mathematics load neither."""
    without_waiting()
    if "graft_lightning.callbacks.figures" in sys.modules:
        with_blank_figures()
        with_sheets_of_one()
    if "graft_lightning.cli.lightning" in sys.modules:
        from tests.remembering import with_memory

        with_compiled_yaml()
        with_shared_parsers()
        with_memory()
