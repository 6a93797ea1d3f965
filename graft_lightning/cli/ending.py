"""The last lines of a command: where things are, and what comes next."""

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from graft_lightning.callbacks.files import WriteSamples
from graft_lightning.reports.tables import text_table
from graft_lightning.runs import CONFIG, TUNED, checkpoints, last_records, run_folder

US = "python -m graft_lightning"


def tell_what_is_where(cli: Any, command: str) -> None:
    """Prints the last lines of one of the trainer's commands, on one process. Collective.

    Args:
        cli: that ran it.
        command: its name.
    """
    trainer = cli.trainer
    folder = run_folder(trainer)
    if not trainer.is_global_zero or trainer.fast_dev_run:
        return
    if lines := "\n".join(TOLD[command](cli, folder)):
        print(lines)


def _of_fit(cli: Any, folder: Path) -> Iterator[str]:
    yield f"run: {folder}"
    found = checkpoints(folder.rglob("*.ckpt"))
    last = _quoted(found[0]) if found else None
    if last is not None:
        yield f"checkpoint: {found[0]}"
    pool = getattr(cli.datamodule, "pool", None)
    if pool:
        yield f"pool: {pool}"
    yield from _images(folder, ("accepted", "rejected", "acceptance", "base", "validate", "base_and_now"))
    config = folder / CONFIG
    if last is None:
        yield "next: nothing was kept to test (no ModelCheckpoint in trainer.callbacks)"
    elif getattr(cli.datamodule, "test", None) is not None:
        yield f"next: {US} test --config {_quoted(config)} --ckpt_path {last}"
    else:
        yield f"next: {US} predict --config {_quoted(config)} --ckpt_path {last}"


def _of_evaluation(cli: Any, folder: Path) -> Iterator[str]:
    yield from _scores(folder, cli.subcommand)
    yield f"records: {folder / 'evaluation.jsonl'}"
    stages = ("test", "test-base") if cli.subcommand == "test" else ("validate",)
    yield from _images(folder, stages)
    further = " --stage validate" if cli.subcommand == "validate" else ""
    if last_records(folder):
        yield f"next: {US} report {_quoted(folder)}{further}"
    else:
        yield "no records: data has no held-out conditions (data.validation, data.test), or no score to give them"


def _of_samples(cli: Any, folder: Path) -> Iterator[str]:
    writer = next((c for c in cli.trainer.callbacks if isinstance(c, WriteSamples)), None)
    if writer is None:
        return
    place = writer.place(folder)
    if not place.is_dir():
        yield "no samples: data has no conditions to predict (data.predict, data.test or data.validation)"
        return
    yield f"samples: {place} (samples.jsonl says which file is of which condition and seed)"
    tested = any(record["stage"] == "test" for record in last_records(folder))
    if tested or getattr(cli.datamodule, "test", None) is None:
        yield f"next: look at them; {US} report {_quoted(folder)}{'' if tested else ' --stage validate'}"
    else:
        yield "next: look at them; the same command with `test` measures what they are worth"


def _of_collection(cli: Any, folder: Path) -> Iterator[str]:
    yield f"next: {US} pool {_quoted(Path(cli.datamodule.pool))}, to look at it; or the same command with `fit`"


def _of_placebo(cli: Any, folder: Path) -> Iterator[str]:
    yield "next: the same command with `tune`, which chooses settings, or with `fit`"


def _of_tuning(cli: Any, folder: Path) -> Iterator[str]:
    yield f"tried: {folder / TUNED}"
    if cli.trainer.tuned.point is not None:
        yield f"next: {US} fit --config {_quoted(folder / 'tuned.yaml')}"


def _of_what_is_planned(cli: Any, folder: Path) -> Iterator[str]:
    yield "next: the same command with `fit`"


TOLD: dict[str, Callable[[Any, Path], Iterator[str]]] = {
    "fit": _of_fit,
    "validate": _of_evaluation,
    "test": _of_evaluation,
    "predict": _of_samples,
    "plan": _of_what_is_planned,
    "diagnose": _of_what_is_planned,
    "placebo": _of_placebo,
    "tune": _of_tuning,
    "collect": _of_collection,
}
"""The last lines, by command."""


def _scores(folder: Path, stage: str) -> Iterator[str]:
    records = [record for record in last_records(folder) if record["stage"] == stage]
    if not records:
        return
    scores = [rows for record in records for rows in record["scores"].values()]
    over = f", of {max(map(len, scores))} conditions" if scores else ""
    yield f"scores of {stage}{over}, mean [95 % interval]:"
    for line in text_table({record["method"]: record["metrics"] for record in records}):
        yield f"  {line}"


def _images(folder: Path, names: tuple[str, ...]) -> Iterator[str]:
    found = [str(folder / f"{name}.png") for name in names if (folder / f"{name}.png").is_file()]
    if found:
        yield f"images: {', '.join(found)}"


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
