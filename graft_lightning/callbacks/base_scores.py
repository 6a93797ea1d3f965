"""What the base scores on the draws of a test: found once, and kept beside the pool for every run that shares it."""

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graft_lightning.domains.base import listed
from graft_lightning.durable import write_bytes, write_text
from graft_lightning.identity import describe, digest_of
from graft_lightning.rejection.reward import Reward

FOLDER = "base"
"""In the pool's folder."""


def base_key(
    module: Any,
    data: Any,
    rewards: Sequence[Reward],
    metrics: Sequence[Any],
    features: Any = None,
    batches: int | None = None,
) -> str | None:
    """A digest of all that the base's scores in a test depend on; None where the reference cannot be told.

    Args:
        module: gives the reference, with its weights and its sampler.
        data: gives the conditions, the draws of each, and the seed.
        rewards: the scores.
        metrics: of all samples together.
        features: the network by whose features drift is told; none by default.
        batches: how many of the test's are looked at, where these are not all.
    """
    fingerprint = getattr(module, "reference_fingerprint", None)
    if fingerprint is None:
        return None
    scores = [describe(reward, evidence=True) for reward in rewards]
    sets = [describe(metric, evidence=True) for metric in metrics]
    seen = [] if features is None else [describe(features, evidence=True)]
    precision = getattr(module, "drawn_in", None)
    drawn = [] if precision is None else [{"precision": precision}]
    few = [] if batches is None else [{"batches": batches, "of": data.eval_batch_size}]
    asked = [listed(data.test), data.eval_draws, data.seed]
    return digest_of([fingerprint(), *asked, scores, sets, *seen, *drawn, *few])


def kept_base(pool: Path, key: str | None, features: Path | None = None) -> dict[str, Any] | None:
    """``record`` and ``watched`` of the base under a key; None where there is none that can be read.

    Args:
        pool: its folder.
        key: of `base_key`.
        features: file of the run that gets the features of the base's samples, where drift is told; where they were not
            kept, nothing is found.
    """
    try:
        found = json.loads((pool / FOLDER / f"{key}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not (isinstance(found, dict) and isinstance(found.get("record"), dict) and "watched" in found):
        return None
    if features is not None:
        kept = pool / FOLDER / f"{key}.safetensors"
        if not kept.is_file():
            return None
        write_bytes(features, kept.read_bytes())
    return found


def keep_base(pool: Path, key: str | None, written: dict[str, Any], features: Path | None = None) -> None:
    """Keeps what was found of the base; a pool that may only be read is left as it is. Arguments as above."""
    if key is None or not pool.is_dir():
        return
    with contextlib.suppress(OSError):
        (pool / FOLDER).mkdir(exist_ok=True)
        if features is not None and features.is_file():
            write_bytes(pool / FOLDER / f"{key}.safetensors", features.read_bytes())
        plain = {name: _without_run(found) for name, found in written.items()}
        write_text(pool / FOLDER / f"{key}.json", json.dumps(plain))


def _without_run(record: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if record is None else {name: value for name, value in record.items() if name != "run"}
