"""The free networks' table and the rest of `make bench` that is no comparison of digits: measured, printed, kept."""

import datetime
import itertools
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks import pools
from tests.benchmarks.free import CASES, STEPS, Case
from tests.benchmarks.loops import bare_sampling, our_sampling, trained
from tests.benchmarks.measure import compared, of_pairs, seconds

LARGE = 2**20
"""Elements of a batch from which fewer steps are measured."""


def free_networks(cases: dict[str, Case] = CASES, steps: int = STEPS, repeats: int = 7) -> dict[str, Any]:
    """Both tables: a step of sampling and of training, ours and bare, and Lightning's loop around nothing.

    Args:
        cases: by name.
        steps: of one measurement; a third of them for the large ones.
        repeats: pairs of measurements.
    """
    found: dict[str, Any] = {}
    for name, case in cases.items():
        few = max(steps // 3, 3) if case.batch * torch.Size(case.shape).numel() > LARGE else steps
        sampling = compared(our_sampling(case, few), bare_sampling(case, few), few, repeats)
        rows = list(itertools.islice(trained(case, max(2 * few, 10)), repeats + 1))[1:]
        training = of_pairs([(ours, bare) for ours, bare, _ in rows])
        empty = statistics.median(empty for *_, empty in rows) * 1e3
        found[name] = {
            "batch": [case.batch, *case.shape],
            "sampling": _rounded(asdict(sampling)),
            "training": _rounded({**asdict(training), "lightning": empty, "above": training.ours - empty}),
        }
        print(f"  {name:<10} {_row(found[name])}", flush=True)
    return found


def pool_reads(cases: dict[str, Case] = CASES) -> dict[str, float]:
    """Milliseconds of a batch of x_s, by size."""
    found = {}
    for name, case in cases.items():
        with tempfile.TemporaryDirectory() as folder:
            found[name] = round(pools.read_milliseconds(pools.filled(case, Path(folder))), 3)
        print(f"  {name:<10} {found[name]:8.2f} ms a batch of {case.batch}", flush=True)
    return found


def around() -> dict[str, float]:
    """Overlap, efficiency, start-up."""
    with tempfile.TemporaryDirectory() as folder:
        overlap = pools.overlap(Path(folder) / "overlap")
        efficiency = pools.efficiency(Path(folder))
    helping, importing = (
        statistics.median(_seconds_of(line) for _ in range(3))
        for line in (["-m", "graft_lightning", "--help"], ["-c", "import lightning"])
    )
    found = {"overlap": overlap, "efficiency": efficiency, "help": helping, "import_lightning": importing}
    print(f"  decoding and judging {overlap:.2f} seconds' work a second (1: in turn, 2: both at once)")
    print(f"  two processes        {efficiency:.2f} of twice one (goal 0.9)")
    print(f"  --help               {helping:.2f} s, `import lightning` {importing:.2f} s", flush=True)
    return _rounded(found)


def machine() -> dict[str, Any]:
    """When and where."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "card": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


HEAD = (
    "             sampling, ms a step            training, ms a step\n"
    "               ours    bare   ratio          ours    bare   ratio   Lightning   above it"
)


def _row(found: dict[str, Any]) -> str:
    s, t = found["sampling"], found["training"]
    return (
        f"{s['ours']:8.2f}{s['bare']:8.2f}{s['ratio']:8.2f}      {t['ours']:8.2f}{t['bare']:8.2f}{t['ratio']:8.2f}"
        f"{t['lightning']:12.2f}{t['above']:11.2f}"
    )


def _rounded(found: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in found.items()}


def _seconds_of(arguments: list[str]) -> float:
    line = [sys.executable, *arguments]
    return seconds(lambda: subprocess.run(line, check=True, capture_output=True), time.perf_counter)
