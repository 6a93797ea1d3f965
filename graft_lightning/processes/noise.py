"""Randomness that belongs to the trajectory.

Every trajectory owns one generator, seeded by what the trajectory *is* (run seed, round, condition, draw) and by
nothing else. A batch of trajectories is then the same whatever the batch size, the order, or the number of processes.
"""

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor

SEED_BITS = 63
"""Seeds are non-negative int64."""


def hashed_seed(*parts: object) -> int:
    """A seed in ``[0, 2**63)`` that depends on the text of every part."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> (64 - SEED_BITS)


def trajectory_seed(run_seed: int, round_index: int, condition: str, draw: int) -> int:
    """The seed of one trajectory.

    The draw index is *added* to a hash of the rest: the Mersenne Twister behind a CPU generator looks at the low 32
    bits alone, and consecutive seeds are what guarantees that no two draws of one condition ever share theirs.
    """
    return (hashed_seed("trajectory", run_seed, round_index, condition) + draw) % 2**SEED_BITS


def trajectory_seeds(run_seed: int, round_index: int, conditions: Iterable[str], draws: Iterable[int]) -> Tensor:
    """`trajectory_seed` for pairs of condition and draw, int64 ``(batch,)``."""
    return torch.tensor(
        [trajectory_seed(run_seed, round_index, c, d) for c, d in zip(conditions, draws, strict=True)],
        dtype=torch.int64,
    )


def derived_seeds(seeds: Tensor, purpose: str) -> Tensor:
    """Seeds of another stream of the same trajectories (its decision, its continuations), int64 ``(batch,)``."""
    return torch.tensor([hashed_seed(purpose, int(seed)) for seed in seeds], dtype=torch.int64)


class Noise:
    """One generator per trajectory, read as batches.

    Draws are made in blocks of `BLOCK` per trajectory and shape, because calling a generator costs more than the
    numbers that it gives; the block is part of the definition of the stream, so it is a constant.

    Args:
        seeds: int64 ``(batch,)``.
        device: where the drawn numbers go; they are always drawn on the CPU, so that the device does not matter.
        dtype: of the drawn numbers.
    """

    BLOCK = 8

    def __init__(self, seeds: Tensor, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
        self.device = device
        self.dtype = dtype
        self._blocks: dict[tuple[str, tuple[int, ...]], Tensor] = {}
        self._cursor: dict[tuple[str, tuple[int, ...]], int] = {}

    def __len__(self) -> int:
        return len(self.generators)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers ``(batch, *shape)``."""
        return self._next("normal", shape)

    def uniform(self, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1), ``(batch, *shape)``."""
        return self._next("uniform", shape)

    def _next(self, kind: str, shape: tuple[int, ...]) -> Tensor:
        key = (kind, shape)
        at = self._cursor.get(key, 0) % self.BLOCK
        if at == 0:
            block = torch.empty((len(self), self.BLOCK, *shape))
            for row, generator in zip(block, self.generators, strict=True):
                row.normal_(generator=generator) if kind == "normal" else row.uniform_(generator=generator)
            self._blocks[key] = block.to(self.device, self.dtype)
        self._cursor[key] = self._cursor.get(key, 0) + 1
        return self._blocks[key][:, at]
