"""The record of a sweep's cell: small, kept beside the sweep's file, so that tables outlive the folder of runs.

<records>/<chain>/<cell>.json holds what decided the result (settings, layers, the cells it took files from, digests of
the files it read), the scores of every evaluation, what was collected, the KL of each round, alarms and small tables,
time, date and machine.
Means and intervals are not in it where they follow from the scores: they are computed when a report is made.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from graft_lightning.cli.written import read_yaml
from graft_lightning.durable import write_text
from graft_lightning.identity import content, differences, digest_of
from graft_lightning.runs import (
    ALARMS,
    CONFIG,
    DONE,
    EVALUATIONS,
    ROUNDS,
    SPENT,
    append_record,
    done,
    read_json,
    read_records,
)
from graft_lightning.statistics import over_conditions

FORMAT = "graft_lightning cell record 1"
DIGITS = 5
"""Significant digits of what is kept: far more than any interval's."""

LARGEST = 1 << 18
"""Bytes of a run's JSON file up to which it is kept."""

KEYS = {"format", "chain", "cell", "identity", "files", "facts", "evaluations", "alarms", "tables", "digest"}
OPTIONAL = {"rounds"}
"""Of runs of several rounds alone."""

DOMAINS = "graft_lightning.domains."
HEAVY_FOLDERS = {"checkpoints", "pool", "export"}


class RecordError(ValueError):
    """A file among the records is none, is another cell's, or was changed."""


def write_record(file: Path, identity: Mapping[str, Any], folder: Path, facts: Mapping[str, Any]) -> None:
    """Writes the record of a cell that has come to its end.

    Args:
        file: of the record, ``<records>/<chain>/<cell>.json``.
        identity: what decides the cell's result.
        folder: of its run.
        facts: seconds, date, machine and whatever else is worth knowing.
    """
    record: dict[str, Any] = {
        "format": FORMAT,
        "chain": file.parent.name,
        "cell": file.stem,
        "identity": _plain(identity),
        "files": dict(_files_read(folder)),
        "facts": _plain(facts, DIGITS),
        "evaluations": _plain([_without_means(found) for found in _with_spent(folder)], DIGITS),
        "alarms": _plain(read_records(folder, ALARMS), DIGITS),
        "tables": _plain(dict(_tables(folder)), DIGITS),
    }
    if rounds := read_records(folder, ROUNDS):
        record["rounds"] = _plain(rounds, DIGITS)
    record["digest"] = digest_of(record)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, _text(record))


def read_record(file: Path) -> dict[str, Any] | None:
    """A cell's record; None where there is none.

    Raises:
        RecordError: if it is damaged, was changed since it was written, or is another cell's; names the file.
    """
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise RecordError(f"{file} is damaged ({error}); {CURE}") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT or set(record) - OPTIONAL != KEYS:
        raise RecordError(f"{file} is no record of a sweep's cell, or one of another version; {CURE}")
    if digest_of({key: value for key, value in record.items() if key != "digest"}) != record["digest"]:
        raise RecordError(f"{file} was changed after it was written; {CURE}")
    if (record["chain"], record["cell"]) != (file.parent.name, file.stem):
        raise RecordError(f"{file} is the record of {record['chain']}/{record['cell']}; {CURE}")
    return record


CURE = "restore it, or delete it and the cell is run again"


def changes(record: Mapping[str, Any], identity: Mapping[str, Any]) -> list[str]:
    """What differs between what a record was made with and what is asked for now; empty where it still holds.

    Files that the run read count where they are here; of those that are not, nothing can be said.
    """
    found = differences(record["identity"], _plain(identity))
    for name, digest in record["files"].items():
        if Path(name).is_file() and content(Path(name)) != digest:
            found.append(f"{name}: another file then, digest {digest}")
    return found


def restore(record: Mapping[str, Any], folder: Path) -> None:
    """Writes the files that a report reads into a folder, as the cell's run had left them."""
    folder.mkdir(parents=True, exist_ok=True)
    for evaluation in record["evaluations"]:
        append_record(folder, EVALUATIONS, _with_means({k: v for k, v in evaluation.items() if k != "spent"}))
        if "spent" in evaluation:
            own = {name: evaluation[name] for name in ("stage", "method", "step", "spent", "run") if name in evaluation}
            append_record(folder, SPENT, own)
    for alarm in record["alarms"]:
        append_record(folder, ALARMS, alarm)
    for found in record.get("rounds", ()):
        append_record(folder, ROUNDS, found)
    for name, table in record["tables"].items():
        write_text(folder / name, json.dumps(table))


def _with_spent(folder: Path) -> Iterator[dict[str, Any]]:
    """The evaluations of a run, each with what had been spent by then, where that is known."""
    spent = {(r["stage"], r["method"], r["step"]): r["spent"] for r in read_records(folder, SPENT)}
    for found in read_records(folder):
        known = spent.get((found["stage"], found["method"], found["step"]))
        yield found if known is None else {**found, "spent": known}


def _without_means(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    metrics = {name: value for name, value in evaluation["metrics"].items() if name not in evaluation["scores"]}
    return {**evaluation, "metrics": metrics}


def _with_means(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    scores = {name: _with_nan(rows) for name, rows in evaluation["scores"].items()}
    means = {name: over_conditions(rows) for name, rows in scores.items()}
    return {**evaluation, "scores": scores, "metrics": {**means, **_with_nan(evaluation["metrics"])}}


def _files_read(folder: Path) -> Iterator[tuple[str, str]]:
    """The files that a run's whole configuration names, weights and data, with digests; not those below the sweep.

    So are the weights that ship with the domains that it names, which their classes find by themselves.
    """
    file = folder / CONFIG
    if not file.is_file():
        return
    own = folder.parents[1].resolve()
    texts = set(_texts(read_yaml(file)))
    domains = {text.removeprefix(DOMAINS).split(".")[0] for text in texts if text.startswith(DOMAINS)}
    shipped = {str(weights) for name in domains for weights in Path("data", name).glob("*.safetensors")}
    for text in sorted(texts | shipped):
        try:
            named = Path(text).is_file() and not Path(text).resolve().is_relative_to(own)
        except OSError:  # too long for a name
            continue
        if named:
            yield text, content(Path(text))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _tables(folder: Path) -> Iterator[tuple[str, Any]]:
    """The small JSON files of a run, by their place in its folder."""
    for file in sorted(folder.rglob("*.json")):
        parts = file.relative_to(folder).parts
        if file.name in (DONE, "cell.json") or HEAVY_FOLDERS & set(parts) or file.stat().st_size > LARGEST:
            continue
        yield "/".join(parts), read_json(file)


def _plain(value: Any, digits: int = 17) -> Any:
    """The same as it is read back from JSON: None for NaN, floats rounded to so many digits."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, digits) for item in value]
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if math.isfinite(value) else None
    return value if isinstance(value, bool | int | str | type(None)) else str(value)


def _with_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _with_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_nan(item) for item in value]
    return math.nan if value is None else value


def _text(record: Mapping[str, Any]) -> str:
    """JSON with a line for each evaluation, so that a difference of two versions can be read."""

    def lines(items: Iterable[Any]) -> str:
        return "[" + ",".join(f"\n  {json.dumps(item, separators=(',', ':'))}" for item in items) + "\n ]"

    parts = []
    for key, value in record.items():
        text = (
            lines(value)
            if key in ("evaluations", "alarms", "rounds")
            else json.dumps(value, indent=1).replace("\n", "\n ")
        )
        parts.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def finished(folder: Path) -> dict[str, Any]:
    """What the mark of a finished cell says of it, its identity apart."""
    return {key: value for key, value in (done(folder) or {}).items() if key != "identity"}
