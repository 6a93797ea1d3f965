"""Claims of a report: the setting that was chosen before, and what holds against the intervals."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from graft_lightning.reports.comparison import Run, compare
from graft_lightning.reports.tables import Table


def choose(runs: Sequence[Run], wanted: Mapping[str, Any] | None) -> tuple[dict[str, str], list[str]]:
    """The setting that is best on the conditions for choosing, and a sentence that says so.

    Args:
        runs: evaluations.
        wanted: ``{name, among, stage, metric}``; claims that speak of ``name`` mean the chosen method.
    """
    if not wanted:
        return {}, []
    table = compare(runs, wanted["stage"])
    found = {method: table[method][wanted["metric"]] for method in wanted["among"] if method in table}
    found = {method: metric for method, metric in found.items() if metric["mean"] == metric["mean"]}
    if not found:
        return {}, []
    best = max(found, key=lambda method: found[method]["mean"])
    metrics = ", ".join(f"{method} {metric['mean']:.3f}" for method, metric in found.items())
    return {wanted["name"]: best}, [f"Chosen on the conditions for choosing settings: **{best}** ({metrics}).", ""]


def verdicts(table: Table, claims: Iterable[Mapping[str, Any]], metrics: Mapping[str, str]) -> list[str]:
    """Every claim, held against the intervals: it stands only where the lower end lies above the others' upper ends."""
    lines = []
    for claim in claims:
        metric = claim.get("metric", next(iter(metrics)))
        if claim["better"] not in table or any(other not in table for other in claim["than"]):
            continue
        low = table[claim["better"]][metric]["low"]
        not_below = [other for other in claim["than"] if not table[other][metric]["high"] < low]
        verdict = "**holds**" if not not_below else f"**does not hold** against {', '.join(not_below)}"
        lines.append(
            f"- {claim['better']} above {', '.join(claim['than'])} ({metrics.get(metric, metric)}): {verdict}."
        )
    return [*lines, ""] if lines else []
