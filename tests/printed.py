"""Tables of Markdown files, written from the committed report.json that their figures come from.

A comment above a table says which report, columns and rows it shows; `make tables` writes the table below it anew, and
a test holds what is printed against the report. The comment is YAML:

    <!-- table
    report: records/reproduce/report.json
    columns: {reward: DigitPairReward 3 interval, diversity: Diversity 2}
    rows: {base: base, GRAFT: graft}
    -->

A column is a heading, and a metric with its decimals, followed by ``interval`` where the 95 % interval is shown,
``signed`` where a difference is, ``optional`` where rows may lack it, and ``percent`` where it is a share; a row is a
heading and a key of the report, or a list of keys, each below the one before, whose first is a report of its own where
it ends in ``.json``. ``first`` is the heading of the first column, and ``section`` what the keys of the report begin
with.
"""

import json
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
MARKED = re.compile(r"<!-- table\n(?P<wanted>.*?)-->\n+(?P<table>(?:\|[^\n]*\n)*)", re.S)


def table(wanted: dict[str, Any], folder: Path) -> str:
    """The table that a comment asks for.

    Args:
        wanted: what the comment says.
        folder: of the Markdown file; paths are relative to it.

    Raises:
        KeyError: if the report lacks a row or a metric; names both.
    """
    columns = {heading: str(asked).split() for heading, asked in wanted["columns"].items()}
    lines = [[wanted.get("first", "method"), *columns], ["---"] * (len(columns) + 1)]
    for heading, key in wanted["rows"].items():
        path = key if isinstance(key, list) else [wanted.get("section", "") + key]
        own = path[0].endswith(".json")
        row = json.loads((folder / (path[0] if own else wanted["report"])).read_text(encoding="utf-8"))
        for part in path[own:]:
            row = row[part]
        lines.append([heading, *(_cell(row, key, *asked) for asked in columns.values())])
    return "".join(f"| {' | '.join(line)} |\n" if line[0] != "---" else f"|{'|'.join(line)}|\n" for line in lines)


def _cell(row: dict[str, Any], key: Any, metric: str, decimals: str, *shown: str) -> str:
    metric = metric if metric in row else metric.replace("_", " ")
    if metric not in row and "optional" in shown:
        return ""
    if metric not in row:
        raise KeyError(f"{key} has no {metric}; there are {', '.join(row)}")
    value, places = row[metric], int(decimals)
    if value["mean"] is None:
        return ""
    percent, sign = "percent" in shown, "+" if "signed" in shown else ""

    def written(number: float, sign: str = "") -> str:
        rounded = round(number, places + 2 * percent) or 0.0  # no zero below zero
        return f"{rounded:{sign}.{places}{'%' if percent else 'f'}}".replace("%", " %")

    text = written(value["mean"], sign)
    if "interval" in shown and value["low"] is not None:
        text += f" [{written(value['low'])}, {written(value['high'])}]"
    return text


def tables(file: Path) -> list[tuple[str, str]]:
    """The marked tables of a Markdown file: as they are printed, and as their reports have them."""
    found = MARKED.finditer(file.read_text(encoding="utf-8"))
    return [(one["table"], table(yaml.safe_load(one["wanted"]), file.parent)) for one in found]


def write(file: Path) -> int:
    """Writes the marked tables of a file anew. Returns their number."""
    text = file.read_text(encoding="utf-8")

    def renewed(one: re.Match[str]) -> str:
        end = "" if one["table"] else "\n"  # where there was none yet, what follows is no part of it
        return f"<!-- table\n{one['wanted']}-->\n\n{table(yaml.safe_load(one['wanted']), file.parent)}{end}"

    new, count = MARKED.subn(renewed, text)
    if new != text:
        file.write_text(new, encoding="utf-8")
    return count


def marked_files() -> list[Path]:
    """The Markdown files of the project that have marked tables."""
    files = [ROOT / "README.md", *sorted((ROOT / "experiments").rglob("*.md"))]
    return [file for file in files if MARKED.search(file.read_text(encoding="utf-8"))]


if __name__ == "__main__":
    for marked in marked_files():
        print(f"{marked.relative_to(ROOT)}: {write(marked)} tables")
