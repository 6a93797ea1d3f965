"""A chain of a sweep: its cells, and the process that runs one of them at a time.

A cell is ``python -m graft_lightning cell FOLDER``, a process of its own with a session and process group of its own,
whose output goes to a log. It runs all commands of the cell, so that the imports, which take seconds, are paid once a
cell and not once a command. It holds the end of a pipe, which closes when this process dies in whatever way, and a lock
of the chain's folder, so that another sweep of the same folder waits for what is still dying, and never deletes what is
being written.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from graft_lightning.durable import write_text
from graft_lightning.identity import digest_of
from graft_lightning.runs import LOG, done, newest_checkpoint

RECIPE = "cell.json"
"""What a cell's process is to do: chain, cell and identity."""

LOCK = ".lock"
DYING = 10.0
"""Seconds in which the processes of a killed sweep have ended."""


@dataclass(frozen=True)
class Cell:
    """One run: commands on one configuration.

    Attributes:
        name: of its folder.
        commands: subcommands, in order; ``fit`` before ``test`` hands over its weights.
        config: YAML layers.
        settings: overrides by dotted key; ``{chain}`` stands for the chain's folder, ``{root}`` for the sweep's, and
            None takes back what the sweep sets for every cell.
    """

    name: str
    commands: Sequence[str]
    config: Sequence[str]
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CellChain:
    """Cells that share a seed and a pool, run one after the other.

    Attributes:
        name: of its folder.
        seed: of every cell.
        cells: in order.
        folder: of the chain.
        threads: of torch.
    """

    name: str
    seed: int
    cells: Sequence[Cell]
    folder: Path
    threads: int


class SweepBusy(RuntimeError):
    """Another sweep is running the same chain."""


class RunningChain:
    """A chain that is being run: of its cells that are not done one at a time, in a process of its own.

    Args:
        chain: what is run. Of a cell that is begun, all that an earlier sweep left is deleted.

    Raises:
        SweepBusy: if another sweep is running it.
    """

    def __init__(self, chain: CellChain) -> None:
        self.chain = chain
        chain.folder.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(chain.folder / LOCK)
        self._waiting = [cell for cell in chain.cells if not is_done(chain, cell)]
        self._cell: Cell | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: int | None = None

    def step(self) -> bool:
        """Looks after the cell that runs, and begins the next one where it has ended. False when none is left."""
        if self._process is not None:
            if self._process.poll() is None:
                return True
            self._ended()
        if not self._waiting:
            os.close(self._lock)
            return False
        self._begin(self._waiting.pop(0))
        return True

    def stop(self) -> None:
        """Ends the cell that runs, and whatever it has started."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._close()

    def _begin(self, cell: Cell) -> None:
        folder = self.chain.folder / cell.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_recipe(self.chain, cell)
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
                    pass_fds=(watched, self._lock),
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


def run_chain(chain: CellChain) -> None:
    """Runs the cells of a chain that are not done, to the last; a failed cell does not stop the others.

    Raises:
        SweepBusy: if another sweep is running it.
    """
    running = RunningChain(chain)
    try:
        while running.step():
            time.sleep(0.05)
    finally:
        running.stop()


def is_done(chain: CellChain, cell: Cell) -> bool:
    """Whether a cell has run to its end with these settings."""
    found = done(chain.folder / cell.name)
    return found is not None and found["identity"] == identity(chain, cell)


def identity(chain: CellChain, cell: Cell) -> str:
    """A digest of everything that a cell's result depends on: settings, seed, and the text of its YAML layers."""
    texts = [Path(config).read_text(encoding="utf-8") for config in cell.config]
    return digest_of([chain.seed, cell.name, list(cell.commands), texts, cell.settings])


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
    for key, value in settings.items():
        if value is not None:
            text = value if isinstance(value, str) else json.dumps(value)
            text = text.replace("{chain}", str(chain.folder)).replace("{root}", str(chain.folder.parent))
            line.append(f"--{key}={text}")
    if command != "fit" and "fit" in cell.commands:
        line.append(f"--ckpt_path={newest_checkpoint(folder)}")
    return line


def write_recipe(chain: CellChain, cell: Cell) -> None:
    """Writes down what a cell's process is to do; the sweep's file may be edited meanwhile."""
    recipe = {
        "identity": identity(chain, cell),
        "chain": {"name": chain.name, "seed": chain.seed, "folder": str(chain.folder), "threads": chain.threads},
        "cell": asdict(cell),
    }
    write_text(chain.folder / cell.name / RECIPE, json.dumps(recipe, indent=1) + "\n")


def read_recipe(folder: Path) -> tuple[CellChain, Cell, str]:
    """The chain, the cell and its identity, out of a cell's folder.

    Raises:
        FileNotFoundError: if it is no cell's folder.
    """
    file = folder / RECIPE
    if not file.is_file():
        raise FileNotFoundError(f"{file} is absent; a sweep writes it into the folder of a cell")
    recipe = json.loads(file.read_text(encoding="utf-8"))
    cell, own = Cell(**recipe["cell"]), recipe["chain"]
    chain = CellChain(own["name"], own["seed"], [cell], Path(own["folder"]), own["threads"])
    return chain, cell, recipe["identity"]


def _environment(threads: int) -> dict[str, str]:
    """That of this process, with the number of threads, and with this package where it is not installed."""
    found = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
    root = Path(__file__).parents[2]
    if "site-packages" not in root.parts:
        found["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH", "")]))
    return found


def _locked(file: Path) -> int:
    """The descriptor of a file that no other process has locked; the lock lasts as long as any process holds it."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    until = time.monotonic() + DYING
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < until:
                time.sleep(0.1)
                continue
            holder = os.read(descriptor, 100).decode(errors="replace").strip()
            os.close(descriptor)
            raise SweepBusy(
                f"{file.parent} is being run by another sweep (process {holder or 'unknown'}); wait for it, or choose "
                "another --folder"
            ) from None
        except OSError:  # a file system without locks
            return descriptor
        os.truncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        return descriptor
