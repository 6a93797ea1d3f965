"""Trajectories that are chosen among on the way: before a step, some rows of a batch may be put in place of others."""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from graft_lightning.processes.denoiser import Fields, Level
from graft_lightning.types import State, take

Predict = Callable[[State, Level], Fields]
"""(x_t, t) -> prediction by field, denoiser and condition already inside."""


class Choose(Protocol):
    """Chooses among the trajectories of a batch."""

    def __call__(self, x: State, t: float, predicted: Callable[[], Fields]) -> Tensor | None:
        """The rows that go on, int64 ``(batch,)``, with repetitions; None where all go on as they are.

        Args:
            x: state at t, fields ``(batch, *shape)``.
            t: its level.
            predicted: gives the model's prediction there; the step that follows uses it too, so that it costs nothing.
        """


class Remembered:
    """A model that is asked once where both the one who chooses and the sampler's step ask the same.

    Args:
        model: what is asked.
        x: state at t.
        t: its level.

    Attributes:
        x: the state with the rows that were chosen.
    """

    def __init__(self, model: Predict, x: State, t: float) -> None:
        self._model, self.x, self._t = model, x, t
        self._found: Fields | None = None

    def predicted(self) -> Fields:
        """The prediction at the state itself."""
        if self._found is None:
            self._found = self._model(self.x, self._t)
        return self._found

    def choose(self, rows: Tensor) -> None:
        """Puts the chosen rows in place, of the state and of what was predicted there."""
        self.x = take(self.x, rows)
        if self._found is not None:
            self._found = {name: found.rows(rows) for name, found in self._found.items()}

    def __call__(self, x: State, t: Level) -> Fields:
        return self.predicted() if x is self.x and t == self._t else self._model(x, t)


def chosen(choose: Choose, model: Predict, x: State, t: float) -> tuple[State, Predict]:
    """The state with the rows that go on, and the model that the step from there asks.

    Args:
        choose: chooses the rows.
        model: what predicts.
        x: state at t, fields ``(batch, *shape)``.
        t: its level.
    """
    remembered = Remembered(model, x, t)
    rows = choose(x, t, remembered.predicted)
    if rows is not None:
        remembered.choose(rows)
    return remembered.x, remembered
