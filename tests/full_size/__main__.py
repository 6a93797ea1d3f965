"""``make full-size``: every published architecture once through the commands that users type, with random weights.

Resumable: what a cell has recorded is not run again; remove its folder to run it anew. Prints a table and writes one
JSON file. Hours on two CPU cores; memory decides what can be run, and `plan` says so before a cell begins.
"""

import argparse
import datetime
import json
import os
import platform
import shutil
from pathlib import Path
from typing import Any

import torch

from tests.full_size.cells import CELLS, Setting
from tests.full_size.running import Runner, read_record, run_cell, run_process
from tests.full_size.table import table

FOLDER = Path("runs/full_size")
WEIGHTS = ("pipeline", "clip", "clip_flant5", "flow", "trained", "export")


def main(arguments: list[str] | None = None, run: Runner = run_process) -> dict[str, Any]:
    """Runs the cells, prints the table, returns what the JSON file holds."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.full_size", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS), help="which, in this order")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of the cells' own folders")
    parser.add_argument("--out", type=Path, help="the JSON file; full_size.json in the folder by default")
    parser.add_argument(
        "--molecules", type=Path, help="QM7 as an archive of xyz files; without it that cell is left out"
    )
    parser.add_argument("--device", choices=["cpu", "gpu"], default="gpu" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--tiny", action="store_true", help="architectures cut down: tries the path, measures nothing")
    parser.add_argument("--keep", action="store_true", help="leave the random weights on disk (25 GB in all)")
    options = parser.parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    records = {}
    for name in options.cells:
        setting = Setting(options.folder / name, options.tiny, options.device, options.molecules)
        if name == "molecules" and options.molecules is None:
            print("molecules: left out; --molecules FILE names an archive of QM7's xyz files", flush=True)
            continue
        records[name] = run_cell(name, CELLS[name][1](setting), setting, run)
    if not options.keep:
        for name in options.cells:
            for part in WEIGHTS:
                shutil.rmtree(options.folder / name / part, ignore_errors=True)
    everything = {name: record for name in CELLS if (record := read_record(options.folder / name))}
    found = {**machine(options), "cells": everything}
    out = options.out or options.folder / "full_size.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"\n{table(found)}\nwritten to {out}", flush=True)
    return found


def machine(options: Any) -> dict[str, Any]:
    """When, where and how."""
    card = torch.cuda.get_device_name() if options.device == "gpu" else None
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {memory():.0f} GB",
        "threads": int(os.environ["OMP_NUM_THREADS"]),
        "card": card,
        "torch": torch.__version__,
        "tiny": options.tiny,
    }


def memory() -> float:
    """Of the machine, in GB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


if __name__ == "__main__":
    if any(record.get("code") for cell in main()["cells"].values() for record in cell.values()):
        raise SystemExit(1)
