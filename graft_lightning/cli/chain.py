"""A chain of a sweep: its cells, and the process that runs one of them at a time.

A cell is ``python -m graft_lightning cell FOLDER``, a process of its own with a session and process group of its own,
whose output goes to a log. It runs all commands of the cell, so that the imports, which take seconds, are paid once a
cell and not once a command. It holds the end of a pipe, which closes when this process dies in whatever way, and the
cell's lock, so that another sweep of the same folder waits for what is still dying, and never deletes what is being
written.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from graft_lightning.cli.cell_lock import CellLock, Held
from graft_lightning.cli.cell_record import changes, finished, read_record, write_record
from graft_lightning.cli.written import read_yaml
from graft_lightning.durable import write_text
from graft_lightning.identity import digest_of
from graft_lightning.runs import LOG, done, newest_checkpoint, read_json

OWN_FOLDER = "{cell}"
"""In a setting: the folder of the cell."""

RECIPE = "cell.json"
"""What a cell's process is to do: chain, cell and identity."""

DYING = 10.0
"""Seconds in which the processes of a killed sweep have ended."""


@dataclass(frozen=True)
class Cell:
    """One run: commands on one configuration.

    Attributes:
        name: of its folder.
        commands: subcommands, in order; ``fit`` before ``test`` hands over its weights.
        config: YAML layers.
        settings: overrides by dotted key; ``{cell}`` stands for the cell's folder, ``{chain}`` for the chain's,
            ``{root}`` for the sweep's, and None takes back what the sweep sets for every cell.
        needs: the cells that write files which this one reads, as "chain/cell", and the digests of their identities.
        choose: the runs whose validation decides on further settings, as "chain/cell", and what each of them tries.
    """

    name: str
    commands: Sequence[str]
    config: Sequence[str]
    settings: dict[str, Any] = field(default_factory=dict)
    needs: Mapping[str, str] = field(default_factory=dict)
    choose: Mapping[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class CellChain:
    """Cells that share a seed and a pool, run one after the other.

    Attributes:
        name: of its folder.
        seed: of every cell.
        cells: in order.
        folder: of the chain.
        threads: of torch.
        records: where the records of its cells are kept; None where they are not.
    """

    name: str
    seed: int
    cells: Sequence[Cell]
    folder: Path
    threads: int
    records: Path | None = None


class SweepBusy(RuntimeError):
    """Another sweep is running the same chain."""


class RunningChain:
    """A chain that is being run: of its cells one at a time, in a process of its own.

    Args:
        chain: what is run. Of a cell that is begun, all that an earlier sweep left is deleted.
        cells: which of its cells, in order; those of `to_run` by default.
        ready: whether a cell may begin, or waits for another chain's.

    Raises:
        SweepBusy: if another sweep of this machine is running it.

    Attributes:
        blocked: what runs the next cell on another machine that shares the folder; empty where nothing does.
    """

    def __init__(
        self,
        chain: CellChain,
        cells: Sequence[Cell] | None = None,
        ready: Callable[[Cell], bool] = lambda cell: True,
    ) -> None:
        self.chain = chain
        chain.folder.mkdir(parents=True, exist_ok=True)
        self.blocked = ""
        self._waiting = list(to_run([chain])[chain.name] if cells is None else cells)
        self._ready = ready
        self._cell: Cell | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: int | None = None
        self._lock: CellLock | None = None
        self._take_next(DYING)

    def step(self) -> bool:
        """Looks after the cell that runs, and begins the next one where it has ended. False when none is left."""
        if self._process is not None:
            if self._process.poll() is None:
                if self._lock is not None:
                    self._lock.touch()
                return True
            self._ended()
        if not self._waiting:
            return False
        if not self._ready(self._waiting[0]):
            return True
        if self._lock is None:
            self._take_next()
        if self._lock is not None:
            cell = self._waiting.pop(0)
            if is_present(self.chain, cell):  # another machine was faster
                self._give_back()
            else:
                self._begin(cell)
        return True

    def stop(self) -> None:
        """Ends the cell that runs, and whatever it has started."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._close()
        self._give_back()

    def _take_next(self, patience: float = 0.0) -> None:
        """Takes the lock of the next cell, unless another machine has it."""
        self.blocked = ""
        until = time.monotonic() + patience
        while self._waiting and self._lock is None:
            try:
                self._lock = CellLock(lock_file(self.chain, self._waiting[0]))
            except Held as holder:
                if not holder.here:
                    self.blocked = str(holder)
                    return
                if time.monotonic() > until:
                    raise SweepBusy(
                        f"{self.chain.folder} is being run by another sweep ({holder}); wait for it, or choose another "
                        "--folder"
                    ) from None
                time.sleep(0.1)

    def _give_back(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _begin(self, cell: Cell) -> None:
        folder = self.chain.folder / cell.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_recipe(self.chain, cell)
        assert self._lock is not None
        watched, self._pipe = os.pipe()
        line = [sys.executable, "-m", "graft_lightning", "cell", str(folder), f"--watch={watched}"]
        try:
            with open(folder / LOG, "wb") as log:
                self._process = subprocess.Popen(
                    line,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=_environment(self.chain.threads),
                    pass_fds=(watched, self._lock.descriptor),
                    start_new_session=True,
                )
        finally:
            os.close(watched)
        self._cell = cell

    def _ended(self) -> None:
        assert self._process is not None
        assert self._cell is not None
        if self._process.returncode:
            name = self._cell.name
            log = self.chain.folder / name / LOG
            sys.stderr.write(f"{self.chain.name}/{name} failed, see {log}\n")
        self._close()

    def _close(self) -> None:
        """Closes the pipe: what the cell has left behind, and still watches it, ends too."""
        self._process = None
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None
        self._give_back()


def run_chain(chain: CellChain, cells: Sequence[Cell] | None = None) -> None:
    """Runs cells of a chain, those of `to_run` by default, to the last; a failed cell does not stop the others.

    Raises:
        SweepBusy: if another sweep of this machine is running it.
    """
    running = RunningChain(chain, cells)
    try:
        while running.step():
            time.sleep(0.05)
    finally:
        running.stop()


def is_present(chain: CellChain, cell: Cell) -> bool:
    """Whether a cell has run to its end with these settings, and left its files in the folder of runs."""
    found = done(chain.folder / cell.name)
    return found is not None and found["identity"] == digest_of(identity(chain, cell))


def is_done(chain: CellChain, cell: Cell) -> bool:
    """Whether a cell has run to its end with these settings: here, or by its record.

    Raises:
        RecordError: if its record is damaged or foreign; names the file.
    """
    return is_present(chain, cell) or no_longer(chain, cell) == []


def no_longer(chain: CellChain, cell: Cell) -> list[str] | None:
    """Why the record of a cell does not hold for it, as lines; empty if it does, None if there is none.

    Raises:
        RecordError: if it is damaged or foreign; names the file.
    """
    file = record_file(chain, cell)
    record = read_record(file) if file else None
    return changes(record, identity(chain, cell)) if record else None


def to_run(chains: Sequence[CellChain]) -> dict[str, list[Cell]]:
    """The cells that are not done, by chain; and those whose files such a cell needs and that are no longer here.

    Raises:
        RecordError: if a record is damaged or foreign; names the file.
    """
    everything = {f"{chain.name}/{cell.name}": (chain, cell) for chain in chains for cell in chain.cells}
    wanted = [name for name, (chain, cell) in everything.items() if not is_done(chain, cell)]
    found: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name not in found:
            found.add(name)
            own = everything[name][1]
            for needed in own.needs:
                # of a run that only decides on a setting, the record says enough
                there = is_done if needed in own.choose else is_present
                if needed in everything and not there(*everything[needed]):
                    wanted.append(needed)
    return {chain.name: [cell for cell in chain.cells if f"{chain.name}/{cell.name}" in found] for chain in chains}


def record_file(chain: CellChain, cell: Cell) -> Path | None:
    """Where the record of a cell is kept; None where none is."""
    return chain.records and chain.records / chain.name / f"{cell.name}.json"


def lock_file(chain: CellChain, cell: Cell) -> Path:
    """The lock of a cell, beside its folder, which is deleted when the cell is begun."""
    return chain.folder / f".{cell.name}.lock"


def keep_record(chain: CellChain, cell: Cell, decided_by: Mapping[str, Any]) -> None:
    """Writes the record of a cell that has run to its end."""
    if file := record_file(chain, cell):
        folder = chain.folder / cell.name
        write_record(file, decided_by, folder, finished(folder))


def identity(chain: CellChain, cell: Cell) -> dict[str, Any]:
    """Everything that a cell's result depends on: settings, seed, YAML layers, and the cells whose files it reads."""
    return {
        "seed": chain.seed,
        "cell": cell.name,
        "commands": list(cell.commands),
        "layers": [_layer(Path(config).absolute()) for config in cell.config],
        "settings": cell.settings,
        "needs": dict(cell.needs),
        **({"choose": dict(cell.choose)} if cell.choose else {}),
    }


def _layer(file: Path) -> Any:
    """What a file says; it is read once, though hundreds of cells have it, as long as it stays as it is."""
    found = file.stat()
    return _layer_of(file, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=256)
def _layer_of(file: Path, changed: int, size: int) -> Any:
    return read_yaml(file)


def arguments(chain: CellChain, cell: Cell, folder: Path, command: str) -> list[str]:
    """The command line of one command of a cell."""
    settings: dict[str, Any] = {
        "seed_everything": chain.seed,
        "trainer.logger.init_args.save_dir": str(chain.folder),
        "trainer.logger.init_args.name": cell.name,
        "trainer.logger.init_args.version": "",
        "trainer.enable_progress_bar": "false",
        "trainer.enable_model_summary": "false",
        **cell.settings,
    }
    line = [f"--config={config}" for config in cell.config]
    places = {OWN_FOLDER: folder, "{chain}": chain.folder, "{root}": chain.folder.parent}
    for key, value in settings.items():
        if value is not None:
            text = value if isinstance(value, str) else json.dumps(value)
            for place, where in places.items():
                text = text.replace(place, str(where))
            line.append(f"--{key}={text}")
    if command != "fit" and "fit" in cell.commands:
        line.append(f"--ckpt_path={newest_checkpoint(folder)}")
    return line


def write_recipe(chain: CellChain, cell: Cell) -> None:
    """Writes down what a cell's process is to do; the sweep's file may be edited meanwhile."""
    decided_by = identity(chain, cell)
    recipe = {
        "identity": decided_by,
        "digest": digest_of(decided_by),
        "chain": {
            "name": chain.name,
            "seed": chain.seed,
            "folder": str(chain.folder),
            "threads": chain.threads,
            "records": str(chain.records) if chain.records else None,
        },
        "cell": asdict(cell),
    }
    write_text(chain.folder / cell.name / RECIPE, json.dumps(recipe, indent=1) + "\n")


def read_recipe(folder: Path) -> tuple[CellChain, Cell, dict[str, Any]]:
    """The chain, the cell and its identity, out of a cell's folder.

    Raises:
        FileNotFoundError: if it is no cell's folder.
    """
    file = folder / RECIPE
    if not file.is_file():
        raise FileNotFoundError(f"{file} is absent; a sweep writes it into the folder of a cell")
    recipe = read_json(file)
    cell, own = Cell(**recipe["cell"]), recipe["chain"]
    records = Path(own["records"]) if own["records"] else None
    chain = CellChain(own["name"], own["seed"], [cell], Path(own["folder"]), own["threads"], records)
    return chain, cell, recipe["identity"]


def _environment(threads: int) -> dict[str, str]:
    """That of this process, with the number of threads, and with this package where it is not installed."""
    found = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
    root = Path(__file__).parents[2]
    if "site-packages" not in root.parts:
        found["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
    return found
