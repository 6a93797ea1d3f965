"""The folder of a run: its records, its newest checkpoint, its mark of completion. No torch.

<run>/config.yaml         what was asked for; like run.json and collected.json it is written by `fit` alone
<run>/run.json            which fit the folder is of: its id, which checkpoints and records name too
<run>/evaluation.jsonl    metrics of every evaluation, one JSON object a line
<run>/spent.jsonl         what a fit had spent at each: samples, reward calls, calls of the network, time
<run>/rounds.jsonl        of each of several rounds: the KL that its rule asks for, and that training has taken up
<run>/alarms.jsonl        what was watched in each, and the alarms that it raised
<run>/collected.json      of the first round: the acceptance rule, counts, rewards before and after
<run>/kept.json           which weights a fit ended with, its best or the base's, and why
<run>/placebo.json        how far fine-tuning on unselected samples moves rewards and metrics
<run>/tuned.json          settings that `tune` tried, and those that it chose
<run>/checkpoints/*.ckpt  last.ckpt, where a fit goes on; best.ckpt, the weights that it ended with
<run>/done.json           of a sweep's cell: it has run to its end, and with which settings
"""

import datetime
import json
import logging
import secrets
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from graft_lightning.durable import append_line, write_text
from graft_lightning.refusals import damaged
from graft_lightning.sealed import fault

log = logging.getLogger(__name__)

CONFIG = "config.yaml"
RUN = "run.json"
EVALUATIONS = "evaluation.jsonl"
ALARMS = "alarms.jsonl"
SPENT = "spent.jsonl"
ROUNDS = "rounds.jsonl"
CHOSEN = "chosen.json"
COLLECTED = "collected.json"
KEPT = "kept.json"
PLACEBO = "placebo.json"
TUNED = "tuned.json"
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
    damaged: list[str] = []
    for path in found:
        wrong = fault(path)
        if wrong is None:
            if damaged:
                log.warning("%s; the newest intact checkpoint is taken instead: %s", "; ".join(damaged), path)
            return path
        damaged.append(f"{path} is damaged ({wrong})")
    return None


def folder_of(checkpoint: Path) -> Path | None:
    """The run that a checkpoint lies in: the nearest folder above it that holds a configuration; None where none does.

    Not further away than the folder of the folder that checkpoints are kept in.
    """
    return next((folder for folder in checkpoint.absolute().parents[:3] if (folder / CONFIG).is_file()), None)


def read_json(file: Path) -> Any:
    """What a JSON file of a run holds.

    Raises:
        DamagedFile: if it is none; names it.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # also bytes that are no text
        raise damaged(file, f"it is no JSON ({error})", "run the command that wrote it again, or delete it") from None


# ---- which fit a folder is of


def begin_run(folder: Path, **facts: Any) -> str:
    """Makes a folder that of a new fit. Returns the id of the fit.

    Args:
        folder: of the run.
        **facts: what else is worth knowing: the run whose checkpoint it goes on from.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = secrets.token_hex(8)
    begun = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    write_text(folder / RUN, json.dumps({"run": found, "begun": begun, **facts}, indent=1) + "\n")
    return found


def run_in(folder: Path) -> str | None:
    """The id of the fit that a folder is of; None where none has been begun there, or it cannot be read."""
    found = read_run(folder).get("run")
    return found if isinstance(found, str) else None


def read_run(folder: Path) -> dict[str, Any]:
    """What `begin_run` wrote about a folder's fit; nothing where it cannot be read."""
    try:
        found = json.loads((folder / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def belongs(record: Mapping[str, Any], run: str | None) -> bool:
    """Whether a record is of a run; one that does not say which it is of, or of an unknown run, is taken to be."""
    return run is None or record.get("run", run) == run


# ---- records


def append_record(folder: Path, name: str, record: Mapping[str, Any]) -> None:
    """Adds a record, which has ``stage``, ``method`` and ``step``, to a file of a run's folder, durably.

    What a killed run did not finish there is cut off (`durable.append_line`).
    """
    append_line(folder / name, json.dumps(record))


def read_records(folder: Path, name: str = EVALUATIONS) -> list[dict[str, Any]]:
    """The records of a run; of several of the same stage, method and step the last, as a resumed run repeats itself.

    Lines that are no record are left out: a killed run may leave one that it did not finish. So are those of another
    run (`foreign_records`), as where somebody tested its checkpoint here, and the scores that another reward has given
    than the one that has their name since (`former_scores`).
    """
    found = _own(folder, name)
    now = _identities(found)
    last = {tuple(record[key] for key in KEYS): record for record in found}
    return [_without(record, _former(record, now)) for record in last.values()]


def former_scores(folder: Path) -> dict[tuple[str, str], int]:
    """By stage and name of a score, in how many records another reward of that name has given it than the last one."""
    found = _own(folder, EVALUATIONS)
    now = _identities(found)
    return dict(Counter((record["stage"], name) for record in found for name in _former(record, now)))


def score_identities(folder: Path) -> dict[tuple[str, str], str]:
    """By stage and name of a score the digest of the reward that gave it, the last one."""
    return _identities(_own(folder, EVALUATIONS))


def _own(folder: Path, name: str) -> list[dict[str, Any]]:
    run = run_in(folder)
    return [record for record in _records(folder / name) if belongs(record, run)]


def _identities(records: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    named = [(record["stage"], record.get("identities", {})) for record in records]
    return {(stage, name): digest for stage, own in named for name, digest in own.items()}


def _former(record: Mapping[str, Any], now: Mapping[tuple[str, str], str]) -> set[str]:
    own = record.get("identities", {})
    return {name for name, digest in own.items() if now[record["stage"], name] != digest}


def _without(record: dict[str, Any], names: Container[str]) -> dict[str, Any]:
    tables = ("metrics", "averages", "scores")
    kept = {key: {n: v for n, v in record[key].items() if n not in names} for key in tables if key in record}
    return {**record, **kept} if names else record


def foreign_records(folder: Path, name: str = EVALUATIONS) -> list[dict[str, Any]]:
    """The records in a run's folder that are of another run."""
    run = run_in(folder)
    return [record for record in _records(folder / name) if not belongs(record, run)]


def _records(file: Path) -> Iterator[dict[str, Any]]:
    if not file.is_file():
        return
    for line in file.read_bytes().splitlines():
        try:
            record = json.loads(line)
        except ValueError:  # also bytes that are no text
            continue
        if isinstance(record, dict) and all(key in record for key in KEYS):
            yield record


def last_records(folder: Path, name: str = EVALUATIONS) -> list[dict[str, Any]]:
    """The records of a run, of every stage and method the last."""
    return list({(record["stage"], record["method"]): record for record in read_records(folder, name)}.values())


def validations(folder: Path) -> dict[int, Mapping[str, Any]]:
    """The evaluations on the validation conditions by step, the base's at 0; empty where the base has none."""
    found = [r for r in read_records(folder) if r["stage"] == "validate" and "steered" not in r]
    base = [record for record in found if record["method"] == "base"]
    return {r["step"]: r for r in [*(r for r in found if r["method"] != "base" and r["step"]), *base]} if base else {}


def retire_records(folder: Path) -> None:
    """Sets the records of an earlier fit in the same folder aside: a report must not mix the two."""
    for name in (EVALUATIONS, ALARMS, SPENT, ROUNDS):
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
