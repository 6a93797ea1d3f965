"""``sweep``: the cells of a comparison, each run once, in parallel chains; ends in a report."""

import argparse
import fnmatch
import itertools
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft_lightning.cli.chain import Cell, CellChain, RunningChain, SweepBusy, is_done
from graft_lightning.cli.report import write_reports
from graft_lightning.cli.sentences import read_yaml
from graft_lightning.runs import LOG, done


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
    try:
        failed = run_chains(chains, options.jobs or plan.jobs)
    except SweepBusy as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None
    try:
        for path in write_reports(plan.folder, plan.report):
            print(f"report: {path}")
    except FileNotFoundError as error:
        sys.stderr.write(f"no report: {error}\n")
    print(f"curves and images: tensorboard --logdir {plan.folder}")
    if failed:
        sys.stderr.write("failed: " + ", ".join(failed) + f"; the last lines are in each cell's {LOG}\n")
        raise SystemExit(1)


PAUSE = 0.3
"""Seconds between two looks at the cells that run."""


@dataclass(frozen=True)
class Plan:
    """A sweep file, read."""

    folder: Path
    jobs: int
    chains: list[CellChain]
    report: dict[str, Any]


def read_plan(file: Path, folder: Path | None = None) -> Plan:
    """Reads a sweep file.

    Raises:
        ValueError: naming the key, if a chain asks for a cell that is not there, or a key is unknown.
    """
    text = read_yaml(file)
    if not isinstance(text, dict):
        raise ValueError(f"{file} is no sweep, but a {type(text).__name__}; keys are folder, cells, chains, report")
    unknown = set(text) - {"folder", "jobs", "threads", "settings", "cells", "chains", "report"}
    if unknown:
        hint = "; this is the configuration of one run, for `fit`" if {"data", "model"} & set(text) else ""
        raise ValueError(f"{file}: unknown keys {sorted(unknown)}{hint}")
    for key, kind in (("folder", str), ("cells", dict), ("chains", list)):
        if not isinstance(text.get(key), kind) and not (key == "folder" and folder):
            raise ValueError(f"{file}: {key}={text.get(key)!r}; a sweep needs a {kind.__name__} there")
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
        chains.append(CellChain(chain["name"], chain["seed"], own, root / chain["name"], text.get("threads", 1)))
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


def run_chains(chains: Sequence[CellChain], jobs: int) -> list[str]:
    """Runs chains in parallel, the cells of each one after the other. Returns the names of those that failed."""
    waiting, running = list(chains), list[RunningChain]()
    total = sum(len(chain.cells) for chain in chains)
    told = {(chain.name, cell.name) for chain in chains for cell in chain.cells if is_done(chain, cell)}
    if told:
        print(f"{len(told)} of {total} cells are done already")
    start = time.monotonic()
    try:
        while waiting or running:
            running = [chain for chain in running if chain.step()]
            while waiting and len(running) < jobs:
                running.append(RunningChain(waiting.pop(0)))
            for chain in chains:
                for cell in chain.cells:
                    if (chain.name, cell.name) in told or not is_done(chain, cell):
                        continue
                    told.add((chain.name, cell.name))
                    seconds = (done(chain.folder / cell.name) or {}).get("seconds", 0.0)
                    minutes = (time.monotonic() - start) / 60
                    print(
                        f"[{len(told)}/{total}, {minutes:.1f} min] {chain.name}/{cell.name}: {seconds:.0f} s",
                        flush=True,
                    )
            time.sleep(PAUSE)
    finally:
        for chain_running in running:
            chain_running.stop()
    return [f"{chain.name}/{cell.name}" for chain in chains for cell in chain.cells if not is_done(chain, cell)]
