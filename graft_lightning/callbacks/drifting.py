"""Whether samples have drifted from the base's of the same seeds, by their features; the base's are kept in a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graft_lightning.callbacks.sample_facts import Facts
from graft_lightning.domains.base.drift import ROWS, distance_of_halves, paired_distance
from graft_lightning.identity import describe, digest_of
from graft_lightning.refusals import DamagedFile
from graft_lightning.tensors import read_tensors, write_tensors

FILE = "base-features-{}.safetensors"
"""In the run's folder, by stage: features of the base's samples, in the order of conditions and draws."""


def keep_features(file: Path, network: Any, seed: int, rows: Sequence[Facts]) -> None:
    """Keeps the features of the base's samples of a stage; nothing where they have none.

    Args:
        file: in the run's folder.
        network: whose features they are.
        seed: of the run, which with conditions and draws gives the samples' seeds.
        rows: of the base's samples, in order.
    """
    found = _features(rows)
    if found is not None:
        write_tensors(file, {"features": found}, {"of": _place(network, seed, rows)})


def drift(file: Path, network: Any, seed: int, rows: Sequence[Facts]) -> dict[str, float]:
    """Distance from the base's samples of the same seeds, and that of the base's halves; arguments as above.

    Returns:
        ``drift`` and ``drift_of_halves``; nothing where this network's features of the base's samples of these seeds
        are not known.
    """
    now = _features(rows)
    if now is None:
        return {}
    try:
        tensors, texts = read_tensors(file)
    except (FileNotFoundError, DamagedFile):
        return {}
    base = tensors.get("features")
    if base is None or base.shape != now.shape or texts.get("of") != _place(network, seed, rows):
        return {}
    chosen = (now.isfinite().all(1) & base.isfinite().all(1)).nonzero().squeeze(1)
    chosen = chosen[:: -(-len(chosen) // ROWS) or 1]
    if len(chosen) < 4:
        return {}
    conditions = [rows[i].condition for i in chosen.tolist()]
    halves = distance_of_halves(base[chosen], conditions)
    return {"drift": paired_distance(now[chosen], base[chosen]), "drift_of_halves": halves}


def _features(rows: Sequence[Facts]) -> Tensor | None:
    found = [row.features for row in rows if row.features is not None]
    return torch.stack(found) if found and len(found) == len(rows) else None


def _place(network: Any, seed: int, rows: Sequence[Facts]) -> str:
    return digest_of([describe(network, evidence=True), seed, [[row.condition, row.draw] for row in rows]])
