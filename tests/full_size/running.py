"""Runs the steps of a cell, each in a process whose time and greatest memory are recorded; what is done stays done."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.full_size.cells import Setting, Step

GIGA = 1e9
UNITS = {"B": 1.0, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}
SERVED_WITHIN = 900


@dataclass(frozen=True)
class Measured:
    """What a process took.

    Attributes:
        seconds: wall time.
        core_seconds: of the processor.
        gigabytes: resident at most.
        code: of its exit; 0 is success.
        output: what it printed.
        beside: gigabytes of the server that stood beside it, at most.
    """

    seconds: float
    core_seconds: float
    gigabytes: float
    code: int
    output: str
    beside: float | None = None


Runner = Callable[[Step, Path], Measured]


def run_process(step: Step, log: Path) -> Measured:
    """Runs a step to its end."""
    beside: list[float] = []
    with _beside(step, log, beside) if step.beside else nullcontext(), open(log, "w", encoding="utf-8") as file:
        start = time.perf_counter()
        process = subprocess.Popen(_line(step.module, *step.arguments), stdout=file, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
    return Measured(
        round(seconds, 1),
        round(usage.ru_utime + usage.ru_stime, 1),
        _gigabytes(usage),
        process.returncode,
        log.read_text(encoding="utf-8", errors="replace"),
        beside[0] if beside else None,
    )


def _gigabytes(usage: Any) -> float:
    """Resident at most."""
    return round(usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / GIGA, 3)


def run_cell(name: str, steps: list[Step], setting: Setting, run: Runner = run_process) -> dict[str, Any]:
    """The record of a cell: what is missing is run, step by step, until one fails.

    Args:
        name: of the cell.
        steps: in their order.
        setting: gives the folder, where ``record.json`` is kept.
        run: of a step.
    """
    record = read_record(setting.folder)
    setting.folder.mkdir(parents=True, exist_ok=True)
    for number, step in enumerate(steps):
        if record.get(step.name, {}).get("code") == 0:
            continue
        print(f"{name}: {step.name} ...", flush=True)
        done = run(step, setting.folder / f"{number}-{step.name.replace(' ', '-')}.log")
        row = {key: value for key, value in asdict(done).items() if key != "output" and value is not None}
        if step.name.startswith("plan"):
            row |= planned(done.output)
            del row["gigabytes"]  # a plan has the system forget it, piece of work by piece of work
        record[step.name] = row
        record = {one.name: record[one.name] for one in steps if one.name in record}  # a step may be run anew
        (setting.folder / "record.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        print(f"{name}: {step.name}: {told(row)}", flush=True)
        if done.code:
            print("\n".join(done.output.splitlines()[-12:]), flush=True)
            break
    return record


def read_record(folder: Path) -> dict[str, Any]:
    """What a cell has recorded so far."""
    file = folder / "record.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def planned(text: str) -> dict[str, float]:
    """The bytes and seconds that a plan states, in gigabytes and seconds."""
    found = {}
    if match := re.search(r"^  peak memory +about ([\d.]+) (\w+)", text, re.M):
        found["planned_gigabytes"] = round(float(match[1]) * UNITS[match[2]] / GIGA, 3)
    if match := re.search(r"^  time +about ([\d.]+) (\w+)", text, re.M):
        found["planned_seconds"] = float(match[1]) * SECONDS[match[2]]
    return found


def told(row: dict[str, Any]) -> str:
    """A row in words."""
    if row["code"]:
        return f"failed (exit code {row['code']})"
    words = f"{row['seconds']:.0f} s, {row['core_seconds'] / 60:.1f} core-minutes"
    if "gigabytes" in row:
        words += f", {row['gigabytes']:.2f} GB at most"
    if "beside" in row:
        words += f" and {row['beside']:.2f} GB of its server"
    if "planned_gigabytes" in row:
        words += f"; says {row['planned_gigabytes']:.2f} GB"
    return words


@contextmanager
def _beside(step: Step, log: Path, memory: list[float]) -> Any:
    """The server of a step, from when it says that it serves; ``memory`` is given its gigabytes at most."""
    file = log.with_suffix(".server.log")
    with open(file, "w", encoding="utf-8") as written:
        server = subprocess.Popen(_line(*step.beside), stdout=written, stderr=subprocess.STDOUT)
        try:
            until = time.monotonic() + SERVED_WITHIN
            while "serving" not in file.read_text(encoding="utf-8", errors="replace"):
                if server.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"the reward server did not start; see {file}")
                time.sleep(0.5)
            yield
        finally:
            server.terminate()
            _, _, usage = os.wait4(server.pid, 0)
            server.returncode = 0
            memory.append(_gigabytes(usage))


def _line(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]
