"""The states of a round at one of its levels, with their conditions."""

from collections.abc import Sequence
from typing import Any, Literal

from graft_lightning.rejection.pool import Round


class StoredStates:
    """What is read of a round to train on.

    Attributes:
        level: of the states, where training begins and a stitched model hands off; 0 of x_0.

    Args:
        pool_round: a complete round.
        state: index N_I of the states, or "x_0"; 0 is "x_0" too.

    Raises:
        ValueError: if the round has not kept these states; names those that it has.
    """

    def __init__(self, pool_round: Round, state: int | Literal["x_0"]) -> None:
        if state not in ("x_0", 0, *pool_round.kept_levels):
            raise ValueError(f"state={state!r} is not kept in the round; kept are {sorted(pool_round.kept_levels)}")
        stored = None if state == "x_0" or state == 0 else state
        self._round = pool_round
        self.level = 0.0 if stored is None else pool_round.kept_levels[stored].t
        self._field = "x_0" if stored is None else f"states/{stored}"

    def read(self, indices: Sequence[int]) -> tuple[Any, list[str]]:
        """The states at global indices, ``(batch, *shape)`` or by field, and the condition of each."""
        data = self._round.read(indices, ["condition", self._field])
        texts = [self._round.conditions[i] for i in data["condition"].tolist()]
        return data[tuple(self._field.split("/"))], texts
