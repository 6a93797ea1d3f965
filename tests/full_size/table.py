"""The record of `make full-size` as a Markdown table."""

from typing import Any

from tests.full_size.cells import CELLS


def table(found: dict[str, Any]) -> str:
    """One row a step; what a plan foretells stands beside the step that it is about."""
    rows = ["| what | step | minutes | core-minutes | memory | foretold |", "|---|---|---|---|---|---|"]
    for name, record in found["cells"].items():
        foretold: dict[str, Any] = {}
        for step, row in record.items():
            if step.startswith("plan"):
                foretold = row
            about = foretold if step.startswith("fit") else {}
            rows.append(f"| {CELLS[name][0]} | {step} | {_figures(row)} | {_foretold(about)} |")
    where = found["card"] or found["machine"]
    cut = "; architectures cut down: the path alone" if found["tiny"] else ""
    return "\n".join([*rows, "", f"{found['date']}, {where}, {found['threads']} thread, torch {found['torch']}{cut}."])


def _figures(row: dict[str, Any]) -> str:
    if row["code"]:
        return f"failed ({row['code']}) | | "
    memory = f"{row['gigabytes']:.2f} GB" if "gigabytes" in row else ""
    memory += f" and {row['beside']:.2f} GB of the server" if "beside" in row else ""
    return f"{row['seconds'] / 60:.1f} | {row['core_seconds'] / 60:.1f} | {memory}"


def _foretold(row: dict[str, Any]) -> str:
    memory = f"{row['planned_gigabytes']:.2f} GB" if "planned_gigabytes" in row else ""
    time = f"{row['planned_seconds'] / 60:.1f} min" if "planned_seconds" in row else ""
    return ", ".join(filter(None, [memory, time]))
