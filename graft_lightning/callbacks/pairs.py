"""Samples of the base and of the model under evaluation, of the same seeds, with what was thought of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from graft_lightning.callbacks.colours import ACCEPTED, BEFORE, REJECTED
from graft_lightning.callbacks.two_rows import Row, two_rows
from graft_lightning.rejection.codec import Codec


@dataclass(frozen=True)
class Shown:
    """One sample that is shown.

    Attributes:
        text: its condition.
        sample: a batch of one.
        scores: one a score, in the order of their names.
    """

    text: str
    sample: Any
    scores: Sequence[float]


def base_and_now(codec: Codec, pairs: Sequence[tuple[Shown, Shown]], names: Sequence[str], step: int) -> Tensor | None:
    """Two rows, the base's above; frames say right or wrong where a judge does, else whether the reward has risen.

    Args:
        codec: draws samples.
        pairs: base and now.
        names: of the scores, the reward that is trained on first.
        step: gradient steps by now.
    """
    before, now = ([pair[k] for pair in pairs] for k in (0, 1))
    scored = f", with {names[0]}" if names else ""
    judge = next((k for k in range(len(names)) if all(one.scores[k] in (0, 1) for one in (*before, *now))), None)
    if judge is not None:
        said = f"{names[judge]}: green right, red wrong"
        frames = [[ACCEPTED if one.scores[judge] == 1 else REJECTED for one in row] for row in (before, now)]
    else:
        said = "same seeds; green has risen, red has fallen" if names else "same seeds"
        frames = [[BEFORE] * len(pairs), [_risen(first, second) for first, second in pairs]]
    rows = [
        Row(title, [one.sample for one in row], [f"{one.scores[0]:.2g}" if names else "" for one in row], colours)
        for title, row, colours in zip((f"base{scored}", f"step {step}; {said}"), (before, now), frames, strict=True)
    ]
    return two_rows(codec, rows, [one.text for one in now])


def _risen(before: Shown, now: Shown) -> str:
    if not now.scores or now.scores[0] == before.scores[0]:
        return BEFORE
    return ACCEPTED if now.scores[0] > before.scores[0] else REJECTED
