"""``placebo``: what fine-tuning does to any samples, before any of it is credited to, or blamed on, selection."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L

from graft_lightning.callbacks.keep_best import plain, written
from graft_lightning.durable import write_text
from graft_lightning.reports.placebo_chart import draw_placebo
from graft_lightning.reports.short_runs import Point, Setting, ShortRuns, own_rate, progress
from graft_lightning.runs import PLACEBO, run_folder


def placebo(
    trainer: L.Trainer, runs: ShortRuns, rates: Sequence[float] | None, averages: Sequence[float], steps: int
) -> str:
    """Fine-tunes on unselected samples at several settings; writes placebo.json and placebo.png.

    Args:
        trainer: gives folder and loggers.
        runs: on the pool.
        rates: learning rates; the configuration's own, a third and a tenth of it by default.
        averages: decays of moving averages; 0 is none.
        steps: gradient steps of each run; evaluated after a third and at the end.

    Returns:
        What to print.
    """
    own = own_rate(runs.module)
    rates = sorted(set(rates or (own, own / 3, own / 10)), reverse=True)
    points: list[Point] = []
    with progress(len(rates), "Placebo") as bar:
        for rate in rates:
            points += runs.run(Setting(rate), sorted({max(1, steps // 3), steps}), averages, selected=False)
            bar.update()
    folder = run_folder(trainer)
    folder.mkdir(parents=True, exist_ok=True)
    moved = [p for p in points if p.setting.lr == rates[0] and p.step == steps and p.reward["high"] < 0]
    record = {
        "reward": runs.reward,
        "base": runs.base,
        "steps": steps,
        "gradient_steps": runs.spent,
        "moved": plain(min((p.reward for p in moved), key=lambda r: r["mean"])) if moved else None,
        "points": [recorded(point) for point in points],
    }
    write_text(folder / PLACEBO, json.dumps(record, indent=1) + "\n")
    for point in points:
        curves = {f"best/placebo/{name}/{point.setting.name}": d["mean"] for name, d in point.rewards.items()}
        for logger in trainer.loggers:
            logger.log_metrics(curves, step=point.step)
    draw_placebo(record, folder, folder / "placebo.png")
    return text_of(record, points, folder)


def recorded(point: Point) -> dict[str, Any]:
    """A point for JSON."""
    return {
        "setting": vars(point.setting) | {"name": point.setting.name},
        "step": point.step,
        "rewards": {name: plain(difference) for name, difference in point.rewards.items()},
        "change": point.change,
    }


def table_of(points: Sequence[Point]) -> list[str]:
    """A line for every point: differences from the base with their intervals, and how far samples are from its."""
    names = list(points[0].rewards)
    width = max(len(p.setting.name) for p in points)
    head = f"  {'setting':<{width}} {'step':>5} {'change':>7}  " + "  ".join(f"{name:>24}" for name in names)
    lines = [head]
    for p in points:
        cells = "  ".join(f"{written(p.rewards[name]):>24}" for name in names)
        distance = "-" if p.change is None else f"{p.change:.3f}"
        lines.append(f"  {p.setting.name:<{width}} {p.step:>5} {distance:>7}  {cells}")
    return lines


def text_of(record: Mapping[str, Any], points: Sequence[Point], folder: Path) -> str:
    """What ``placebo`` prints."""
    reward = record["reward"]
    last = [p for p in points if p.step == record["steps"]]
    still = [p for p in last if not p.falls]
    if len(still) == len(last):
        verdict = f"None of these settings lowers {reward} by itself: what a run gains or loses is selection's."
    elif still:
        best = max(still, key=lambda p: p.setting.lr)
        verdict = (
            f"{reward} falls by itself at {len(last) - len(still)} of {len(last)} settings; the largest rate at which "
            f"it does not: {best.setting.name}."
        )
    else:
        verdict = (
            f"{reward} falls by itself at every setting: it hangs on something that this network does not control, "
            "whatever the selection. Choose a reward that does not, smaller rates, or longer averages."
        )
    base = ", ".join(f"{name} {value:.3f}" for name, value in record["base"].items())
    return "\n".join(
        [
            "Fine-tuning on unselected samples: differences from the base, same seeds, with 95 % intervals",
            f"(base: {base}; {record['gradient_steps']} gradient steps; change: distance from the base's samples):",
            "",
            *table_of(points),
            "",
            verdict,
            f"Written: {folder / PLACEBO}, {folder / 'placebo.png'}",
        ]
    )
