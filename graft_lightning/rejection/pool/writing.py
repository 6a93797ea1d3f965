"""What may be written to a shard: the fields of trajectories, flat and checked."""

from collections.abc import Mapping
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from graft_lightning.rejection.pool.part import Part
from graft_lightning.rejection.pool.shard import Shard

HALF = {"float16": torch.float16, "bfloat16": torch.bfloat16}
"""Types that kept states may be rounded to."""


def trajectories(part: Part, shard: Shard, data: TensorDictBase, seeds: Tensor) -> dict[str, Tensor]:
    """The fields of a shard by name, nested names joined by "/"; complete and checked.

    Args:
        part: that the shard is of.
        shard: which rows they are.
        data: as `Round.write` takes it.
        seeds: that the rows must have.

    Raises:
        ValueError: names the field, what it is and what it should be.
    """
    tensors = flat(shard, data)
    numbers, draws = part.rows.places(shard.rows)
    for name, expected in (("condition", torch.from_numpy(numbers)), ("draw", torch.from_numpy(draws))):
        if name in tensors and not torch.equal(tensors[name].cpu(), expected):
            raise ValueError(f"{name} does not follow from the rows: {shard} begins with {int(expected[0])}")
        tensors[name] = expected
    tensors.setdefault("key", torch.full((len(shard),), -1))
    for name in ("seed", "key"):
        found = f"{tensors[name].dtype} {tuple(tensors[name].shape)}" if name in tensors else "absent"
        if not found.startswith("torch.int64") or tensors[name].ndim != 1:
            raise ValueError(f"{name} is {found}; it must be torch.int64, one per trajectory")
    wrong = (tensors["seed"].cpu() != seeds).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(
            f"seed of row {shard.start + row} is {int(tensors['seed'][row])}; run seed, round, condition and draw make "
            f"it {int(seeds[row])} (trajectory_seeds)"
        )
    if "x_0" not in {name.split("/")[0] for name in tensors}:
        raise ValueError(f"x_0 is absent; there are {sorted({name.split('/')[0] for name in tensors})}")
    kept = {name.split("/")[1] for name in tensors if name.startswith("states/")}
    wanted = {str(n) for n in part.kept_levels}
    if kept != wanted:
        raise ValueError(f"states are {sorted(kept)}; this round keeps {sorted(wanted)}")
    return {name: rounded(name, value, part.keep_as) for name, value in tensors.items()}


def flat(shard: Shard, data: TensorDictBase) -> dict[str, Tensor]:
    """The fields of a batch by name, nested names joined by "/".

    Raises:
        ValueError: if the batch is not as long as the shard, or a field is no tensor.
    """
    if tuple(data.batch_size[:1]) != (len(shard),):
        raise ValueError(f"data has batch size {tuple(data.batch_size)}; {shard} has {len(shard)} trajectories")
    tensors: dict[str, Tensor] = {}
    for key, value in data.items(include_nested=True, leaves_only=True):
        parts = (key,) if isinstance(key, str) else key
        if not isinstance(value, Tensor) or any("/" in part for part in parts):
            raise ValueError(f"field {key!r} ({type(value).__name__}) must be a tensor, without '/' in its name")
        tensors["/".join(parts)] = value
    return tensors


def rounded(name: str, value: Tensor, keep_as: str | None) -> Tensor:
    """A kept state in the type that it is kept in; everything else as it is.

    Raises:
        ValueError: if a number is too large for that type.
    """
    if keep_as is None or not name.startswith("states/") or not value.is_floating_point():
        return value
    half = value.to(HALF[keep_as])
    if bool((half.isinf() & value.isfinite()).any()):
        largest = float(value[value.isfinite()].abs().max())
        raise ValueError(f"keep_as={keep_as}: {name} holds {largest:.3g}, which is too large for it; use bfloat16")
    return half


def widened(values: Mapping[str, Tensor], layout: Mapping[str, Any], keep_as: str | None) -> dict[str, Tensor]:
    """Kept states that were rounded, in the type of their x_0 again; everything else as it is."""
    if keep_as is None:
        return dict(values)
    found = {}
    for name, value in values.items():
        of_x_0 = layout.get("/".join(["x_0", *name.split("/")[2:]])) if name.startswith("states/") else None
        found[name] = value.to(of_x_0.dtype) if of_x_0 is not None and value.is_floating_point() else value
    return found
