"""Samples as files: an SVG file each, and one file of JSON lines for all of a folder."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from graft_lightning.domains.layouts.layout import Layout
from graft_lightning.domains.layouts.lines import line_of
from graft_lightning.domains.layouts.svg import write_svg
from graft_lightning.domains.layouts.vocabularies import Vocabulary
from graft_lightning.durable import write_text

LINES = "layouts.jsonl"


def write_layouts(layouts: Sequence[Layout], names: Sequence[str], folder: Path, vocabulary: Vocabulary) -> list[Path]:
    """Writes layouts under their names. Lines of earlier ones stay, unless they have the same name.

    Args:
        layouts: of any number of elements.
        names: without suffix, one each.
        folder: an existing folder.
        vocabulary: of the labels.

    Returns:
        The paths of the SVG files.
    """
    named = [replace(layout, name=name) for layout, name in zip(layouts, names, strict=True)]
    lines = [line_of(layout, vocabulary) for layout in named]
    file = folder / LINES
    kept = file.read_text(encoding="utf-8").split("\n") if file.is_file() else []
    others = [line for line in kept if line and _name(line) not in set(names)]
    write_text(file, "".join(f"{line}\n" for line in [*others, *lines]))
    paths = [folder / f"{name}.svg" for name in names]
    for path, layout in zip(paths, named, strict=True):
        write_svg(path, layout, vocabulary)
    return paths


def _name(line: str) -> str | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry.get("name") if isinstance(entry, dict) else None
