"""Which trajectories the rows of a part are: stretches of draws of one condition each, by the condition's text.

A condition is its text and not its place in a list: a pool that gets one prompt more, or the same ones in another
order, keeps what it has. A text that stands in a list twice is drawn once, for its seeds are the same.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from graft_lightning.processes.noise import trajectory_seeds


class Run(NamedTuple):
    """Draws ``first .. stop - 1`` of a condition."""

    text: str
    first: int
    stop: int


class Rows:
    """The rows of a part, run after run.

    Attributes:
        runs: in the order of the rows.
        starts: row at which each run begins, and at the end their number.
    """

    def __init__(self, runs: Iterable[tuple[str, int, int]]) -> None:
        self.runs = [Run(text, first, stop) for text, first, stop in runs]
        self.starts = np.cumsum([0, *(run.stop - run.first for run in self.runs)])
        self._firsts = np.array([run.first for run in self.runs], dtype=np.int64)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def places(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of the runs of some rows, and their draws."""
        numbers = np.searchsorted(self.starts, rows, side="right") - 1
        return numbers, rows - self.starts[numbers] + self._firsts[numbers]

    def pairs(self, rows: np.ndarray) -> tuple[list[str], list[int]]:
        """The conditions of some rows, and their draws."""
        numbers, draws = self.places(rows)
        return [self.runs[number].text for number in numbers.tolist()], draws.tolist()

    def seeds(self, run_seed: int, index: int, rows: np.ndarray) -> Tensor:
        """The seeds that some rows must have in a round of a run, int64 ``(len(rows),)``."""
        return trajectory_seeds(run_seed, index, *self.pairs(rows))


def missing_runs(held: Sequence[Rows], conditions: Sequence[str], draws: int) -> list[Run]:
    """What the parts of a round lack of conditions × draws: the later draws of some conditions, all of new ones."""
    drawn = draws_of(held)
    wanted = ((text, drawn.get(text, 0)) for text in dict.fromkeys(conditions))
    return [Run(text, there, draws) for text, there in wanted if there < draws]


def draws_of(held: Sequence[Rows]) -> Mapping[str, int]:
    """How many draws of each condition the parts of a round hold, in the order in which they came."""
    drawn: dict[str, int] = {}
    for rows in held:
        for run in rows.runs:
            drawn[run.text] = max(drawn.get(run.text, 0), run.stop)
    return drawn


def located(held: Sequence[Rows], conditions: Sequence[str], draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the trajectories of conditions × draws lie: part and row of each, −1 of those that no part holds."""
    runs: dict[str, list[tuple[Run, int, int]]] = {}
    for part, rows in enumerate(held):
        for run, start in zip(rows.runs, rows.starts[:-1].tolist(), strict=True):
            runs.setdefault(run.text, []).append((run, part, start))
    parts = np.full((len(conditions), draws), -1, dtype=np.int64)
    places = parts.copy()
    for condition, text in enumerate(conditions):
        for run, part, start in runs.get(text, ()):
            stop = min(run.stop, draws)
            if stop > run.first:
                parts[condition, run.first : stop] = part
                places[condition, run.first : stop] = np.arange(start, start + stop - run.first)
    return parts.reshape(-1), places.reshape(-1)
