"""Reward against what was spent: three budgets side by side, and a table where each of them is held equal."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graft_lightning.reports.charts import frontier
from graft_lightning.reports.comparison import Run
from graft_lightning.statistics import Interval, finite_mean, interval, without_interval

BUDGETS = {
    "samples": "samples drawn",
    "reward_calls": "reward calls",
    "forward_backward": "forward-and-backward calls, one sample each",
}
"""What may be held equal; calls without gradient and time are in the records beside them."""

Points = dict[str, list[tuple[float, Interval]]]
"""By method: budget and metric, in order of the budget."""


def points_of(runs: Sequence[Run], metric: str, budget: str) -> Points:
    """Reward over a budget, on the conditions for choosing settings, seeds taken together step by step.

    Args:
        runs: evaluations.
        metric: of the vertical axis.
        budget: one of `BUDGETS`.
    """
    found: dict[str, dict[int, list[Run]]] = {}
    for run in runs:
        if run.stage == "validate" and run.method != "base" and metric in run.values and run.spent.get(budget):
            found.setdefault(run.method, {}).setdefault(run.step, []).append(run)
    return {
        method: sorted(
            (
                (sum(r.spent[budget] for r in same) / len(same), interval([r.values[metric] for r in same]))
                for same in by_step.values()
            ),
            key=lambda point: point[0],
        )
        for method, by_step in found.items()
    }


def at_equal(points: Points) -> tuple[float, dict[str, Interval]]:
    """The largest budget that every method has reached, and each one's last evaluation within it.

    A method that was not evaluated so early is left out.
    """
    equal = min(found[-1][0] for found in points.values())
    last = {method: [metric for spent, metric in found if spent <= equal] for method, found in points.items()}
    return equal, {method: within[-1] for method, within in last.items() if within}


def budget_section(runs: Sequence[Run], metric: str, label: str, out: Path) -> tuple[list[str], dict[str, Any]]:
    """Charts and table of a report, and what they show; nothing where no run says what it has spent.

    Args:
        runs: evaluations.
        metric: whose budget is asked for.
        label: of the metric.
        out: folder of the charts.
    """
    by_budget = {budget: found for budget in BUDGETS if (found := points_of(runs, metric, budget))}
    if not by_budget:
        return [], {}
    of_base = finite_mean(
        [r.values[metric] for r in runs if (r.method, r.stage) == ("base", "validate") and metric in r.values]
    )
    level = None if math.isnan(of_base) else ("base", of_base)
    lines = ["### Budgets", "", f"{label} on the conditions for choosing settings, against what had been spent.", ""]
    record: dict[str, Any] = {}
    equal: dict[str, dict[str, Interval]] = {}
    columns = {}
    for budget, points in by_budget.items():
        if len({x for line in points.values() for x, _ in line}) > 1:  # all at one place would be a vertical line
            image = f"budget-{budget}.png"
            _draw(points, budget, metric, label, out / image, level)
            lines += [f"![{label} against {BUDGETS[budget]}]({image})", ""]
        record[budget] = {method: [{"spent": x, **found} for x, found in line] for method, line in points.items()}
        most, rows = at_equal(points)
        columns[budget] = f"at {most:,.0f} {BUDGETS[budget].partition(',')[0]}"
        for method, reached in rows.items():
            equal.setdefault(method, {})[budget] = reached
    if len(equal) > 1:
        record["equal"] = equal
        lines += [f"{label} at equal budget, one budget a column:", "", *_table(equal, columns), ""]
    return lines, {"budgets": record}


def _draw(points: Points, budget: str, metric: str, label: str, path: Path, level: tuple[str, float] | None) -> None:
    rows: dict[str, Mapping[str, Interval]] = {}
    series: dict[str, list[str]] = {}
    for method, line in points.items():
        for number, (spent, found) in enumerate(line):
            rows[f"{method} {number}"] = {budget: without_interval(spent), metric: found}
            series.setdefault(method, []).append(f"{method} {number}")
    frontier(rows, series, (budget, metric), (BUDGETS[budget], label), path, level, "linear")


def _table(rows: Mapping[str, Mapping[str, Interval]], columns: Mapping[str, str]) -> list[str]:
    lines = ["| method | " + " | ".join(columns.values()) + " |", "|---|" + "---|" * len(columns)]
    for method, row in rows.items():
        cells = [f"{row[name]['mean']:.3f}" if name in row else "" for name in columns]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return lines
