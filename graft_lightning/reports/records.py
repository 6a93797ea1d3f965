"""Tables of the JSON records that runs leave beside their evaluations: inversions, round trips."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from graft_lightning.runs import read_json


def record_table(folders: Iterable[Path], wanted: Mapping[str, Any]) -> tuple[list[str], list[dict[str, Any]]]:
    """One row for every set of values of the ``by`` columns, means over the files; of a maximum, the largest.

    Args:
        folders: that are searched.
        wanted: ``{files: pattern below the folders, by: [keys], columns: {key: label}}``; a key may reach into nested
            records by dots. A key that ends in "max" is joined by its maximum.

    Returns:
        Lines of the report, and the rows.
    """
    files = [file for folder in folders for file in sorted(folder.glob(wanted["files"]))]
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for file in files:
        found = read_json(file)
        for record in found if isinstance(found, list) else [found]:
            groups.setdefault(tuple(_at(record, key) for key in wanted["by"]), []).append(record)
    if not groups:
        return [], []
    columns: dict[str, str] = wanted["columns"]
    rows = [
        {**dict(zip(wanted["by"], key, strict=True)), **{c: _joined(c, [_at(r, c) for r in found]) for c in columns}}
        for key, found in sorted(groups.items(), key=lambda item: tuple(map(str_key, item[0])))
    ]
    labels = [*wanted["by"], *columns.values()]
    lines = ["| " + " | ".join(labels) + " |", "|" + "---|" * len(labels)]
    lines += ["| " + " | ".join(_text(value) for value in row.values()) + " |" for row in rows]
    return [*lines, ""], rows


def str_key(value: Any) -> tuple[int, float, str]:
    """Sorts numbers before texts."""
    return (0, float(value), "") if isinstance(value, int | float) else (1, 0.0, str(value))


def _at(record: Mapping[str, Any], key: str) -> Any:
    value: Any = record
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _joined(key: str, values: Sequence[Any]) -> float:
    numbers = [float(value) for value in values if value is not None and math.isfinite(float(value))]
    if not numbers:
        return math.nan
    return max(numbers) if key.endswith("max") else sum(numbers) / len(numbers)


def _text(value: Any) -> str:
    if not isinstance(value, float) or value.is_integer():
        return str(int(value)) if isinstance(value, float) else str(value)
    return "-" if value != value else f"{value:.3g}" if abs(value) < 1e-2 or abs(value) >= 1e3 else f"{value:.4g}"
