"""Runs that gained nothing and returned the base: a report says so in place of a number. No torch."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graft_lightning.reports.comparison import Run, last_runs
from graft_lightning.runs import KEPT

NO_GAIN = "no gain"


def kept_of(folder: Path) -> dict[str, Any] | None:
    """What a fit said of the weights that it ended with; None where it did not compare any."""
    try:
        found = json.loads((folder / KEPT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and {"kept", "reward"} <= found.keys() else None


def without_gain(runs: Sequence[Run], stage: str) -> tuple[dict[tuple[str, str], str], list[str]]:
    """The cells of methods of which every run returned the base, and a line for each method of which some did.

    Args:
        runs: evaluations.
        stage: which held-out conditions.

    Returns:
        (method, metric) -> what stands in the place of a number; lines of the report.
    """
    by_method: dict[str, list[Path]] = {}
    for run in last_runs(runs, stage):
        if run.method != "base":
            by_method.setdefault(run.method, []).append(run.folder)
    cells, lines = {}, []
    for method, folders in by_method.items():
        records = [record for folder in folders if (record := kept_of(folder)) is not None]
        returned = [record for record in records if record["kept"] == "base"]
        if not returned:
            continue
        if len(returned) == len(folders):
            cells[method, returned[0]["reward"]] = NO_GAIN
        causes = dict.fromkeys(record["cause"] for record in returned if record.get("cause"))
        of_all = "" if len(folders) == 1 else f" in {len(returned)} of {len(folders)} runs"
        lines.append(f"- {method}: {NO_GAIN}{of_all}, the base was returned. Likely cause: {'; '.join(causes)}.")
    return cells, [*lines, ""] if lines else []
