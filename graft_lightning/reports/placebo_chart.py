"""The placebo beside the real run, as a picture and as a part of a report. No torch."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from graft_lightning.reports.charts import save_figure
from graft_lightning.runs import PLACEBO, TUNED, validations
from graft_lightning.statistics import Interval


def chosen_before(folders: Sequence[Path], out: Path) -> list[str]:
    """Lines of a report about placebos and tuning in the folders of runs, with a picture of each placebo.

    Args:
        folders: run folders, or folders that hold some.
        out: where the pictures go.
    """
    lines: list[str] = []
    for number, file in enumerate(_below(folders, PLACEBO)):
        record = _json(file)
        if record is None:
            continue
        image = f"placebo{number or ''}.png"
        draw_placebo(record, file.parent, out / image)
        moved, reward = record.get("moved"), record["reward"]
        if moved:
            told = (
                f"{reward} falls by itself, by {-moved['mean']:.3f}, at the settings of the run: what it hangs on is "
                "not controlled, whatever is selected."
            )
        elif any(p["rewards"][reward]["mean"] is None for p in record["points"]):
            told = f"Not every setting leaves samples that can be scored: whether {reward} falls by itself is not told."
        else:
            told = f"{reward} does not fall by itself at the settings of the run."
        where = f"{file.parent.name}: the same steps on unselected samples."
        lines += [f"{where} {told}", "", f"![Placebo beside the run]({image})", ""]
    for file in _below(folders, TUNED):
        record = _json(file)
        if record is None:
            continue
        best = record["chosen"]
        what = (
            "nothing beat the base"
            if best is None
            else f"{best['setting']['name']}, {best['step']} steps, of {len(record['tried'])} evaluations"
        )
        lines += [f"{file.parent.name}: tuned within {record['gradient_steps']} gradient steps: {what}.", ""]
    return ["## Placebo and tuning", "", *lines] if lines else []


def _below(folders: Sequence[Path], name: str) -> list[Path]:
    return [file for folder in folders for file in sorted(folder.rglob(name))]


def _json(file: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def draw_placebo(record: Mapping[str, Any], folder: Path, path: Path) -> None:
    """The reward under placebo at every setting, and in the real run beside it where the folder holds one."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axis = figure.subplots()
    axis.spines[["top", "right"]].set_visible(False)
    reward = record["reward"]
    for number, name in enumerate(dict.fromkeys(p["setting"]["name"] for p in record["points"])):
        found = [p for p in record["points"] if p["setting"]["name"] == name]
        steps = [0, *(p["step"] for p in found)]
        differences = [0.0, *(p["rewards"][reward]["mean"] for p in found)]
        # none where not one sample could be scored
        means = [math.nan if d is None else record["base"][reward] + d for d in differences]
        axis.plot(steps, means, "--", marker="o", ms=3, color=f"C{number}", label=f"placebo, {name}")
    real = validations(folder)
    if real and reward in real[0]["metrics"]:
        steps = sorted(real)
        found_real: list[Interval] = [real[step]["metrics"][reward] for step in steps]
        axis.plot(steps, [f["mean"] for f in found_real], color="#1b7f5c", marker="o", ms=4, label="the run")
        axis.fill_between(
            steps, [f["low"] for f in found_real], [f["high"] for f in found_real], color="#1b7f5c", alpha=0.15
        )
    axis.axhline(record["base"][reward], color="black", linewidth=0.8, linestyle=":", label="base")
    axis.set(xlabel="gradient steps", ylabel=reward, title="Unselected samples beside the real run")
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    save_figure(figure, path)
