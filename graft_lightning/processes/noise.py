"""Randomness that belongs to the trajectory.

Every trajectory has a seed of what it *is* (run seed, round, condition, draw), and its numbers are a function of this
seed, of which draw they are of and of their place in it. A batch of trajectories is then the same whatever the batch
size, the order, the number of processes, or, but for rounding, the device and the dtype.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from graft_lightning.processes import noise_numpy
from graft_lightning.processes.philox import rows_of_words
from graft_lightning.processes.philox_numpy import parts_of_words
from graft_lightning.processes.splitmix import combined, shifted_right, signed

SEED_BITS = 63
"""Seeds are non-negative int64."""


def hashed_seed(*parts: object) -> int:
    """A seed in ``[0, 2**63)`` that depends on the text of every part."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> (64 - SEED_BITS)


def trajectory_seed(run_seed: int, round_index: int, condition: str, draw: int) -> int:
    """The seed of one trajectory, of which all 63 bits count; the number of draws of the condition does not."""
    return int(trajectory_seeds(run_seed, round_index, [condition], [draw])[0])


def trajectory_seeds(run_seed: int, round_index: int, conditions: Iterable[str], draws: Iterable[int]) -> Tensor:
    """`trajectory_seed` for pairs of condition and draw, int64 ``(batch,)``.

    Raises:
        ValueError: on unequal numbers of conditions and draws.
    """
    pairs = [(_text_bits("trajectory", c), int(d)) for c, d in zip(conditions, draws, strict=True)]
    texts, places = torch.tensor(pairs, dtype=torch.int64).view(-1, 2).unbind(-1)
    return _non_negative(combined(texts, run_seed, round_index, places))


def derived_seeds(seeds: Tensor, purpose: str) -> Tensor:
    """Seeds of another stream of the same trajectories (its decision, its continuations), int64 like ``seeds``."""
    return _non_negative(combined(seeds, _text_bits("derived", purpose)))


def place_seeds(purpose: str, seed: int, places: Sequence[int]) -> Tensor:
    """Seeds of the places of an endless stream, int64 ``(batch,)``.

    Args:
        purpose: each has seeds of its own.
        seed: of the run.
        places: non-negative.
    """
    found = [_block_of_places(purpose, seed, place // _BLOCK)[place % _BLOCK] for place in places]
    return torch.tensor(found, dtype=torch.int64)


_BLOCK = 1024
"""Places whose seeds are made at once: for the few of a batch, calls of PyTorch would cost more than all else."""


@lru_cache(maxsize=64)
def _block_of_places(purpose: str, seed: int, block: int) -> list[int]:
    places = torch.arange(block * _BLOCK, (block + 1) * _BLOCK)
    return _non_negative(combined(places, seed, _text_bits("place", purpose))).tolist()


def shuffled(length: int, seed: int) -> Tensor:
    """The numbers below ``length`` in random order, int64 ``(length,)``: sorted by their hashes, no two of which agree.

    Not `torch.randperm`: the Mersenne Twister behind it looks at the low 32 bits of a seed alone.
    """
    return shuffles_of(length, [seed])[0]


def shuffles_of(length: int, seeds: Sequence[int]) -> Tensor:
    """`shuffled` by each of some seeds, int64 ``(len(seeds), length)``; of short ones many take the time of one."""
    each = np.array([signed(seed) for seed in seeds], np.int64)[:, None]
    return torch.from_numpy(combined(each, np.arange(length)).argsort(-1))


@lru_cache(maxsize=2**16)
def _text_bits(purpose: str, text: str) -> int:
    """Kept, since a batch and a pool repeat their conditions."""
    return hashed_seed(purpose, text)


def _non_negative(bits: Tensor) -> Tensor:
    return shifted_right(bits, 64 - SEED_BITS)


class Noise:
    """The random numbers of a batch of trajectories, read draw by draw.

    Normal and uniform draws are counted apart. Number i of a draw does not depend on how many are asked for, so that a
    wider padding changes no number before it. 64 random bits make two normal numbers, or one uniform number that is
    rounded down to the dtype.

    Args:
        seeds: int64 ``(batch,)``, of which all 64 bits count; moved to the device once.
        device: where the numbers are made.
        dtype: of the numbers.

    Raises:
        ValueError: if the seeds are not one per trajectory or the dtype is not a floating one.
    """

    STREAM = "philox4x64-10/box-muller"
    """Names the definition of the numbers: of all devices; another one makes other trajectories from the same seeds."""

    def __init__(self, seeds: Tensor, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        if seeds.ndim != 1:
            raise ValueError(f"seeds must be one per trajectory, (batch,), got shape {tuple(seeds.shape)}")
        if not dtype.is_floating_point:
            raise ValueError(f"dtype of noise must be a floating one such as torch.float32, got {dtype}")
        self.seeds = seeds.detach().to(device, torch.int64, non_blocking=True)
        self.device = device
        self.dtype = dtype
        self._draws = [0, 0]

    def __len__(self) -> int:
        return len(self.seeds)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers ``(batch, *shape)``."""
        return self._draw(_NORMAL, shape)

    def uniform(self, *shape: int) -> Tensor:
        """Uniform numbers in [0, 1), ``(batch, *shape)``."""
        return self._draw(_UNIFORM, shape)

    def _draw(self, stream: int, shape: tuple[int, ...]) -> Tensor:
        make, make_on_cpu, numbers = _STREAMS[stream]
        count, bits = math.prod(shape), 1 - round(math.log2(torch.finfo(self.dtype).eps))
        wanted = stream, self._draws[stream], -(-count // numbers)
        self._draws[stream] += 1
        # half precision has no tail to speak of
        working = torch.float64 if self.dtype == torch.float64 else torch.float32
        if self.seeds.device.type != "cpu" or torch.compiler.is_compiling():
            drawn = make(rows_of_words(self.seeds, *wanted), working, bits)
        else:
            made = np.empty((len(self), wanted[-1], numbers), str(working).removeprefix("torch."))
            for part, words in parts_of_words(self.seeds.numpy().view(np.uint64), *wanted):
                make_on_cpu(words, made[part], bits)
            drawn = torch.from_numpy(made)
        return drawn.to(self.dtype).flatten(1)[:, :count].reshape(len(self), *shape)


def _normal(words: Tensor, dtype: torch.dtype, bits: int) -> Tensor:
    """Two independent normal numbers of each word (Box and Muller, 1958), ``(*, 2)``.

    The upper half is the radius: the unsigned number of 32 bits plus a half, so that the tail ends at 6.8 and no
    logarithm is infinite. The lower half is the angle.
    """
    radius = shifted_right(words, 32).to(dtype).add_(0.5).mul_(2.0**-32).log_().mul_(-2).sqrt_()
    angle = ((words << 32) >> 32).to(dtype).mul_(math.tau * 2.0**-32)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], -1)


def _uniform(words: Tensor, dtype: torch.dtype, bits: int) -> Tensor:
    """The uppermost bits of each word, as many as the noise's dtype holds exactly, ``(*, 1)``."""
    return (shifted_right(words, 64 - bits).to(dtype) * 2.0**-bits).unsqueeze(-1)


_NORMAL, _UNIFORM = 0, 1
_STREAMS = (_normal, noise_numpy.normal, 2), (_uniform, noise_numpy.uniform, 1)
"""Of each stream: what makes its numbers of words, the same on the CPU, and how many of one."""
