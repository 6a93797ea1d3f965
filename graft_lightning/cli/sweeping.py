"""A sweep, run: what is done already, the chains side by side, the records, the report."""

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from graft_lightning.cli.cell_record import finished, read_record, restore
from graft_lightning.cli.chain import (
    Cell,
    CellChain,
    RunningChain,
    SweepBusy,
    identity,
    is_done,
    is_present,
    keep_record,
    no_longer,
    record_file,
    to_run,
)
from graft_lightning.cli.choosing import CHOOSING
from graft_lightning.cli.submitted import jobs_of_a_cluster
from graft_lightning.cli.sweep_file import Plan, read_plan
from graft_lightning.cli.written import of_text
from graft_lightning.durable import write_bytes
from graft_lightning.reports.document import write_report

REFUSALS = (ValueError, FileNotFoundError, SweepBusy)
"""Bad input: told in one message, without a traceback."""

JOBS = "jobs"
"""Folder of what a cluster's jobs print."""

PAUSE = 0.3
"""Seconds between two looks at the cells that run."""


def sweep(
    file: Path,
    folder: Path | None = None,
    jobs: int | None = None,
    only: Sequence[str] | None = None,
    records: Path | bool = True,
    submitit: Sequence[str] | None = None,
) -> list[str]:
    """Runs what is not done of a sweep and writes its report.

    Args:
        file: of the sweep.
        folder: where runs go.
        jobs: chains at a time.
        only: beginnings of the names of chains.
        records: where records are kept, or whether.
        submitit: chains are submitted as jobs, with these settings as KEY=VALUE.

    Returns:
        The cells that failed.

    Raises:
        ValueError: if the file is mistaken, no chain begins as asked for, or a record is damaged or foreign.
        FileNotFoundError: if a file is absent.
        SweepBusy: if another sweep of this machine is running it.
    """
    plan = read_plan(file, folder, records)
    chains = _chosen(plan.chains, only, file)
    if any(cell.choose for chain in chains for cell in chain.cells):
        chains = [c for c in plan.chains if c in chains or c.name == CHOOSING]
    _tell_of_records(chains)
    begin: Begin = RunningChain
    if submitit is not None:
        begin = jobs_of_a_cluster(plan.folder / JOBS, {**(plan.submitit or {}), **_settings(submitit)})
    failed = run_chains(chains, jobs or plan.jobs, begin)
    _keep_missing(chains)
    try:
        print(f"report: {write_sweep_report(plan)}")
    except FileNotFoundError as error:
        sys.stderr.write(f"no report: {error}\n")
    print(f"curves and images: tensorboard --logdir {plan.folder}")
    return failed


def _chosen(chains: Sequence[CellChain], only: Sequence[str] | None, file: Path) -> list[CellChain]:
    """The chains whose names begin as asked for; all where nothing is.

    Raises:
        ValueError: if there is none of one of these names.
    """
    if not only:
        return list(chains)
    for beginning in only:
        if not any(chain.name.startswith(beginning) for chain in chains):
            names = ", ".join(chain.name for chain in chains)
            raise ValueError(f"--only {beginning}: no chain of {file} begins so; they are {names}")
    return [chain for chain in chains if chain.name.startswith(tuple(only))]


class Running(Protocol):
    """A chain that has been begun."""

    chain: CellChain
    blocked: str

    def step(self) -> bool:
        """Looks after it. False when it has ended."""

    def stop(self) -> None:
        """Ends it."""


Begin = Callable[[CellChain, Sequence[Cell], Callable[[Cell], bool]], Running]


def run_chains(chains: Sequence[CellChain], jobs: int, begin: Begin = RunningChain) -> list[str]:
    """Runs chains in parallel, the cells of each one after the other.

    Args:
        chains: in an order in which each comes after those whose files it needs.
        jobs: how many at a time.
        begin: begins a chain; in processes of this machine by default.

    Returns:
        The names of the cells that failed.
    """
    cells = to_run(chains)
    waiting, running = [chain for chain in chains if cells[chain.name]], list[Running]()
    progress = Progress(chains, cells)

    def ready(own: str, cell: Cell) -> bool:
        """Whether the cells that one needs of other chains are there, or will never be."""
        unfinished = {chain.name for chain in [*waiting, *(one.chain for one in running)]} - {own}
        needed = [name for name in cell.needs if name in progress.named and name.partition("/")[0] in unfinished]
        return all(is_present(*progress.named[name]) for name in needed)

    try:
        while waiting or running:
            running = [one for one in running if one.step()]
            for chain in list(waiting):
                if len(running) < jobs and ready(chain.name, cells[chain.name][0]):
                    begun = begin(chain, cells[chain.name], partial(ready, chain.name))
                    if begun.blocked and len(waiting) > 1:
                        progress.tell_blocked(chain, begun.blocked)
                        continue  # another machine is at it: others first
                    waiting.remove(chain)
                    running.append(begun)
            progress.tell()
            time.sleep(PAUSE)
    finally:
        for one in running:
            one.stop()
    return [f"{chain.name}/{cell.name}" for chain in chains for cell in chain.cells if not is_done(chain, cell)]


class Progress:
    """What is printed while cells run: each that has ended, how many there are, and how long it took.

    Args:
        chains: all that are run.
        cells: those that are run now, by chain.
    """

    def __init__(self, chains: Sequence[CellChain], cells: dict[str, list[Cell]]) -> None:
        self.named = {f"{chain.name}/{cell.name}": (chain, cell) for chain in chains for cell in chain.cells}
        self._left = {f"{name}/{cell.name}" for name, found in cells.items() for cell in found}
        self._blocked: set[str] = set()
        self._start = time.monotonic()
        if len(self.named) > len(self._left):
            print(f"{len(self.named) - len(self._left)} of {len(self.named)} cells are done already", flush=True)

    def tell(self) -> None:
        """Prints the cells that have ended since the last time."""
        for name in [name for name in self.named if name in self._left and is_present(*self.named[name])]:
            self._left.remove(name)
            chain, cell = self.named[name]
            seconds = finished(chain.folder / cell.name).get("seconds", 0.0)
            minutes = (time.monotonic() - self._start) / 60
            told = f"[{len(self.named) - len(self._left)}/{len(self.named)}, {minutes:.1f} min]"
            print(f"{told} {name}: {seconds:.0f} s", flush=True)

    def tell_blocked(self, chain: CellChain, holder: str) -> None:
        """Prints once that another machine runs a chain."""
        if chain.name not in self._blocked:
            self._blocked.add(chain.name)
            print(f"{chain.name} is being run by {holder}", flush=True)


def _tell_of_records(chains: Sequence[CellChain]) -> None:
    """Says of every cell with a record that no longer holds which setting changed."""
    for chain in chains:
        for cell in chain.cells:
            found = no_longer(chain, cell)  # also where the run is here: a damaged record is told at once
            if found and not is_present(chain, cell):
                print(f"{chain.name}/{cell.name} is run again; its record was made with other settings:")
                print("\n".join(f"  {line}" for line in found), flush=True)


def _keep_missing(chains: Sequence[CellChain]) -> None:
    """Writes the records of cells that ended without one: a kill came between, or they are older than records."""
    for chain in chains:
        for cell in chain.cells:
            if chain.records and is_present(chain, cell) and no_longer(chain, cell) != []:
                keep_record(chain, cell, identity(chain, cell))


def write_sweep_report(plan: Plan) -> Path:
    """The report of a sweep: of its records, where they are kept, with images of the runs that are here.

    Raises:
        FileNotFoundError: if no cell has been evaluated.
    """
    if plan.records is None:
        return write_report([plan.folder], plan.folder, plan.report)
    with tempfile.TemporaryDirectory() as folder:
        for chain in (chain for chain in plan.chains if chain.name != CHOOSING):
            for cell in chain.cells:
                if no_longer(chain, cell) == [] and (file := record_file(chain, cell)):
                    record = read_record(file)
                    assert record is not None
                    restore(record, Path(folder) / chain.name / cell.name)
        report = write_report([Path(folder)], plan.folder, plan.report, [plan.folder])
    write_bytes(plan.records / "report.json", report.with_name("report.json").read_bytes())
    return report


def _settings(words: Sequence[str]) -> dict[str, Any]:
    wrong = [word for word in words if "=" not in word]
    if wrong:
        raise ValueError(f"--submitit {wrong[0]}: settings are KEY=VALUE, such as timeout_min=600")
    return {key: of_text(value) for key, value in (word.split("=", 1) for word in words)}
