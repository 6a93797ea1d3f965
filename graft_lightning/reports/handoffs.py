"""Where a hand-off pays, one factor at a time, and whether ``diagnose`` had foretold it. No torch."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from graft_lightning.reports.charts import forest
from graft_lightning.reports.comparison import Run, last_runs
from graft_lightning.runs import read_json
from graft_lightning.statistics import Interval, finite_mean, interval, rank_correlation

DIAGNOSIS = "diagnose.json"
IMAGE = "handoffs.png"
TEXT = (
    "The gain of a hand-off over the same setting without one, seed by seed, in standard deviations of the reward "
    "among the base's samples; at 0 both are alike. A filled mark: its 95 % interval excludes 0."
)


def handoff_section(
    runs: Sequence[Run], folders: Iterable[Path], wanted: Mapping[str, Any] | None, stage: str, out: Path
) -> tuple[list[str], dict[str, Any]]:
    """The map with its picture, and what ``diagnose`` had said beforehand; nothing where none is asked for.

    Args:
        runs: evaluations. A method of a setting is called "<setting>: <method>".
        folders: where the runs lie.
        wanted: ``{factors: {factor: {setting: metric}}, methods: {name: N_I / N}, than: the method without a hand-off,
            against: {setting: another method that it is held against}, base, diagnosed: {setting: folder beside its
            runs that ``diagnose`` wrote to}, text}``.
        stage: which held-out conditions.
        out: folder of the picture.

    Returns:
        Lines of the report, and its record.
    """
    if not wanted:
        return [], {}
    found = last_runs(runs, stage)
    base = [run for run in found if run.method == wanted["base"]]
    rows: dict[str, dict[str, dict[str, Interval]]] = {}
    for factor, settings in wanted["factors"].items():
        for setting, metric in settings.items():
            than = wanted.get("against", {}).get(setting, f"{setting}: {wanted['than']}")
            gains = {method: _gain(found, base, f"{setting}: {method}", than, metric) for method in wanted["methods"]}
            if any(gain["n"] for gain in gains.values()):
                rows.setdefault(factor, {})[setting] = {m: gain for m, gain in gains.items() if gain["n"]}
    if not rows:
        return [], {}
    forest(rows, f"gain over {wanted['than']}, standard deviations of the reward", out / IMAGE)
    text = [line for line in (wanted.get("text", "").strip(), "") if wanted.get("text")]
    lines = ["## Where a hand-off pays", "", *text, TEXT, "", f"![{TEXT}]({IMAGE})", ""]
    lines += ["| | setting | " + " | ".join(wanted["methods"]) + " |", "|---|---|" + "---|" * len(wanted["methods"])]
    for factor, settings in rows.items():
        for setting, gains in settings.items():
            cells = [_told(gains[method]) if method in gains else "" for method in wanted["methods"]]
            lines.append(f"| {factor} | {setting} | " + " | ".join(cells) + " |")
    told, foretold = _foretold(found, list(folders), wanted)
    record = {"handoffs": {"gains": rows, **({"foretold": foretold} if foretold else {})}}
    return [*lines, "", *told], record


def _gain(runs: Sequence[Run], base: Sequence[Run], method: str, than: str, metric: str) -> Interval:
    """The paired difference over the seeds that have both and a base, in deviations of the base's scores."""
    ours, theirs = (
        {run.seed: run.values[metric] for run in runs if run.method == name and metric in run.values}
        for name in (method, than)
    )
    units = {run.seed: _deviation(run.scores[metric]) for run in base if metric in run.scores}
    shared = sorted(ours.keys() & theirs.keys() & units.keys())
    return interval([(ours[seed] - theirs[seed]) / units[seed] for seed in shared if units[seed] > 0])


def _deviation(table: Sequence[Sequence[float]]) -> float:
    """Standard deviation of a score within the conditions, which is what selection has to choose from."""
    squares, count = 0.0, 0
    for row in table:
        finite = [value for value in row if math.isfinite(value)]
        mean = finite_mean(finite)
        squares += math.fsum((value - mean) ** 2 for value in finite)
        count += max(0, len(finite) - 1)
    return math.sqrt(squares / count) if count else math.nan


def _foretold(
    runs: Sequence[Run], folders: Sequence[Path], wanted: Mapping[str, Any]
) -> tuple[list[str], dict[str, Any]]:
    """What was recommended, what was best, and how the two are ranked."""
    levels = {wanted["than"]: 0.0, **wanted["methods"]}
    metrics = {setting: metric for settings in wanted["factors"].values() for setting, metric in settings.items()}
    rows: list[dict[str, Any]] = []
    for setting, cell in wanted.get("diagnosed", {}).items():
        for seed in sorted({run.seed for run in runs}):
            trained = {
                levels[name]: run
                for name in levels
                for run in runs
                if (run.method, run.seed) == (f"{setting}: {name}", seed) and metrics[setting] in run.values
            }
            file = next((run.folder.parent / cell / DIAGNOSIS for run in trained.values()), None)
            if file is None or not file.is_file() or len(trained) < len(levels):
                continue
            said = read_json(file)
            reward = {level: run.values[metrics[setting]] for level, run in sorted(trained.items())}
            reach = {0.0: said["reward"]["accepted"]}
            reach.update({round(row["fraction"], 3): row["attainable"]["mean"] for row in said["levels"]})
            known = {level: value for level, value in reward.items() if math.isfinite(value)}
            if not known:
                continue
            shared = [level for level in reward if level in reach]
            rows.append(
                {
                    "setting": setting,
                    "seed": seed,
                    "recommended": said["recommended"]["N_I/N"],
                    "best": max(known, key=lambda level: known[level]),
                    "ranks": rank_correlation([reach[n] for n in shared], [reward[n] for n in shared])["mean"],
                }
            )
    if not rows:
        return [], {}
    lines = ["### What `diagnose` had said", "", "| setting | recommended N_I / N | best N_I / N | rank correlation |"]
    lines.append("|---|---|---|---|")
    for setting in dict.fromkeys(row["setting"] for row in rows):
        own = [row for row in rows if row["setting"] == setting]
        said_here, best = (", ".join(f"{row[key]:g}" if row[key] is not None else "-" for row in own)
                           for key in ("recommended", "best"))  # fmt: skip
        lines.append(f"| {setting} | {said_here} | {best} | {_told(interval([row['ranks'] for row in own]))} |")
    pairs = [(row["recommended"], row["best"]) for row in rows if row["recommended"] is not None]
    overall = rank_correlation([pair[0] for pair in pairs], [pair[1] for pair in pairs])
    verdict = (
        "cannot be told, for one of them is always the same"
        if math.isnan(overall["mean"])
        else f"{_told(overall)}, over {overall['n']:.0f} settings and seeds"
    )
    lines += [
        "",
        "One figure a seed. Rank correlation: of what a perfect P-GRAFT could reach at each level with what training "
        f"reached there. Rank correlation of the recommended with the best hand-off: {verdict}.",
        "",
    ]
    return lines, {"rows": rows, "recommended and best": overall}


def _told(found: Interval) -> str:
    if math.isnan(found["mean"]):
        return "-"
    ends = "" if math.isnan(found["low"]) else f" [{found['low']:+.2f}, {found['high']:+.2f}]"
    return f"{found['mean']:+.2f}{ends}"
