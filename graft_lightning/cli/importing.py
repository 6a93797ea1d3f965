"""The work of ``import``: which samples of a table can be used, how many of each condition, and what is said of it."""

import argparse
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from tqdm import tqdm

from graft_lightning.cli.exporting import REFUSALS, cli_of
from graft_lightning.cli.lightning import REFERENCE, GraftCLI
from graft_lightning.cli.secrets import unresolved
from graft_lightning.cli.written import layered, of_text
from graft_lightning.domains.base import listed
from graft_lightning.domains.base.sample_table import Matching, Row, rows_in, table_in
from graft_lightning.domains.base.text_files import text_lines
from graft_lightning.durable import write_text
from graft_lightning.identity import digest_of, file_digest
from graft_lightning.rejection.acceptance import TopK
from graft_lightning.rejection.codec import WrongSize
from graft_lightning.rejection.collected import add_filling
from graft_lightning.rejection.imported import CONDITIONS, conditions_file, import_samples, require_encoding
from graft_lightning.rejection.pool import TrajectoryPool
from graft_lightning.rejection.reference import Reference
from graft_lightning.reports.pool_facts import told_of_pool
from graft_lightning.types import SettingsError

__all__ = ["REFUSALS", "import_table"]

SHOWN = 3
"""Lines of a table that are named where rows are left out."""


class LeftOut:
    """Rows that cannot be used, by kind."""

    def __init__(self) -> None:
        self.rows: dict[str, list[tuple[Row, str]]] = {}

    def add(self, kind: str, row: Row, why: str = "") -> None:
        """Counts a row.

        Args:
            kind: in words that follow a number.
            row: of the table.
            why: the first of a kind is told with it.
        """
        self.rows.setdefault(kind, []).append((row, why))

    def lines(self) -> list[str]:
        """A line a kind: how many, and in which lines of the table the first of them stand."""
        found = []
        for kind, rows in self.rows.items():
            places = ", ".join(str(row.line) for row, _ in rows[:SHOWN]) + (", …" if len(rows) > SHOWN else "")
            why = f": {rows[0][1]}" if rows[0][1] else ""
            found.append(f"left out: {len(rows):,} {kind} (line {places}){why}")
        return found


def import_table(options: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Makes the pool of a configuration of the samples of a table, and says what was left out, and what comes next.

    Args:
        options: of `import`.
        overrides: options as of `fit`.

    Raises:
        SettingsError: if an option, the table or the configuration cannot be used, or no sample of the table can.
        PoolError: if the pool holds other samples.
    """
    rewards = _names(options.reward)
    table = table_in(options.table)
    rows = rows_in(table, rewards, options.file, options.condition)
    cli = _built(options.config, overrides)
    _refuse_collected(cli, rewards)
    require_encoding(cli.model.reference)
    data, reference = cli.datamodule, cli.model.reference
    out = LeftOut()
    usable = usable_rows(rows, reference, listed(data.conditions), out)
    if not usable:
        raise SettingsError("\n".join([f"{table}: none of its {len(rows)} samples can be used", *out.lines()]))
    chosen, draws = equal_draws(usable, options.draws, out)
    if not chosen:
        most = max(map(len, usable.values()))
        raise SettingsError(f"--draws {options.draws}: no condition of {table} has so many samples; at most {most}")
    texts, folder = list(chosen), Path(data.pool).expanduser()
    cli.model.configure_model()
    pool = TrajectoryPool.create(folder, cli.model.reference_fingerprint(), data.seed)
    identity = digest_of([[text, [file_digest(row.file) for row in found]] for text, found in chosen.items()])
    scores = {n: torch.tensor([[row.scores[n] for row in found] for found in chosen.values()]) for n in rewards}

    def read(text: str, draw: int) -> Any:
        return reference.read(chosen[text][draw].file, text)

    opened = import_samples(pool, reference, texts, draws, read, scores, identity, options.device)
    write_text(folder / CONDITIONS[0], text_lines(texts))
    plain = of_text(cli._parser(None).dump(cli.config, skip_none=False))
    record = {"drawn": 0, "imported": len(opened), "table": str(table), "scored": list(rewards)}
    settings = yaml.safe_dump(unresolved({key: plain[key] for key in REFERENCE}), sort_keys=False)
    add_filling(folder, record, settings)
    print(f"{table}: {len(rows):,} samples, {len(opened):,} imported", *out.lines(), told_of_pool(folder), sep="\n")
    own = set(texts) == set(listed(data.conditions))
    print(
        *_next(options, overrides, data, next(iter(rewards)), draws, None if own else conditions_file(folder)), sep="\n"
    )


def _next(
    options: argparse.Namespace, overrides: Sequence[str], data: Any, reward: str, draws: int, conditions: Path | None
) -> list[str]:
    """Lines that say how to train on the pool: a command that runs as it is, and what it changes for that.

    Args:
        options: of `import`.
        overrides: options as of `fit`; repeated, but for those that the pool decides.
        data: of the run.
        reward: that is accepted by.
        draws: of each condition.
        conditions: the file of the pool's own, where it has not all of the run's.
    """
    words = [word for file in options.config for word in ("--config", str(file))]
    decided = ("data.reward", "collect.draws", "data.pool", *(() if conditions is None else ("data.conditions",)))
    words += _without(overrides, decided)
    words += ["--data.reward", reward, "--collect.draws", str(draws)]
    if overrides:
        words += ["--data.pool", str(Path(data.pool).expanduser())]
    if conditions is not None:
        words += ["--data.conditions", "TextFile", "--data.conditions.path", str(conditions)]
    told = []
    try:
        data.acceptance.check(draws)
    except ValueError as error:
        refusal = f"data.acceptance would be refused: {error}"
        if type(data.acceptance) is TopK:
            fewer = max(1, draws // 2)
            words += ["--data.acceptance.k", str(fewer)]
            told.append(f"{refusal}; the command below accepts k={fewer}")
        else:
            told.append(f"{refusal}; change it, or import more samples a condition")
    return [*told, f"next: python -m graft_lightning fit {shlex.join(words)}"]


def _without(overrides: Sequence[str], keys: Sequence[str]) -> list[str]:
    """The words of options but for those of some keys, and of what is below them; values go with their options."""
    kept: list[str] = []
    keeps = True
    for word in overrides:
        if word.startswith("--"):
            key = word[2:].partition("=")[0].removesuffix("+").replace("init_args.", "")
            keeps = not any(key == one or key.startswith(f"{one}.") for one in keys)
        if keeps:
            kept.append(word)
    return kept


def usable_rows(
    rows: Sequence[Row], reference: Reference, conditions: Sequence[str], out: LeftOut
) -> dict[str, list[Row]]:
    """The rows whose sample can be read, has every score, and is no repetition, by condition.

    Args:
        rows: of a table.
        reference: reads samples.
        conditions: that there are.
        out: takes the others.
    """
    named, seen = Matching(conditions), set()
    found: dict[str, list[Row]] = {text: [] for text in conditions}
    for row in tqdm(rows, desc="Reading", unit="sample", delay=2):
        text = named(row.condition)
        if text is None:
            out.add("of conditions that data.conditions does not have", row, repr(row.condition))
        elif not row.file.is_file():
            out.add("whose file is missing", row, str(row.file))
        elif row.unread:
            out.add("whose score is no finite number", row, next(iter(row.unread.values())))
        elif absent := [name for name, value in row.scores.items() if not math.isfinite(value)]:
            out.add("without a finite score", row, absent[0])
        else:
            try:
                reference.read(row.file, text)
            except WrongSize as error:
                out.add("of another size", row, str(error))
            except SettingsError as error:
                out.add("that cannot be read", row, str(error))
            else:
                same = (text, file_digest(row.file))
                if same in seen:
                    out.add("that repeat another one of their condition", row)
                else:
                    seen.add(same)
                    found[text].append(row)
    return {text: own for text, own in found.items() if own}


def equal_draws(usable: Mapping[str, list[Row]], draws: int | None, out: LeftOut) -> tuple[dict[str, list[Row]], int]:
    """The same number of samples for every condition, the first ones of each.

    Args:
        usable: rows by condition.
        draws: how many; the fewest that a condition has, by default. Conditions with fewer are left out.
        out: takes the others.

    Returns:
        Rows by condition, and how many there are of each.
    """
    count = min(map(len, usable.values())) if draws is None else draws
    chosen = {text: rows[:count] for text, rows in usable.items() if len(rows) >= count}
    for text, rows in usable.items():
        for row in rows[count:] if text in chosen else rows:
            if text in chosen:
                few = (
                    "" if draws else "the condition with the fewest has so many; --draws takes more of fewer conditions"
                )
                out.add(f"beyond {count} of their condition", row, few)
            else:
                out.add(f"of conditions with fewer than {count}", row, repr(text))
    return chosen, count


def _names(given: Sequence[str]) -> dict[str, str]:
    """Columns of scores by the names of rewards."""
    found: dict[str, str] = {}
    for text in given:
        column, _, name = text.partition("=")
        if not column or found.setdefault(name or column, column) != column:
            raise SettingsError(f"--reward {text}: COLUMN, or COLUMN=NAME with a name for every column")
    return found


def _built(files: Sequence[Path], overrides: Sequence[str]) -> GraftCLI:
    """Module and data of a configuration.

    Raises:
        SettingsError: if there is none, or none of fine-tuning on a pool.
    """
    found, named = layered(files), " ".join(f"--config {file}" for file in files)
    if not {"model", "data"} <= found.keys():
        raise SettingsError(f"{named}: it describes no run (model, data)")
    cli = cli_of(found, overrides)
    if not getattr(cli.model, "collects", False):
        raise SettingsError(f"{named} is of a {type(cli.model).__name__}; samples are imported for Graft")
    return cli


def _refuse_collected(cli: GraftCLI, rewards: Mapping[str, str]) -> None:
    """Refuses names of rewards that the run itself scores by: two would share one column."""
    trained: Any = cli.trainer
    for name in rewards:
        if name in trained.collector.rewards:
            raise SettingsError(
                f"--reward {name}: collect.reward of this configuration has that name and would score the samples "
                f"itself; give the table's scores another: --reward {rewards[name]}=NAME"
            )
