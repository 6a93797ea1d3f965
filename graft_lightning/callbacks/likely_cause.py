"""Why a fit gained nothing: the likeliest cause, by what the run has left behind."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L

from graft_lightning.runs import ALARMS, PLACEBO, last_records
from graft_lightning.statistics import Interval

FEW = 32
"""Accepted samples, by their effective size, below which a run has little to learn from."""

UNMOVED = 0.05
"""Relative distance from the base's samples below which fine-tuning has hardly begun."""


def likely_cause(
    folder: Path, trainer: L.Trainer, module: Any, found: Mapping[int, Interval], broken: Sequence[str]
) -> str:
    """The likeliest cause in one clause, with what to try.

    Args:
        folder: of the run.
        trainer: gives the data, which know what was accepted.
        module: that was trained.
        found: paired differences of the validation reward from the base's, by step.
        broken: constraints that the last evaluation breaks.
    """
    if broken and any(difference["low"] > 0 for difference in found.values()):
        return f"the reward was hacked: it rose only where a constraint broke ({'; '.join(broken)})"
    placebo = _placebo(folder)
    if placebo is not None:
        return placebo
    fell = any(difference["high"] < 0 for difference in found.values())
    change = next((r["metrics"].get("change") for r in last_records(folder, ALARMS) if r["method"] != "base"), None)
    if not fell and change is not None and change < UNMOVED:
        return f"fine-tuning has hardly begun (samples differ by {change:.1%}): more steps, or a larger learning rate"
    selection = getattr(trainer.datamodule, "selection", None)  # type: ignore[attr-defined]
    if selection is not None and selection.effective_sample_size < FEW:
        size = selection.effective_sample_size
        return f"too few accepted (effective sample size {size:.0f}): more draws, or a milder rule"
    late = _too_late(folder, getattr(module, "state_index", 0))
    if late is not None:
        return late
    if fell:
        return (
            "placebo: fine-tuning itself, on whatever samples, seems to move what this reward hangs on; the command "
            "`placebo` shows whether it does, `tune` looks for settings that do not"
        )
    half = min((d["high"] - d["mean"] for d in found.values() if math.isfinite(d["high"])), default=math.nan)
    return f"a gain below what this validation resolves (±{half:.3f}): more data.eval_draws, or more steps"


def _placebo(folder: Path) -> str | None:
    """What a placebo in the run's folder says, where it moved the reward."""
    record = _json(folder / PLACEBO)
    if record is None or not record.get("moved"):
        return None
    return (
        f"placebo: the same steps on unselected samples lower {record['reward']} too, by "
        f"{-record['moved']['mean']:.3f}: the network does not control what this reward hangs on"
    )


def _too_late(folder: Path, state: int) -> str | None:
    """Whether a diagnosis in the run's folder says that nothing is attainable from the hand-off."""
    record = _json(folder / "diagnose.json")
    for level in (record or {}).get("levels", ()):
        attainable = level.get("attainable")
        if state and level["state"] == state and attainable and attainable["low"] <= record["reward"]["all"]:  # type: ignore[index]
            return (
                f"the hand-off is too late: accepted states finished afresh reach {attainable['mean']:.3f}, all "
                f"samples {record['reward']['all']:.3f}: hand off nearer to the data"  # type: ignore[index]
            )
    return None


def _json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
