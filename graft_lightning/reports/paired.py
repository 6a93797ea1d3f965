"""Claims that compare runs seed by seed: of two methods on the same seeds, the difference scatters least."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from graft_lightning.reports.comparison import Run, last_runs
from graft_lightning.statistics import Interval, interval

COST = "gigaflops"


def differences(runs: Sequence[Run], method: str, other: str, metric: str, stage: str) -> Interval:
    """``method`` less ``other``, over the seeds that both have.

    Args:
        runs: evaluations.
        method: name of a method.
        other: name of another.
        metric: what is compared.
        stage: which held-out conditions.
    """
    by_seed: dict[str, dict[int, float]] = {method: {}, other: {}}
    for run in last_runs(runs, stage):
        if run.method in by_seed and metric in run.values:
            by_seed[run.method][run.seed] = run.values[metric]
    shared = sorted(by_seed[method].keys() & by_seed[other].keys())
    return interval([by_seed[method][seed] - by_seed[other][seed] for seed in shared])


def paired_verdicts(
    runs: Sequence[Run], claims: Iterable[Mapping[str, Any]], metrics: Mapping[str, str], stage: str
) -> tuple[list[str], list[dict[str, Any]]]:
    """Every claim that one method lies below, or above, others, held against the interval of the paired differences.

    Args:
        runs: evaluations.
        claims: ``{lower, than: [...], metric}``, or ``higher`` in the place of ``lower``.
        metrics: labels; the first is claimed of where a claim names none.
        stage: which held-out conditions.

    Returns:
        Lines of the report, and the same as records.
    """
    lines, records = [], []
    for claim in claims:
        metric = claim.get("metric", next(iter(metrics)))
        side = "lower" if "lower" in claim else "higher"
        method = claim[side]
        for other in claim["than"]:
            found = differences(runs, method, other, metric, stage)
            if not found["n"]:
                continue
            cost = differences(runs, method, other, COST, stage)
            known = found["low"] == found["low"]
            holds = known and (found["high"] < 0 if side == "lower" else found["low"] > 0)
            verdict = "**holds**" if holds else "**does not hold**" if known else "one seed shows nothing"
            ends = f" [{found['low']:.3f}, {found['high']:.3f}]" if known else ""
            price = (
                "" if not cost["n"] else f"; {'fewer or equal' if cost['mean'] <= 0 else 'more'} operations a sample"
            )
            label = metrics.get(metric, metric)
            where = "below" if side == "lower" else "above"
            lines.append(
                f"- {method} {where} {other} ({label}): {verdict}: {found['mean']:+.3f}{ends} over {found['n']} "
                f"seeds{price}."
            )
            records.append({side: method, "than": other, "metric": metric, "holds": holds, **found})
    return [*lines, ""] if lines else [], records


def positive_verdicts(
    table: Mapping[str, Mapping[str, Interval]], claims: Iterable[Mapping[str, str]], metrics: Mapping[str, str]
) -> list[str]:
    """Every claim that a metric of a method lies above zero, held against its interval.

    Args:
        table: method -> metric -> figure.
        claims: ``{method, metric}``.
        metrics: labels.
    """
    lines = []
    for claim in claims:
        metric = table.get(claim["method"], {}).get(claim["metric"])
        if metric is None:
            continue
        known = metric["low"] == metric["low"]
        verdict = "one seed shows nothing" if not known else "**holds**" if metric["low"] > 0 else "**does not hold**"
        ends = f" [{metric['low']:.4f}, {metric['high']:.4f}]" if known else ""
        label = metrics.get(claim["metric"], claim["metric"])
        lines.append(f"- {claim['method']}, {label} above 0: {verdict}: {metric['mean']:.4f}{ends}.")
    return [*lines, ""] if lines else []
