"""Numbers in the cells of tables, as people and spreadsheets of any country write them."""

import math
import re
from collections.abc import Iterable
from typing import Any

from graft_lightning.types import SettingsError

_COMMA = re.compile(r"[-+]?\d*,\d+")
_GROUPS = re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+")
"""What a comma parts into thousands, or else into a whole and its decimals: 1,000 is both."""
_POINTS = re.compile(r"[-+]?[1-9]\d{0,2}(\.\d{3})+")
"""The same by points, where commas mark decimals."""


def has_decimal_commas(cells: Iterable[Any]) -> bool:
    """Whether a column writes decimals with a comma: some cell of it, such as 0,5, cannot be anything else."""
    texts = (str(cell).strip() for cell in cells)
    return any(_COMMA.fullmatch(text) and not _GROUPS.fullmatch(text) for text in texts)


def number_in(cell: Any, where: str, commas: bool = False) -> float | None:
    """The number in a cell; None of an empty one, and of "nan".

    Args:
        cell: with a point or a comma as decimal mark, without marks of thousands.
        where: what it is, with file and line, for the error.
        commas: whether its column has decimal commas, so that 1,250 is one and a quarter.

    Raises:
        AmbiguousNumber: if its comma or point may mark thousands or decimals.
        SettingsError: if it is no finite number.
    """
    text = "" if cell is None else str(cell).strip()
    if text.lower() in ("", "nan", "na"):
        return None
    points = commas and isinstance(cell, str) and _POINTS.fullmatch(text) is not None
    if points or (_GROUPS.fullmatch(text) and not (commas and text.count(",") == 1)):
        whole = text.replace("," if not points else ".", "")
        raise AmbiguousNumber(
            f"{where} {text!r} may be {whole} with a mark of thousands, or a number with decimals; write {whole}, or "
            f"a decimal {'comma, as the column has them' if points else 'point'}"
        )
    plain = text.replace(",", ".") if _COMMA.fullmatch(text) else text
    try:
        value = math.nan if isinstance(cell, bool) else float(plain)
    except (ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value) or "_" in text:
        raise SettingsError(f"{where} {text!r} is no finite number")
    return value


class AmbiguousNumber(SettingsError):
    """A cell that two readers would take for two numbers."""
