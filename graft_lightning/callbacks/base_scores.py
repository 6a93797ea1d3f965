"""What the base scores on the draws of a test: found once, and kept beside the pool for every run that shares it."""

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graft_lightning.durable import write_text
from graft_lightning.identity import describe, digest_of
from graft_lightning.rejection.reward import Reward

FOLDER = "base"
"""In the pool's folder."""


def base_key(module: Any, data: Any, rewards: Sequence[Reward], metrics: Sequence[Any]) -> str | None:
    """A digest of all that the base's scores in a test depend on; None where the reference cannot be told.

    Args:
        module: gives the reference, with its weights and its sampler.
        data: gives the conditions, the draws of each, and the seed.
        rewards: the scores.
        metrics: of all samples together.
    """
    fingerprint = getattr(module, "reference_fingerprint", None)
    if fingerprint is None:
        return None
    scores = [describe(reward, evidence=True) for reward in rewards]
    sets = [type(metric).__qualname__ for metric in metrics]
    return digest_of([fingerprint(), data.test.texts(), data.eval_draws, data.seed, scores, sets])


def kept_base(pool: Path, key: str | None) -> dict[str, Any] | None:
    """``record`` and ``watched`` of the base under a key; None where there is none that can be read."""
    try:
        found = json.loads((pool / FOLDER / f"{key}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("record"), dict) and "watched" in found else None


def keep_base(pool: Path, key: str | None, written: dict[str, Any]) -> None:
    """Keeps what was found of the base; a pool that may only be read is left as it is."""
    if key is None or not pool.is_dir():
        return
    with contextlib.suppress(OSError):
        (pool / FOLDER).mkdir(exist_ok=True)
        plain = {name: _without_run(found) for name, found in written.items()}
        write_text(pool / FOLDER / f"{key}.json", json.dumps(plain))


def _without_run(record: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if record is None else {name: value for name, value in record.items() if name != "run"}
