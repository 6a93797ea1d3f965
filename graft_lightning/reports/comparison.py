"""A comparison of methods from run folders: method -> metric -> mean with a 95 % interval, over seeds or prompts."""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from graft_lightning.runs import EVALUATIONS, KEYS, SPENT, read_records
from graft_lightning.statistics import Interval, best_of, finite_mean, interval, over_conditions, over_means


@dataclass(frozen=True)
class Run:
    """One evaluation of one run.

    Attributes:
        folder: of the run.
        method: its name.
        seed: of the run.
        stage: "test" or "validate".
        step: gradient steps that had been taken.
        values: the mean of every metric.
        scores: per-sample scores by metric, by condition and draw.
        spent: what the run had spent by then; empty where it does not say.
    """

    folder: Path
    method: str
    seed: int
    stage: str
    step: int
    values: dict[str, float]
    scores: dict[str, list[list[float]]]
    spent: dict[str, float] = field(default_factory=dict)


class NoRuns(FileNotFoundError):
    """Nothing has been evaluated."""


def read_runs(folders: Iterable[Path]) -> list[Run]:
    """Every evaluation in the run folders at or below the given ones.

    Raises:
        NoRuns: if there is none.
    """
    found = []
    listed = list(folders)
    for folder in listed:
        for file in sorted(folder.rglob(EVALUATIONS)):
            spent = {_key(record): record["spent"] for record in read_records(file.parent, SPENT)}
            found += [_run(file.parent, record, spent.get(_key(record), {})) for record in read_records(file.parent)]
    if not found:
        raise NoRuns(
            f"no {EVALUATIONS} below {', '.join(map(str, listed))}: has a run been evaluated? `fit` does it "
            "where there are validation conditions, `test --config FILE --ckpt_path FILE` for reports"
        )
    return found


def told_apart(runs: Sequence[Run], rules: Mapping[Path, str]) -> list[Run]:
    """Runs under names that tell them apart: two of one method and seed are two settings, and no sample of one.

    Args:
        runs: evaluations.
        rules: by run folder, what its rule accepted by; added to the name of a method that has several. Where that does
            not do, the folder is.
    """
    folders = {run.folder: run.folder.resolve() for run in runs}
    top = Path(os.path.commonpath(folders.values()))
    places = {folder: str(found.relative_to(top)) for folder, found in folders.items()}
    named = list(runs)
    for labels in (rules, places):
        several = _repeated(named)
        named = [
            replace(run, method=f"{run.method}, {labels[run.folder]}")
            if run.folder in labels and len({labels.get(folder) for folder in several.get(run.method, ())}) > 1
            else run
            for run in named
        ]
    return named


def _repeated(runs: Sequence[Run]) -> dict[str, set[Path]]:
    """Methods of which several folders hold runs of one seed, and all of its folders; the base is the same in each."""
    folders: dict[tuple[str, int], set[Path]] = {}
    for run in runs:
        if run.method != "base":
            folders.setdefault((run.method, run.seed), set()).add(run.folder)
    methods = {method for (method, _), found in folders.items() if len(found) > 1}
    return {method: {run.folder for run in runs if run.method == method} for method in methods}


def _key(record: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(record[key] for key in KEYS)


def _run(folder: Path, record: dict[str, Any], spent: dict[str, float]) -> Run:
    values = {name: metric["mean"] for name, metric in record["metrics"].items()}
    who = record["method"], record["seed"], record["stage"], record["step"]
    return Run(folder, *who, values, record["scores"], spent)


FEW = 3
"""Below so many seeds, intervals are taken over held-out conditions."""


def compare(runs: Sequence[Run], stage: str = "test", best_of_n: Sequence[int] = ()) -> dict[str, dict[str, Interval]]:
    """Method -> metric -> figure, of the last step of every run.

    With three seeds or more the interval is over seeds, which share their held-out conditions: it says how much another
    run would differ, and nothing of other conditions. With fewer it is that of `compare_over_conditions` for the scores
    that are taken sample by sample.

    Args:
        runs: evaluations.
        stage: which held-out conditions.
        best_of_n: adds rows ``best_of_n`` made from the base's own draws, chosen by its first metric.
    """
    by_method = _by_method(runs, stage, best_of_n)
    return {method: _row(found) for method, found in by_method.items()}


def compare_over_conditions(
    runs: Sequence[Run], stage: str = "test", best_of_n: Sequence[int] = ()
) -> dict[str, dict[str, Interval]]:
    """As `compare`, of the scores that are taken sample by sample, with the interval over held-out conditions.

    The runs are those that there are: the interval says how much other conditions would differ, and nothing of other
    seeds. Of a single condition it is over the samples of all runs (`over_conditions`).
    """
    by_method = _by_method(runs, stage, best_of_n)
    return {
        method: {
            name: _over_conditions(found, name) for name in dict.fromkeys(name for run in found for name in run.scores)
        }
        for method, found in by_method.items()
    }


def _by_method(runs: Sequence[Run], stage: str, best_of_n: Sequence[int]) -> dict[str, list[Run]]:
    by_method: dict[str, list[Run]] = {}
    for run in _each_base_once(last_runs(runs, stage)):
        by_method.setdefault(run.method, []).append(run)
        if run.method == "base":
            for n in best_of_n:
                if best := _best(run, n):
                    by_method.setdefault(f"best_of_{n}", []).append(best)
    return by_method


def last_runs(runs: Sequence[Run], stage: str) -> list[Run]:
    """Of every run folder and method, the evaluation of the last step."""
    last: dict[tuple[Path, str], Run] = {}
    for run in runs:
        if run.stage == stage and (
            (run.folder, run.method) not in last or run.step >= last[run.folder, run.method].step
        ):
            last[run.folder, run.method] = run
    return list(last.values())


def _each_base_once(runs: Sequence[Run]) -> list[Run]:
    """Without repetitions of the base: every run of a seed and a reference has the same one."""
    found: list[Run] = []
    seen: set[tuple[int, str]] = set()
    for run in runs:
        key = run.seed, json.dumps([run.scores, run.values], sort_keys=True)
        if run.method == "base" and key in seen:
            continue
        seen.add(key)
        found.append(run)
    return found


def _row(runs: Sequence[Run]) -> dict[str, Interval]:
    row = {}
    for name in dict.fromkeys(name for run in runs for name in run.values):
        values = [run.values[name] for run in runs if name in run.values]
        scores = [[score for row in run.scores[name] for score in row] for run in runs if name in run.scores]
        few = sum(map(math.isfinite, values)) < FEW
        if not scores:  # of the whole set
            row[name] = interval(values)
        else:
            row[name] = _over_conditions(runs, name) if few else over_means(values, scores)
    return row


def _over_conditions(runs: Sequence[Run], name: str) -> Interval:
    """The interval over conditions of a score, the draws of all runs taken together."""
    tables = [run.scores[name] for run in runs if name in run.scores]
    return over_conditions([[score for row in rows for score in row] for rows in zip(*tables, strict=True)])


def _best(run: Run, n: int) -> Run | None:
    """Best-of-n of a run's draws by its first metric, for every per-sample metric; None if it has too few draws."""
    rewards = next(iter(run.scores.values()))
    if any(len(row) < n for row in rewards):
        return None
    scores = {
        name: [[best_of(reward, row, n)] for reward, row in zip(rewards, rows, strict=True)]
        for name, rows in run.scores.items()
    }
    values = {name: finite_mean([row[0] for row in rows]) for name, rows in scores.items()}
    return replace(run, method=f"best_of_{n}", values=values, scores=scores)


def curves(runs: Sequence[Run], metric: str, stage: str = "validate") -> dict[str, list[tuple[int, Interval]]]:
    """Method -> (gradient steps, metric over seeds), in order of steps."""
    points: dict[str, dict[int, list[float]]] = {}
    for run in runs:
        if run.stage == stage and metric in run.values:
            points.setdefault(run.method, {}).setdefault(run.step, []).append(run.values[metric])
    return {method: [(step, interval(found[step])) for step in sorted(found)] for method, found in points.items()}
