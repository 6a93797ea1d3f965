"""The work of ``pool``: table, export, verdicts."""

import argparse
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from graft_lightning.cli.exporting import REFUSALS
from graft_lightning.cli.pool_reference import built_for, pool_in
from graft_lightning.identity import digest_of
from graft_lightning.rejection.collected import add_filling
from graft_lightning.rejection.pool import PoolMismatch, TrajectoryPool
from graft_lightning.reports.pool_facts import rows_of, told_of_pool
from graft_lightning.reports.pool_samples import TABLE, export_samples, write_table
from graft_lightning.reports.verdicts import verdicts_of_folder, verdicts_of_table
from graft_lightning.types import SettingsError

__all__ = ["REFUSALS", "work_on_pool"]


def work_on_pool(options: argparse.Namespace) -> None:
    """Does what the options of `pool` ask for, and says what comes next.

    Raises:
        PoolError: if the pool cannot be used.
        SettingsError: if an option or what a person gives cannot be read.
    """
    folder = pool_in(options.folder)
    pool = TrajectoryPool.open(folder, verify=False)
    known = [opened.index for opened in pool.rounds()]
    if options.round is not None and options.round not in known:
        raise SettingsError(f"round={options.round}; {folder} has {known}")
    asked = False
    if options.table is not None:
        if options.table.suffix.lower() != ".csv":
            raise SettingsError(f"--table {options.table}: tables are written as .csv")
        rows = [r for r in rows_of(pool, options.round) if options.draws is None or r["draw"] < options.draws]
        write_table(rows, options.table)
        print(f"table: {options.table}, {len(rows):,} rows")
        asked = True
    if options.export is not None:
        _export(pool, options)
        asked = True
    if options.verdicts is not None:
        judge(pool, options.verdicts, options.name, options.score, options.replace)
        asked = True
    if not asked:
        print(told_of_pool(folder))
        here = shlex.quote(str(options.folder))
        print(f"next: look at its samples: python -m graft_lightning pool {here} --export FOLDER")


def _export(pool: TrajectoryPool, options: argparse.Namespace) -> None:
    cli = built_for(options.folder, options.config, {})
    cli.model.configure_model()
    TrajectoryPool.open(pool.path, cli.model.reference_fingerprint(), verify=False)  # refuses another reference
    count = export_samples(pool, cli.model.reference, options.export, options.round, options.draws)
    print(f"samples: {options.export}, {count:,}; table: {options.export / TABLE}")
    here, look = (shlex.quote(str(path)) for path in (options.folder, options.export))
    print(
        "next: delete the bad ones, or fill in the column score of the table; then\n"
        f"  python -m graft_lightning pool {here} --verdicts {look} (or the table)"
    )


def judge(pool: TrajectoryPool, source: Path, name: str, column: str | None = None, replace: bool = False) -> None:
    """Makes a reward of a person's verdicts. What was not judged has no score, and is never accepted.

    Args:
        pool: an open pool.
        source: a folder that was exported, or a table.
        name: of the reward.
        column: of the scores in a table.
        replace: put verdicts that the name has already aside.

    Raises:
        SettingsError: if the verdicts cannot be read, or the name has others.
    """
    rows = rows_of(pool)
    known = {row["id"]: row for row in rows}
    if source.is_dir():
        verdicts, told = verdicts_of_folder(source, pool.digest)
    elif source.is_file():
        verdicts, told = verdicts_of_table(source, known, column)
    else:
        raise SettingsError(f"{source}: there is neither such a folder nor such a table")
    if gone := [one for one in verdicts if one not in known]:
        raise SettingsError(f"{source}: {len(gone)} of its samples are no longer in {pool.path} ({gone[0]})")
    identity = {"verdicts": digest_of(sorted(verdicts.items())), "by": "a person"}
    with pool.locked():
        try:
            pool.add_reward(name, identity, rescore=replace)
        except PoolMismatch:
            raise SettingsError(
                f"{name} has other scores in {pool.path} already: choose another --name, or --replace puts them aside"
            ) from None
        except ValueError as error:
            raise SettingsError(f"--name {name}: {error}") from None
        _write(pool, name, rows, verdicts)
    add_filling(pool.path, {"drawn": 0, "scored": [name], "verdicts": len(verdicts)})
    judged = torch.tensor(list(verdicts.values()))
    two = set(verdicts.values()) <= {0.0, 1.0}
    print(*told, sep="\n", end="\n" if told else "")
    shown = f"{int(judged.sum()):,} kept" if two else f"mean {judged.mean():.3g}"
    print(f"{name}: {len(verdicts):,} of {len(rows):,} samples judged, {shown}; a reward in {pool.path}")
    rule = (
        " --data.acceptance Threshold --data.acceptance.threshold 0.5 --data.drop_without_signal false" if two else ""
    )
    print(f"next: python -m graft_lightning fit --config FILE --data.reward {name}{rule}")


def _write(pool: TrajectoryPool, name: str, rows: Sequence[Mapping[str, Any]], verdicts: Mapping[str, float]) -> None:
    for opened in pool.rounds():
        values = torch.full((len(opened),), torch.nan)
        there = torch.zeros(len(opened), dtype=torch.bool)
        for row in rows:
            if row["round"] == opened.index:
                there[row["index"]] = True
                values[row["index"]] = verdicts.get(row["id"], torch.nan)
        opened.write_scores(name, values, there)
