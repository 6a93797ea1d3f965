"""Which reward a column of scores is of: declared once it has scores, and never another one in silence."""

import logging
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graft_lightning.durable import sync_folder
from graft_lightning.identity import differences, digest_of
from graft_lightning.rejection.pool.manifest import PoolMismatch, claim_folder, plain, read_manifest, require_same

log = logging.getLogger(__name__)
COLUMNS = ("round", "index", "condition", "draw", "seed", "key")
"""The columns of a table that no reward can be called."""
ADVICE = (
    "Its scores are those of the reward as it was. To score what is there by the present one, set data.rescore to true "
    "(`rescore --anew`; TrajectoryPool.add_reward: rescore): the old scores are put aside under a name of their own. "
    "To keep both as columns, give the reward another name."
)


def declare(folder: Path, name: str, fingerprint: Mapping[str, Any], groupwise: bool, rescore: bool) -> None:
    """Declares a reward; see `TrajectoryPool.add_reward`."""
    try:
        free = check(folder, name, fingerprint, groupwise)
    except PoolMismatch as changed:
        if not rescore:
            raise
        log.info("%s", changed)
        _put_aside(folder, name)
        free = True
    column = folder / name
    if free and (column / "manifest.json").exists():  # declared, and nothing was scored
        shutil.rmtree(column)
    kept = aside(folder, name, fingerprint, groupwise)
    if free and rescore and kept.exists():
        log.info("%s has scores of this very reward: they are taken up again", kept)
        os.rename(kept, column)
        sync_folder(folder)
    claim_folder(column, "reward", _body(fingerprint, groupwise))
    _require(column, fingerprint, groupwise)


def check(folder: Path, name: str, fingerprint: Mapping[str, Any], groupwise: bool) -> bool:
    """Whether a name is free: not declared, or for another reward that has scored nothing.

    Raises:
        PoolMismatch: if it has the scores of another reward.
        ValueError: if the name cannot be used.
    """
    if not re.fullmatch(r"\w[\w.-]*", name) or name in COLUMNS:
        raise ValueError(f"reward name {name!r}: letters, digits, '_', '.' and '-', and not that of another column")
    column = folder / name
    if not (column / "manifest.json").exists():
        return True
    try:
        _require(column, fingerprint, groupwise)
    except PoolMismatch:
        if any(column.rglob("*.safetensors")):
            raise
        return True
    return False


def aside(folder: Path, name: str, fingerprint: Mapping[str, Any], groupwise: bool) -> Path:
    """Where the scores of a reward lie that was replaced by another one of its name."""
    return folder / f"{name}.{digest_of(_body(plain(fingerprint), groupwise))[:8]}"


def _put_aside(folder: Path, name: str) -> None:
    manifest = read_manifest(folder / name, "reward")
    target = aside(folder, name, manifest["fingerprint"], manifest["groupwise"])
    if target.exists():  # scored twice by the same reward: one of them is enough
        shutil.rmtree(target)
    os.rename(folder / name, target)
    sync_folder(folder)
    log.warning("the scores of the former %s are kept as %s", name, target.name)


def _body(fingerprint: Mapping[str, Any], groupwise: bool) -> dict[str, Any]:
    return {"fingerprint": plain(fingerprint), "groupwise": groupwise}


def _require(column: Path, fingerprint: Mapping[str, Any], groupwise: bool) -> None:
    stored = read_manifest(column, "reward")
    if stored["groupwise"] != groupwise:
        require_same(column, {"groupwise": stored["groupwise"]}, {"groupwise": groupwise}, ADVICE)
    if differences(stored["fingerprint"], plain(fingerprint)):
        require_same(column, stored["fingerprint"], fingerprint, ADVICE)
