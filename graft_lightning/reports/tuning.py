"""``tune``: learning rate, weighting, average and steps, by placebo and validation reward within a budget of steps."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import lightning as L

from graft_lightning.durable import write_text
from graft_lightning.reports.placebo import recorded, table_of
from graft_lightning.reports.short_runs import OWN, Point, Setting, ShortRuns, own_rate, progress
from graft_lightning.runs import TUNED, run_folder
from graft_lightning.types import SettingsError

PLACEBO_SHARE = 0.25
"""Of the budget, for the placebo of every learning rate."""

SPREAD = (3.0, 1.0, 1 / 3, 0.1)
"""Learning rates that are tried, in units of the configuration's own."""

LEAST = 8
"""Steps of a run below which nothing can be seen."""


@dataclass(frozen=True)
class Tuned:
    """What was chosen.

    Attributes:
        point: the evaluation that won; None where nothing beat the base.
        text: what to print.
        record: what tuned.json holds.
    """

    point: Point | None
    text: str
    record: Mapping[str, Any]


def tune(
    trainer: L.Trainer,
    runs: ShortRuns,
    budget: int,
    rates: Sequence[float] | None,
    averages: Sequence[float],
    baselines: Sequence[str],
) -> Tuned:
    """Chooses settings; the same for every method, since all it needs is a loss and a validation reward.

    A quarter of the budget goes into placebos: of every learning rate with every weighting and baseline. Where the
    reward falls by itself, significantly and whatever the average, or no sample can be scored, that setting is left out
    (all but the smallest rate, if all do). The rest is shared evenly by the others; each run is evaluated after a
    quarter, a half and all of its steps, with every average. What wins has the highest lower end of the interval of the
    paired difference from the base: above 0, or nothing is chosen.

    Args:
        trainer: gives the folder.
        runs: on the pool.
        budget: gradient steps in all.
        rates: learning rates; by default `SPREAD` around the configuration's own.
        averages: decays of moving averages; 0 is none.
        baselines: "own" and, to try it too, "unselected".

    Raises:
        SettingsError: if the budget leaves a run too few steps.
    """
    own = own_rate(runs.module)
    tried = sorted(set(rates or (own * factor for factor in SPREAD)), reverse=True)
    kinds = [(weighting, baseline) for weighting in (OWN, *runs.weightings) for baseline in baselines]
    every = [Setting(rate, weighting, baseline) for rate in tried for weighting, baseline in kinds]
    short = int(budget * PLACEBO_SHARE) // len(every)
    left = budget - short * len(every)
    if short < LEAST:
        raise SettingsError(
            f"budget={budget} gradient steps for {len(tried)} rates and {len(kinds)} losses: at least "
            f"{int(LEAST * len(every) / PLACEBO_SHARE)} are needed, so that each run has {LEAST}"
        )
    unselected: list[Point] = []
    with progress(len(every), "Placebo") as bar:
        for setting in every:
            unselected += runs.run(setting, [short], averages, selected=False)
            bar.update()
    still = {replace(p.setting, average=0.0) for p in unselected if not p.falls}
    settings = [setting for setting in every if setting in still] or every[-len(kinds) :]
    each = left // len(settings)
    steps = sorted({max(1, each // 4), max(1, each // 2), each})
    points: list[Point] = []
    with progress(len(settings), "Tuning") as bar:
        for setting in settings:
            points += runs.run(setting, steps, averages)
            bar.update()
    better = [p for p in points if p.reward["low"] > 0]  # not NaN, which max would not pass by
    chosen = max(better, key=lambda p: (p.reward["low"], -p.step), default=None)
    record = {
        "reward": runs.reward,
        "base": runs.base,
        "budget": budget,
        "gradient_steps": runs.spent,
        "rates": tried,
        "fit": [setting.name for setting in settings],
        "chosen": None if chosen is None else recorded(chosen),
        "placebo": [recorded(point) for point in unselected],
        "tried": [recorded(point) for point in points],
    }
    folder = run_folder(trainer)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / TUNED, json.dumps(record, indent=1) + "\n")
    return Tuned(chosen, text_of(record, unselected, points, chosen), record)


def text_of(record: Mapping[str, Any], unselected: Sequence[Point], points: Sequence[Point], best: Point | None) -> str:
    """What ``tune`` prints."""
    reward = record["reward"]
    names = dict.fromkeys(replace(p.setting, average=0.0).name for p in unselected)
    left_out = [name for name in names if name not in record["fit"]]
    told = f"Left out, for the reward falls by itself: {'; '.join(left_out)}." if left_out else ""
    verdict = (
        f"Nothing beats the base ({reward} {record['base'][reward]:.3f}) within this budget: keep it, or change the "
        "reward, the rule or the budget."
        if best is None
        else f"Chosen: {best.setting.name}, {best.step} steps: {reward} {record['base'][reward]:.3f} "
        f"{best.reward['mean']:+.3f} [{best.reward['low']:+.3f}, {best.reward['high']:+.3f}] on the conditions for "
        "choosing settings."
    )
    return "\n".join(
        line
        for line in [
            f"{record['gradient_steps']} of {record['budget']} gradient steps; differences from the base, same seeds.",
            "Placebo, on unselected samples:",
            *table_of(unselected),
            told,
            "On selected samples:",
            *table_of(points),
            "",
            verdict,
        ]
        if line or line == ""
    )


def with_settings(config: dict[str, Any], point: Point, weightings: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A configuration with the settings of a point: rate, weighting, baseline, average, steps.

    Args:
        config: of a run, as plain values; it is changed.
        point: what was chosen.
        weightings: how the weightings that it may name are written.
    """
    model, trainer = config["model"]["init_args"], config["trainer"]
    optimiser = model.get("optimizer") or {"class_path": "torch.optim.AdamW"}
    optimiser.setdefault("init_args", {})
    optimiser["init_args"] = {**(optimiser["init_args"] or {}), "lr": point.setting.lr}
    model["optimizer"] = optimiser
    model["lr_scheduler"] = None  # short runs had none
    if point.setting.baseline != OWN:
        model["baseline"] = point.setting.baseline
    if point.setting.weighting != OWN:
        objective = model.get("objective") or {"class_path": "graft_lightning.processes.objectives.Objective"}
        objective["init_args"] = {
            **(objective.get("init_args") or {}),
            "weighting": weightings[point.setting.weighting],
        }
        model["objective"] = objective
    averages = "graft_lightning.callbacks.TrainableEMA"
    callbacks = [c for c in trainer.get("callbacks") or [] if not c["class_path"].endswith("TrainableEMA")]
    if point.setting.average:
        callbacks.insert(0, {"class_path": averages, "init_args": {"decay": point.setting.average}})
    trainer["callbacks"] = callbacks
    trainer["max_steps"] = point.step
    return config
