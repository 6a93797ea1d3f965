"""The record of what filled a pool, in the pool's own folder: one line for each filling, and how it was configured."""

import contextlib
import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graft_lightning.durable import append_line, write_text

FILLINGS = "collected.jsonl"
"""One JSON object a filling that drew or scored something."""

CONFIGURATION = "collected.yaml"
"""Settings of the run that filled it, from which its samples can be decoded and scored again."""


def add_filling(pool: Path, record: Mapping[str, Any], configuration: str | None = None) -> None:
    """Adds a filling to a pool's record; nothing where the pool may only be read.

    Args:
        pool: its folder.
        record: round, trajectories drawn, rewards scored.
        configuration: YAML of the run, where there is one.
    """
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    with contextlib.suppress(PermissionError):
        append_line(pool / FILLINGS, json.dumps({"time": now, **record}))
        if configuration is not None:
            write_text(pool / CONFIGURATION, configuration)


def fillings(pool: Path) -> list[dict[str, Any]]:
    """What filled a pool, in order; lines that were not finished are left out."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for line in (pool / FILLINGS).read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
    return [record for record in found if isinstance(record, dict)]
