"""A pool's samples as files that a person can look at, each named after its id, with a table of all."""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from graft_lightning.callbacks.files import slug
from graft_lightning.durable import replacing, write_text
from graft_lightning.rejection.pool import TrajectoryPool
from graft_lightning.rejection.reference import Reference
from graft_lightning.reports.pool_facts import rows_of
from graft_lightning.types import SettingsError, on_device

TABLE = "table.csv"
EXPORTED = "exported.json"
"""What was written, so that it can be told what a person has taken away."""


def write_table(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Writes rows as CSV, in UTF-8 with the mark by which spreadsheets know it; a missing score is an empty cell.

    The last column, ``score``, is empty: a person may fill it in.
    """
    names = list(dict.fromkeys(name for row in rows for name in row if name != "index"))
    with replacing(file) as temporary, open(temporary, "x", encoding="utf-8-sig", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow([*names, "score"])
        for row in rows:
            writer.writerow([*("" if row.get(name) != row.get(name) else row.get(name, "") for name in names), ""])


def export_samples(
    pool: TrajectoryPool,
    reference: Reference,
    out: Path,
    index: int | None = None,
    draws: int | None = None,
    device: Any = "cpu",
    batch_size: int = 64,
) -> int:
    """Writes a file a sample, and a table of all. Returns the number of samples.

    Args:
        pool: an open pool.
        reference: that decodes its states.
        out: a folder that is empty or absent.
        index: of a round; all by default.
        draws: of each condition, the first ones; all by default.
        device: where states are decoded.
        batch_size: states that are decoded at a time.

    Raises:
        SettingsError: if something is in the folder, or the pool holds nothing to write.
    """
    if out.exists() and any(out.iterdir()):
        raise SettingsError(f"{out} is not empty: export into a new folder, or empty this one")
    rows = [row for row in rows_of(pool, index) if draws is None or row["draw"] < draws]
    if not rows:
        raise SettingsError(f"{pool.path} holds no trajectory to export")
    out.mkdir(parents=True, exist_ok=True)
    rounds = {opened.index: opened for opened in pool.rounds()}
    written = []
    with tqdm(total=len(rows), desc="Writing", unit="sample") as bar:
        for number, opened in rounds.items():
            own = [row for row in rows if row["round"] == number]
            for low in range(0, len(own), batch_size):
                part = own[low : low + batch_size]
                states = opened.read(np.array([row["index"] for row in part]), ["x_0"])["x_0"]
                names = [f"{slug(row['condition'])}-{row['draw']:03d}-{row['id']}" for row in part]
                paths = reference.write(reference.decode(on_device(states, device)), names, out)
                written += [{"file": path.name, **row} for path, row in zip(paths, part, strict=True)]
                bar.update(len(part))
    write_table([{"id": row["id"], **row} for row in written], out / TABLE)
    files = Counter(name for path in out.iterdir() for name in ids_in(path.name))
    kept = {row["id"]: files[row["id"]] for row in written}
    suffixes = sorted({path.suffix for path in out.iterdir() if ids_in(path.name)})
    write_text(out / EXPORTED, json.dumps({"pool": pool.digest, "files": kept, "suffixes": suffixes}) + "\n")
    return len(rows)


def ids_in(name: str) -> Iterable[str]:
    """The ids in the name of a file; a file may have been renamed around its id."""
    return re.findall(r"(?<![0-9a-z])s[0-9a-f]{16}(?![0-9a-f])", name)
