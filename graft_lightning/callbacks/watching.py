"""Looks at every evaluation beside the base's, and tells what should not be there."""

from pathlib import Path
from typing import Any

import lightning as L

from graft_lightning.callbacks.alarms import Alarms, Gap, base_figures, curves_of, gaps, raised, tell
from graft_lightning.callbacks.loggers import log_curves, log_lines
from graft_lightning.runs import ALARMS, read_records


def watch(
    trainer: L.Trainer, folder: Path, record: dict[str, Any], figures: dict[str, float], alarms: Alarms, reward: str
) -> dict[str, Any]:
    """Compares an evaluation with the base's, logs what it finds and warns.

    Args:
        trainer: has the loggers.
        folder: of the run, which has the base's figures and scores.
        record: of the evaluation.
        figures: what its samples are like (`figures_of`).
        alarms: when to warn.
        reward: the name of the score that is trained on, with which judges are compared.

    Returns:
        What was written.
    """
    base: dict[str, float] = {}
    found: list[Gap] = []
    if record["method"] != "base":
        base = base_figures(folder)
        same = [r for r in read_records(folder) if (r["stage"], r["method"]) == (record["stage"], "base")]
        if same and alarms.judges:
            found = gaps(reward, record["scores"], same[-1]["scores"])
    lines = raised(alarms, figures, base, found)
    earlier = [r["alarms"] for r in read_records(folder, ALARMS) if r["stage"] == record["stage"]]
    before = {name for names in earlier for name in names}
    curves = curves_of(figures, base, found, lines, before, record["stage"])
    if (record["stage"], record["method"]) != ("test", "base"):
        log_curves(trainer, curves, record["step"])
    where: dict[str, Any] = {name: record[name] for name in ("stage", "method", "step", "run") if name in record}
    watched: dict[str, Any] = {**where, "metrics": figures, "alarms": lines}
    tell(folder, watched)
    log_lines(trainer, "alarms", lines, record["step"])
    return watched
