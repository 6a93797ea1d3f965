"""Rows of scores, (condition, draw, scores) each: gathered from all processes, summarised and laid out as a table."""

from collections.abc import Sequence
from typing import Any

from graft_lightning.statistics import Interval, finite_mean, over_conditions


def condition_means(rows: Sequence[tuple[str, int, list[float]]], column: int) -> dict[str, float]:
    """The mean score of every condition; NaN where none is finite."""
    scores: dict[str, list[float]] = {}
    for text, _, values in rows:
        scores.setdefault(text, []).append(values[column])
    return {text: finite_mean(values) for text, values in scores.items()}


def summarise(rows: Sequence[tuple[str, int, list[float]]], column: int) -> Interval:
    """Mean over conditions of the mean score with its 95 % interval (`over_conditions`)."""
    scores: dict[str, list[float]] = {}
    for text, _, values in rows:
        scores.setdefault(text, []).append(values[column])
    return over_conditions(list(scores.values()))


def table(rows: Sequence[tuple[str, int, list[float]]], column: int) -> list[list[float]]:
    """Scores by condition and draw."""
    by_condition: dict[str, dict[int, float]] = {}
    for text, number, values in rows:
        by_condition.setdefault(text, {})[number] = round(values[column], 6)
    return [[draws[number] for number in sorted(draws)] for draws in by_condition.values()]


def gathered(rows: list[Any]) -> list[Any]:
    """The rows of all processes, in an order that does not depend on their number."""
    import torch.distributed as dist

    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        parts: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(parts, rows)
        rows = [row for part in parts for row in part]
    return sorted(rows, key=lambda row: row[:2])
