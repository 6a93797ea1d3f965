"""What thousands of commands in one process need not do each: wait for a disk, draw letters, ask the same parser."""

import os
import sys
from typing import Any

DOTS = 20
"""Pixels an inch of figures."""

REAL: list[tuple[Any, str, Any]] = []
"""What draws figures as users see them: where, under which name, and what."""


def without_waiting() -> None:
    """No test outlives a power cut, and there are thousands of files to wait for; processes that tests start wait."""
    os.fsync = lambda descriptor: None


def with_blank_figures() -> None:
    """Figures are made, and stay small and blank: letters and lines are matplotlib's, and take half of a tiny run."""
    import matplotlib
    from matplotlib.figure import Figure

    from graft_lightning.callbacks import figures

    blank: dict[tuple[Any, str], Any] = {
        (figures, "SHARP"): DOTS,
        (figures, "LAYOUT"): None,
        (Figure, "draw"): lambda self, renderer: None,
    }
    for (where, name), put in blank.items():
        REAL.append((where, name, getattr(where, name)))
        setattr(where, name, put)
    for name in ("figure.dpi", "savefig.dpi"):
        matplotlib.rcParams[name] = DOTS


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
    if "graft_lightning.cli.lightning" in sys.modules:
        from tests.remembering import with_memory

        with_shared_parsers()
        with_memory()
