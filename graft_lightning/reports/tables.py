"""Tables of a report, in Markdown: a row a method, a column a metric, each with its interval."""

import math
from collections.abc import Mapping, Sequence

from graft_lightning.statistics import Interval

Table = Mapping[str, Mapping[str, Interval]]
"""Method -> metric -> figure."""


def tables(
    table: Table,
    metrics: Mapping[str, str],
    split: Mapping[str, Sequence[str]] | None,
    instead: Mapping[tuple[str, str], str] | None = None,
) -> list[str]:
    """One table, or one for each part of a split; what a part names and nobody has run is left out."""
    if not split:
        return markdown_table(table, metrics, instead=instead)
    lines = []
    for heading, methods in split.items():
        rows = {method: table[method] for method in methods if method in table}
        if rows:
            lines += [f"### {heading}", "", *markdown_table(rows, metrics, instead=instead), ""]
    return lines


def text_table(table: Table) -> list[str]:
    """The same for a terminal: one row a metric, one column a method."""
    metrics = list(dict.fromkeys(name for row in table.values() for name in row))
    rows = [["", *table]] + [
        [name, *(written(row[name]) if name in row else "" for row in table.values())] for name in metrics
    ]
    widths = [max(len(row[place]) for row in rows) for place in range(len(table) + 1)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def markdown_table(
    table: Table,
    metrics: Mapping[str, str],
    first: str = "method",
    instead: Mapping[tuple[str, str], str] | None = None,
) -> list[str]:
    """One row a method, one column a metric: mean and, in brackets, the 95 % interval.

    Args:
        table: method -> metric -> figure.
        metrics: labels of the columns.
        first: label of the first column.
        instead: (method, metric) -> a text in place of the figure.
    """
    told = instead or {}
    metrics = {name: label for name, label in metrics.items() if any(name in row for row in table.values())}
    lines = [f"| {first} | " + " | ".join(metrics.values()) + " |", "|---|" + "---|" * len(metrics)]
    for method, row in table.items():
        cells = [told.get((method, name)) or (written(row[name]) if name in row else "") for name in metrics]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return lines


def written(metric: Interval) -> str:
    """A metric as text: three decimals, or two digits of what is smaller than a hundredth.

    A dash where there is no number, as for the diversity of one sample a condition.
    """
    if math.isnan(metric["mean"]):
        return "–"
    places = ".3f" if not 0 < abs(metric["mean"]) < 0.01 else ".2g"
    mean, low, high = (format(metric[name], places) for name in ("mean", "low", "high"))
    return mean if metric["low"] != metric["low"] or low == high else f"{mean} [{low}, {high}]"


def ordered(table: Table, order: Sequence[str]) -> dict[str, Mapping[str, Interval]]:
    """The rows in the given order; others follow."""
    names = [name for name in order if name in table] + [name for name in table if name not in order]
    return {name: table[name] for name in names}
