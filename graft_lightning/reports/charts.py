"""Charts of comparisons."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graft_lightning.durable import replacing
from graft_lightning.statistics import Interval

COLOURS = ("#1b7f5c", "#3566b0", "#c0502d", "#7d4fa0", "#b8860b", "#2b8ca3", "#8a8f98", "#a03060")
CONTROLS = ("base", "unselected", "further", "best_of")
"""Beginnings of the names of methods that are not ours: grey in every chart."""


def bars(table: Mapping[str, Mapping[str, Interval]], metric: str, label: str, path: Path) -> None:
    """Horizontal bars with intervals, one a method."""
    rows = [(method, row[metric]) for method, row in table.items() if metric in row]
    figure, axis = _axes(7.5, 0.34 * len(rows) + 1.0)
    for place, (method, value) in enumerate(reversed(rows)):
        colour = "#9aa1ab" if method.startswith(CONTROLS) else COLOURS[0]
        axis.barh(place, value["mean"], color=colour, height=0.7)
        if value["low"] == value["low"]:
            axis.plot([value["low"], value["high"]], [place, place], color="black", linewidth=1.2)
    axis.set_yticks(range(len(rows)), [method for method, _ in reversed(rows)])
    axis.set_xlabel(f"{label} (95 % interval)")
    if all(value["mean"] >= 0 for _, value in rows):
        axis.set_xlim(left=0)
    save_figure(figure, path)


def learning_curves(points: Mapping[str, Sequence[tuple[int, Interval]]], label: str, path: Path) -> None:
    """A metric over gradient steps, one line a method, with intervals where several seeds give one."""
    figure, axis = _axes(8, 4.4)
    methods = [method for method in points if method != "base"]
    for number, method in enumerate(methods):
        steps = [step for step, _ in points[method]]
        colour = COLOURS[number % len(COLOURS)]
        style = ("-", "--", ":")[number // len(COLOURS) % 3]
        axis.plot(steps, [f["mean"] for _, f in points[method]], style, color=colour, marker="o", ms=3, label=method)
        # the interval of two seeds is wider than any chart
        if all(f["n"] >= 3 and f["low"] == f["low"] for _, f in points[method]):
            low, high = ([f[end] for _, f in points[method]] for end in ("low", "high"))
            axis.fill_between(steps, low, high, color=colour, alpha=0.12, linewidth=0)
    if "base" in points:
        axis.axhline(points["base"][-1][1]["mean"], color="#8a8f98", linewidth=1, label="base")
    axis.set(xlabel="gradient steps", ylabel=label)
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    save_figure(figure, path)


def _axes(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure as Canvas  # heavy, and a report needs no pyplot

    figure = Canvas(figsize=(width, height), layout="constrained")
    axis = figure.subplots()
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis


def frontier(
    table: Mapping[str, Mapping[str, Interval]],
    series: Mapping[str, Sequence[str]],
    axes: tuple[str, str],
    labels: tuple[str, str],
    path: Path,
    level: tuple[str, float] | None = None,
    scale: str = "log",
) -> None:
    """One metric against another, quality against cost say, one line a series, with intervals from three seeds on.

    Args:
        table: method -> metric -> figure.
        series: label -> methods, in the order of the line.
        axes: metric of the horizontal and of the vertical axis.
        labels: of the two axes.
        path: of the PNG.
        level: label and height of a horizontal line, a floor.
        scale: of the horizontal axis, "log" or "linear".
    """
    figure, axis = _axes(8, 4.8)
    for number, (label, methods) in enumerate(series.items()):
        rows = [table[m] for m in methods if m in table and all(name in table[m] for name in axes)]
        if not rows:
            continue
        control = label.startswith(CONTROLS)
        colour = "#8a8f98" if control and number == 0 else COLOURS[number % len(COLOURS)]
        x, y = ([row[name]["mean"] for row in rows] for name in axes)
        known = [row[axes[1]]["n"] >= 3 and row[axes[1]]["low"] == row[axes[1]]["low"] for row in rows]
        errors = [
            [row[axes[1]]["mean"] - row[axes[1]]["low"] if k else 0 for row, k in zip(rows, known, strict=True)],
            [row[axes[1]]["high"] - row[axes[1]]["mean"] if k else 0 for row, k in zip(rows, known, strict=True)],
        ]
        axis.errorbar(x, y, yerr=errors, color=colour, marker="o", ms=4, lw=1.3, capsize=2, label=label)
    if level is not None:
        axis.axhline(level[1], color="black", linewidth=0.8, linestyle=":", label=level[0])
    axis.set(xlabel=labels[0], ylabel=labels[1], xscale=scale)
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    save_figure(figure, path)


def forest(rows: Mapping[str, Mapping[str, Mapping[str, Interval]]], label: str, path: Path) -> None:
    """Differences with intervals, one line a setting under the heading of its factor, one colour a method.

    Args:
        rows: factor -> setting -> method -> difference.
        label: of the horizontal axis.
        path: of the PNG.
    """
    methods = list(dict.fromkeys(method for settings in rows.values() for row in settings.values() for method in row))
    lines = [line for factor, settings in rows.items() for line in [(factor, None), *settings.items()]]
    figure, axis = _axes(8, 0.3 * len(lines) + 1.2)
    step = 0.8 / max(1, len(methods))
    for place, (_, row) in enumerate(lines):
        for number, method in enumerate(methods):
            if row is None or method not in row:
                continue
            value, height = row[method], place + (number - (len(methods) - 1) / 2) * step
            known = value["low"] == value["low"]
            clear = known and (value["low"] > 0 or value["high"] < 0)
            colour = COLOURS[number % len(COLOURS)]
            if known:
                axis.plot([value["low"], value["high"]], [height, height], color=colour, linewidth=1.2)
            axis.plot(value["mean"], height, "o", ms=4.5, color=colour, markerfacecolor=colour if clear else "white")
    for number, method in enumerate(methods):
        axis.plot([], [], "o-", color=COLOURS[number % len(COLOURS)], label=method)
    axis.axvline(0, color="black", linewidth=0.8, linestyle=":")
    axis.set_yticks(range(len(lines)), [name for name, _ in lines])
    for tick, (_, row) in zip(axis.get_yticklabels(), lines, strict=True):
        tick.set_fontweight("bold" if row is None else "normal")
    axis.set(xlabel=f"{label} (95 % interval)", ylim=(len(lines) - 0.4, -0.6))
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    save_figure(figure, path)


def save_figure(figure: Any, path: Path) -> None:
    """Writes a figure of matplotlib, durably."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150, format=path.suffix[1:])
