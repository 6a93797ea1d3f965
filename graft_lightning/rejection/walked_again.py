"""Trajectories that are walked again from their seeds, for states at levels that were not kept the first time."""

from typing import Any

import numpy as np
import torch
from tensordict import TensorDictBase
from torch import Tensor

from graft_lightning.rejection.pool import PoolError, Round, Shard

TOLERANCE = 0.02
"""How far a trajectory may end from where it ended before, of the root mean square of x_0: rounding, and no more."""


def require_the_same_end(opened: Round, shard: Shard, again: TensorDictBase) -> None:
    """Compares ends: the new states must be those on the way to the samples that were scored.

    Args:
        opened: the round.
        shard: which of its trajectories were walked again.
        again: with their ``x_0``.

    Raises:
        PoolError: if one ends elsewhere, as on another device or with another library; says how many and how far.
    """
    files = opened.parts[shard.part].files
    names = [name for name in files.header(shard).fields if name.split("/")[0] == "x_0"]
    stored = files.gather(np.arange(shard.start, shard.stop), names)
    found = {"/".join(["x_0", *path]): value for path, value in _leaves(again["x_0"]).items()}
    off = torch.zeros(len(shard))
    for name, value in found.items():
        before, now = stored[name].double().flatten(1), value.double().flatten(1)
        scale = before.square().mean().sqrt().clamp(min=1e-12)
        off = torch.maximum(off, ((before - now).square().mean(1).sqrt() / scale).nan_to_num(torch.inf).float())
    wrong = off > TOLERANCE
    if wrong.any():
        raise PoolError(
            f"{opened.path / shard.filename}: walked again from their seeds, {int(wrong.sum())} of {len(shard)} "
            f"trajectories end elsewhere (by {float(off.max()):.2g} of the root mean square of x_0): the device, the "
            "precision or a library is another one, and states of another path do not belong to these samples. Keep "
            "the levels that the pool has (collect.keep), or choose another folder (data.pool)"
        )


def _leaves(x: Any) -> dict[tuple[str, ...], Tensor]:
    if isinstance(x, Tensor):
        return {(): x}
    return {key if isinstance(key, tuple) else (key,): value for key, value in x.items(True, True)}
