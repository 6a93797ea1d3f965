"""The divergence that each round of a run has spent, as a table of a report. No torch."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from graft_lightning.runs import ROUNDS, belongs, read_records, run_in
from graft_lightning.statistics import interval

TEXT = (
    "What the rule of each round asks for, and what training on it has taken up, in nats of divergence from the model "
    "that drew the round: the rise of the bound on the likelihood of accepted samples. Their sums are budgets, no "
    "divergence from the reference. Much more taken up than asked for: the accepted samples are learned by heart."
)


def round_kl_section(folders: Iterable[Path], prefix: str = "") -> tuple[list[str], dict[str, Any]]:
    """Table and record of all runs below some folders; nothing where no run has several rounds.

    Args:
        folders: folders of runs, or above them.
        prefix: beginning of the names of what is right below.
    """
    pattern = f"{prefix}*/**/{ROUNDS}" if prefix else f"**/{ROUNDS}"
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    for file in sorted({file for folder in folders for file in folder.glob(pattern)}):
        own = {
            (record["method"], record["round"]): record["spent"]
            for record in read_records(file.parent, ROUNDS)
            if belongs(record, run_in(file.parent))
        }  # of a round that was measured twice, as by a run that was killed behind it, the last
        for key, spent in own.items():
            found.setdefault(key, []).append(spent)
    if not found:
        return [], {}
    names = ("kl_asked", "kl_taken_up")
    rows: list[dict[str, Any]] = []
    for method in sorted({method for method, _ in found}):
        own_rows: list[dict[str, Any]] = [
            {"method": method, "round": number, **{n: interval([s.get(n, math.nan) for s in runs]) for n in names}}
            for (of, number), runs in sorted(found.items())
            if of == method
        ]
        total = {name: {"mean": sum(row[name]["mean"] for row in own_rows)} for name in names}
        rows += [*own_rows, {"method": method, "round": "all", **total}]
    cells = [[row["method"], str(row["round"]), *(f"{row[name]['mean']:.2f}" for name in names)] for row in rows]
    lines = ["| method | round | asked for | taken up |", "|---|---|---|---|"]
    lines += ["| " + " | ".join(row) + " |" for row in cells]
    return ["### KL by round", "", TEXT, "", *lines, ""], {"round_kl": rows}
