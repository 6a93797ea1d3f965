"""Whether what lies in a run's folder belongs together: weights, rule, records; and whether there is any."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from graft_lightning.reports.comparison import NoRuns, Run
from graft_lightning.runs import (
    ALARMS,
    CONFIG,
    EVALUATIONS,
    RUN,
    belongs,
    foreign_records,
    former_scores,
    run_in,
    score_identities,
)

US = "python -m graft_lightning"


class NothingToReport(NoRuns):
    """The runs are there, and were not evaluated in the stage that is asked for."""


def require_stage(runs: Sequence[Run], stage: str, folders: Iterable[Path]) -> None:
    """Refuses a report of a stage in which no run was evaluated.

    Raises:
        NothingToReport: says which stages there are, and which command makes the other.
    """
    if any(run.stage == stage for run in runs):
        return
    counts = Counter(run.stage for run in runs)
    there = ", ".join(f"{number} of {name}" for name, number in counts.items()) or "none at all"
    config = next((run.folder / CONFIG for run in runs if (run.folder / CONFIG).is_file()), "FILE")
    other = next((name for name in counts if name != stage), None)
    instead = f", or `report --stage {other}`" if other else ""
    raise NothingToReport(
        f"no {stage} records below {', '.join(map(str, folders))} (there are {there}): run `{US} {stage} --config "
        f"{config} --ckpt_path last`{instead}"
    )


def what_does_not_belong(folders: Iterable[Path]) -> list[str]:
    """What reports leave out or mix: records and rules of another fit than the folder's, scores of other rewards."""
    listed = list(folders)
    return [*(line for folder in listed for line in _of(folder)), *_scores_apart(listed)]


def _scores_apart(folders: Iterable[Path]) -> Iterator[str]:
    """Scores that runs share by name, and that different rewards have given."""
    found: dict[str, dict[str, list[Path]]] = {}
    for run in sorted({file.parent for folder in folders for file in folder.rglob(EVALUATIONS)}):
        for (_, name), digest in score_identities(run).items():
            found.setdefault(name, {}).setdefault(digest, []).append(run)
    for name, runs in found.items():
        if len(runs) > 1:
            first, second, *_ = (where[0] for where in runs.values())
            yield f"{name} is one reward in {first}, and another of this name in {second}: their figures do not compare"


def _of(folder: Path) -> Iterator[str]:
    for run in sorted(file.parent for file in folder.rglob(RUN)):
        for name in (EVALUATIONS, ALARMS):
            if count := len(foreign_records(run, name)):
                yield f"{run / name}: {count} records are of another fit than the folder's"
        for (stage, name), count in former_scores(run).items():
            yield f"{run / EVALUATIONS}: in {count} records of {stage}, {name} is of a reward that was edited since"
        for file in sorted(run.glob("collected*.json")):
            try:
                record = json.loads(file.read_text(encoding="utf-8"))
            except ValueError:
                yield f"{file} cannot be read"
                continue
            if not belongs(record, run_in(run)):
                yield f"{file} says by which rule another fit than the folder's has accepted"
