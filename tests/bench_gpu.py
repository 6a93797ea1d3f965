"""``make bench-gpu``: the real architectures with random weights on one GPU, ours against a bare loop.

Within 8 minutes, without network or files. `--device cpu --tiny` tries the whole path with architectures cut down.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from graft_lightning.allocator import keep_freed_memory
from graft_lightning.reports.trial import texts_for
from tests.bench import quieten
from tests.benchmarks import real, real_loops, report
from tests.benchmarks.loops import fitted
from tests.benchmarks.measure import seconds

GOALS = {"sampling": 0.97, "training": 0.95}
REPEATS = 3
TRAINING_STEPS = 15


@dataclass(frozen=True)
class Part:
    """One architecture in one precision: what of it is measured."""

    title: str
    subject: Callable[[], real.Subject]
    precision: str
    stages: tuple[str, ...] = ("training", "sampling")


def parts(folder: Path, tiny: bool) -> list[Part]:
    """All of them, what matters most first."""

    def pipeline(name: str, dtype: str, compiled: bool = False) -> Callable[[], real.Subject]:
        return partial(real.pipeline, name, folder, dtype, compiled, tiny)

    return [
        Part("SD 2, bf16", pipeline("sd2", "bf16"), "bf16-mixed"),
        Part("NCSN++, bf16-mixed", partial(real.flow, False, tiny), "bf16-mixed"),
        Part("NCSN++, fp32", partial(real.flow, False, tiny), "32-true", ("inversion",)),
        Part("corrector, bf16-mixed", partial(real.corrector, tiny), "bf16-mixed"),
        Part("EGNN, fp32", partial(real.molecules, False, tiny), "32-true"),
        Part("SDXL, bf16", pipeline("sdxl", "bf16"), "bf16-mixed"),
        Part("SD 3, bf16", pipeline("sd3", "bf16"), "bf16-mixed"),
        Part("SD 2, fp32", pipeline("sd2", "fp32"), "32-true", ("training",)),
        Part("SD 2, bf16, compiled", pipeline("sd2", "bf16", True), "bf16-mixed", ("training",)),
        Part("NCSN++, bf16-mixed, compiled", partial(real.flow, True, tiny), "bf16-mixed", ("training",)),
        Part("EGNN, fp32, compiled", partial(real.molecules, True, tiny), "32-true", ("training",)),
    ]


def measured(part: Part, device: str, tiny: bool) -> Iterator[dict[str, Any]]:
    """A row for every stage of a part."""
    subject = part.subject()
    module = real_loops.module_of(subject)
    with torch.device(device):  # made there, not on the host and copied
        module.configure_model()
    module.to(device)
    for stage in part.stages:
        if stage == "training":
            yield _row(part, subject, stage, subject.batch, 1, _training(part, subject, module, device, tiny))
        elif stage == "inversion":
            pair = real_loops.inversion(subject, module)
            yield _row(part, subject, stage, subject.batch, subject.batch, [_again(work, device) for work in pair])
        else:
            module.eval()
            pair = real_loops.our_sampling(subject, module), real_loops.bare_sampling(subject, module)
            count = len(subject.texts)
            yield _row(part, subject, stage, count, count, [_again(work, device) for work in pair])


Timed = tuple[float, float | None]
"""Seconds of the fastest of a few, and the gigabytes of the GPU that were in use at most."""


def _training(part: Part, subject: real.Subject, module: Any, device: str, tiny: bool) -> list[Timed]:
    """A step under the trainer, and one by hand."""
    steps = 3 if tiny else TRAINING_STEPS
    texts, x = texts_for(subject.texts, subject.batch), real_loops.examples(subject, "cpu")
    accelerator = "gpu" if device == "cuda" else "cpu"
    _reset(device)
    ours = [fitted(module, x, texts, steps, accelerator, precision=part.precision) for _ in range(REPEATS)]
    peak = _peak(device)
    module.to(device)  # the trainer leaves it on the CPU
    by_hand = real_loops.bare_training(subject, module, steps, part.precision == "bf16-mixed")
    seconds_bare, peak_bare = _again(by_hand, device)
    return [(min(ours), peak), (seconds_bare / steps, peak_bare)]


def _again(work: Callable[[], Any], device: str) -> Timed:
    """The fastest of a few calls, after one that is not counted."""
    _reset(device)
    work()
    return min(seconds(work, time.perf_counter) for _ in range(REPEATS)), _peak(device)


def _reset(device: str) -> None:
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()


def _peak(device: str) -> float | None:
    return torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else None


def _row(part: Part, subject: real.Subject, stage: str, batch: int, unit: int, both: list[Timed]) -> dict[str, Any]:
    """What is kept: samples a second, or training steps a second."""
    (ours, peak), (bare, peak_bare) = both
    return {
        "architecture": subject.name,
        "what": stage,
        "how": part.title.partition(", ")[2],
        "batch": batch,
        "a_second": unit / ours,
        "a_second_bare": unit / bare,
        "share": bare / ours,
        "peak_gigabytes": peak,
        "peak_gigabytes_bare": peak_bare,
    }


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measures part by part as long as there is time; prints a table, writes one JSON file.

    Raises:
        SystemExit: 2 where there is no GPU and none is asked to be done without.
    """
    parser = argparse.ArgumentParser(prog="make bench-gpu", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="architectures cut down: tries the path, measures nothing")
    parser.add_argument("--minutes", type=float, default=8.0, help="no part is begun later")
    parser.add_argument("--out", type=Path, default=Path("runs/bench/bench_gpu.json"), help="the JSON file")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.stderr.write("error: there is no GPU here; `--device cpu --tiny` tries the path without one\n")
        raise SystemExit(2)
    if options.device == "cpu":
        torch.set_num_threads(1)
        keep_freed_memory()
    quieten()
    start = time.monotonic()
    found: dict[str, Any] = {**report.machine(), "device": options.device, "tiny": options.tiny, "rows": [], "left": {}}
    print(f"{'':<46}{'ours':>9}{'bare':>9}   share   goal   peak GB ours, bare", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for part in parts(Path(folder), options.tiny):
            if time.monotonic() - start > 60 * options.minutes:
                found["left"][part.title] = "no time left"
                continue
            try:
                for row in measured(part, options.device, options.tiny):
                    found["rows"].append(row)
                    print(_line(row), flush=True)
            except (torch.OutOfMemoryError, ImportError, RuntimeError) as error:
                found["left"][part.title] = str(error).partition("\n")[0]
            if options.device == "cuda":
                torch.cuda.empty_cache()
    found["minutes"] = round((time.monotonic() - start) / 60, 2)
    for title, reason in found["left"].items():
        print(f"{title}: left out, {reason}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"{found['minutes']} minutes; written to {options.out}")
    return found


def _line(row: dict[str, Any]) -> str:
    what = f"{row['architecture']}, {row['how']}, {row['what']} of {row['batch']}"
    goal = GOALS.get(row["what"])
    peaks = [row["peak_gigabytes"], row["peak_gigabytes_bare"]]
    told = "" if None in peaks else f"{peaks[0]:9.2f}{peaks[1]:9.2f}"
    return (
        f"{what:<46}{row['a_second']:9.3g}{row['a_second_bare']:9.3g}{row['share']:8.3f}"
        f"{'' if goal is None else f'{goal:7.2f}'}{told}"
    )


if __name__ == "__main__":
    main()
