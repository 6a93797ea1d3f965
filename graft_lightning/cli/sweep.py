"""``sweep``: the cells of a comparison, each run once, in parallel chains; ends in a report."""

import argparse
import contextlib
import fnmatch
import hashlib
import itertools
import json
import multiprocessing
import os
import shutil
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DONE = "done.json"
LOG = "log.txt"


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
class Chain:
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


def run_sweep(args: Sequence[str]) -> None:
    """Runs the sweep of a YAML file and writes its report.

    Raises:
        SystemExit: 1 if a cell failed (the others are run all the same), 2 if the file is mistaken.
    """
    parser = argparse.ArgumentParser(prog="python -m graft_lightning sweep", description=run_sweep.__doc__)
    parser.add_argument("file", type=Path, help="YAML with name, folder, chains, cells, report")
    parser.add_argument("--jobs", type=int, help="chains at a time; the file's own number by default")
    parser.add_argument("--folder", type=Path, help="where runs go; the file's own by default")
    parser.add_argument("--only", nargs="*", help="only chains whose name starts so")
    options = parser.parse_args(list(args))
    try:
        plan = read_plan(options.file, options.folder)
    except (ValueError, FileNotFoundError) as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None
    chains = [c for c in plan.chains if not options.only or c.name.startswith(tuple(options.only))]
    failed = run_chains(chains, options.jobs or plan.jobs)
    from graft_lightning.cli.report import write_reports

    for path in write_reports(plan.folder, plan.report):
        print(f"report: {path}")
    print(f"curves and pictures: tensorboard --logdir {plan.folder}")
    if failed:
        sys.stderr.write("failed: " + ", ".join(failed) + f"; the last lines are in each cell's {LOG}\n")
        raise SystemExit(1)


@dataclass(frozen=True)
class Plan:
    """A sweep file, read."""

    folder: Path
    jobs: int
    chains: list[Chain]
    report: dict[str, Any]


def read_plan(file: Path, folder: Path | None = None) -> Plan:
    """Reads a sweep file.

    Raises:
        ValueError: naming the key, if a chain asks for a cell that is not there, or a key is unknown.
    """
    import yaml

    text = yaml.safe_load(file.read_text(encoding="utf-8"))
    unknown = set(text) - {"folder", "jobs", "threads", "settings", "cells", "chains", "report"}
    if unknown:
        hint = "; this is the configuration of one run, for `fit`" if {"data", "model"} & set(text) else ""
        raise ValueError(f"{file}: unknown keys {sorted(unknown)}{hint}")
    root = folder or Path(text["folder"])
    cells = {}
    for name, cell in text["cells"].items():
        wrong = set(cell) - {"commands", "config", "settings", "each"}
        if wrong:
            raise ValueError(f"{file}: cell {name} has unknown keys {sorted(wrong)}")
        settings = {**text.get("settings", {}), **cell.get("settings", {})}
        for filled, filled_settings in each(name, settings, cell.get("each", {})):
            cells[filled] = Cell(filled, cell["commands"], cell["config"], filled_settings)
    chains = []
    for chain in text["chains"]:
        asked = {name: fnmatch.filter(cells, name) for name in chain["cells"]}
        missing = [name for name, found in asked.items() if not found]
        if missing:
            raise ValueError(f"{file}: chain {chain['name']} asks for cells {missing}; there are {sorted(cells)}")
        extra = chain.get("settings", {})
        own = [
            Cell(c.name, c.commands, c.config, {**c.settings, **extra})
            for c in (cells[name] for found in asked.values() for name in found)
        ]
        chains.append(Chain(chain["name"], chain["seed"], own, root / chain["name"], text.get("threads", 1)))
    return Plan(root, text.get("jobs", 1), chains, text.get("report", {}))


def each(name: str, settings: dict[str, Any], values: dict[str, list[Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Names and settings of a cell that stands for several: every ``{key}`` in them takes each of its values.

    Args:
        name: of the cell.
        settings: of the cell.
        values: by key; all combinations are made.
    """
    found = []
    for chosen in itertools.product(*values.values()):
        filled, own = name, json.dumps(settings)
        for key, value in zip(values, chosen, strict=True):
            filled, own = (text.replace("{" + key + "}", str(value)) for text in (filled, own))
        found.append((filled, json.loads(own)))
    return found


def run_chains(chains: Sequence[Chain], jobs: int) -> list[str]:
    """Runs chains in parallel, each in a process of its own. Returns the names of failed cells."""
    context = multiprocessing.get_context("spawn")
    waiting, running = list(chains), list[Any]()
    total = sum(len(chain.cells) for chain in chains)
    told = {(chain.name, cell.name) for chain in chains for cell in chain.cells if is_done(chain, cell)}
    if told:
        print(f"{len(told)} of {total} cells are done already")
    start = time.monotonic()
    while waiting or running:
        running = [process for process in running if process.is_alive()]
        while waiting and len(running) < jobs:
            process = context.Process(target=run_chain, args=(waiting.pop(0),))
            process.start()
            running.append(process)
        for chain in chains:
            for cell in chain.cells:
                if (chain.name, cell.name) not in told and is_done(chain, cell):
                    told.add((chain.name, cell.name))
                    seconds = json.loads((chain.folder / cell.name / DONE).read_text())["seconds"]
                    minutes = (time.monotonic() - start) / 60
                    print(
                        f"[{len(told)}/{total}, {minutes:.1f} min] {chain.name}/{cell.name}: {seconds:.0f} s",
                        flush=True,
                    )
        time.sleep(0.3)
    return [f"{chain.name}/{cell.name}" for chain in chains for cell in chain.cells if not is_done(chain, cell)]


def is_done(chain: Chain, cell: Cell) -> bool:
    """Whether a cell has run to its end with these settings."""
    marker = chain.folder / cell.name / DONE
    return marker.is_file() and json.loads(marker.read_text())["identity"] == identity(chain, cell)


def identity(chain: Chain, cell: Cell) -> str:
    """A digest of everything that a cell's result depends on: settings, seed, and the text of its YAML layers."""
    texts = [Path(config).read_text(encoding="utf-8") for config in cell.config]
    facts = json.dumps([chain.seed, cell.name, list(cell.commands), texts, cell.settings], sort_keys=True)
    return hashlib.blake2b(facts.encode(), digest_size=8).hexdigest()


def run_chain(chain: Chain) -> None:
    """Runs the cells of a chain that are not done; a failed cell does not stop the others."""
    os.environ["OMP_NUM_THREADS"] = str(chain.threads)
    import torch

    torch.set_num_threads(chain.threads)
    for cell in chain.cells:
        if is_done(chain, cell):
            continue
        folder = chain.folder / cell.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        start = time.monotonic()
        with (
            open(folder / LOG, "w", encoding="utf-8") as log,
            contextlib.redirect_stdout(log),
            contextlib.redirect_stderr(log),
        ):
            succeeded = _run_cell(chain, cell, folder)
        if succeeded:
            done = {"identity": identity(chain, cell), "seconds": time.monotonic() - start, "seed": chain.seed}
            (folder / DONE).write_text(json.dumps(done))
        else:
            sys.stderr.write(f"{chain.name}/{cell.name} failed, see {folder / LOG}\n")


def _run_cell(chain: Chain, cell: Cell, folder: Path) -> bool:
    from graft_lightning.cli.main import main

    for command in cell.commands:
        try:
            main([command, *arguments(chain, cell, folder, command)])
        except (Exception, SystemExit):
            traceback.print_exc()
            return False
    return True


def arguments(chain: Chain, cell: Cell, folder: Path, command: str) -> list[str]:
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


def newest_checkpoint(folder: Path) -> Path:
    """The checkpoint that a fit left last.

    Raises:
        FileNotFoundError: if there is none.
    """
    found = sorted(folder.rglob("*.ckpt"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise FileNotFoundError(f"no checkpoint below {folder}")
    return found[-1]
