"""The folder of a run: its records, its newest checkpoint, its mark of completion. No torch.

<run>/config.yaml         what was asked for
<run>/evaluation.jsonl    metrics of every evaluation, one JSON object a line
<run>/alarms.jsonl        what was watched in each, and the alarms that it raised
<run>/collected.json      of the first round: the acceptance rule, counts, rewards before and after
<run>/checkpoints/*.ckpt
<run>/done.json           of a sweep's cell: it has run to its end, and with which settings
"""

import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from graft_lightning.durable import append_line, write_text
from graft_lightning.sealed import fault

log = logging.getLogger(__name__)

CONFIG = "config.yaml"
EVALUATIONS = "evaluation.jsonl"
ALARMS = "alarms.jsonl"
COLLECTED = "collected.json"
DONE = "done.json"
LOG = "log.txt"

KEYS = ("stage", "method", "step")
"""What every record has."""


def run_folder(trainer: Any) -> Path:
    """Where the run of a Lightning trainer keeps its configuration, curves and records.

    Collective: all processes must ask.
    """
    if trainer.fast_dev_run:
        return Path(trainer.default_root_dir) / "fast_dev_run"
    return Path(trainer.log_dir or trainer.default_root_dir)


def newest_checkpoint(folder: Path) -> Path:
    """The checkpoint that a fit left last; of several of the same time ``last``.

    Damaged ones are named in a warning and passed over; where all are, it is the newest, for its reader to refuse.

    Raises:
        FileNotFoundError: if there is none.
    """
    found = checkpoints(folder.rglob("*.ckpt"))
    if not found:
        raise FileNotFoundError(f"no checkpoint below {folder}")
    return newest_intact(found) or found[0]


def checkpoints(paths: Iterable[Path]) -> list[Path]:
    """Checkpoints in order, the newest first; of several of the same time ``last`` is."""
    return sorted(paths, key=lambda path: (path.stat().st_mtime_ns, path.stem == "last", path), reverse=True)


def newest_intact(found: Iterable[Path]) -> Path | None:
    """The first checkpoint that is intact; one line says which ones are passed over, and for which. None if none is."""
    damaged = []
    for path in found:
        wrong = fault(path)
        if wrong is None:
            if damaged:
                log.warning("%s; the newest intact checkpoint is taken instead: %s", "; ".join(damaged), path)
            return path
        damaged.append(f"{path} is damaged ({wrong})")
    return None


# ---- records


def append_record(folder: Path, name: str, record: Mapping[str, Any]) -> None:
    """Adds a record, which has ``stage``, ``method`` and ``step``, to a file of a run's folder, durably.

    What a killed run did not finish there is cut off (`durable.append_line`).
    """
    append_line(folder / name, json.dumps(record))


def read_records(folder: Path, name: str = EVALUATIONS) -> list[dict[str, Any]]:
    """The records of a run; of several of the same stage, method and step the last, as a resumed run repeats itself.

    Lines that are no record are left out: a killed run may leave one that it did not finish.
    """
    file = folder / name
    if not file.is_file():
        return []
    records = {}
    for line in file.read_bytes().splitlines():
        try:
            record = json.loads(line)
        except ValueError:  # also bytes that are no text
            continue
        if isinstance(record, dict) and all(key in record for key in KEYS):
            records[tuple(record[key] for key in KEYS)] = record
    return list(records.values())


def last_records(folder: Path, name: str = EVALUATIONS) -> list[dict[str, Any]]:
    """The records of a run, of every stage and method the last."""
    return list({(record["stage"], record["method"]): record for record in read_records(folder, name)}.values())


def retire_records(folder: Path) -> None:
    """Sets the records of an earlier fit in the same folder aside: a report must not mix the two."""
    for name in (EVALUATIONS, ALARMS):
        file = folder / name
        if file.is_file():
            file.replace(folder / f"earlier-{name}")


# ---- completion


def mark_done(folder: Path, identity: str, **facts: Any) -> None:
    """Says that a run has come to its end.

    Args:
        folder: of the run.
        identity: a digest of everything that its results depend on.
        **facts: what else is worth knowing: seconds, seed.
    """
    write_text(folder / DONE, json.dumps({"identity": identity, **facts}))


def done(folder: Path) -> dict[str, Any] | None:
    """What was said of a run that has come to its end; None of one that has not, or whose mark cannot be read."""
    try:
        found = json.loads((folder / DONE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("identity"), str) else None
