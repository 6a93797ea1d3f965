"""Rewards: what a sample is worth."""

import copy
import traceback
from abc import ABC, abstractmethod
from collections.abc import Sequence
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graft_lightning.refusals import Refusal, SettingsError, first_line
from graft_lightning.rejection.undisturbed import undisturbed


class Reward(ABC):
    """Scores finished samples. Differentiability is never asked for.

    Constructors load nothing; networks and data are loaded by the first call. A score may be NaN, where a sample
    cannot be judged: it is counted and never accepted.

    Attributes:
        groupwise: True if a sample's score depends on the other samples of its condition; such a reward is given whole
            groups.
        apart: True if its work is done elsewhere: on another device or machine, in other processes. Collections and
            evaluations then call it in a thread, one call at a time, while they draw and decode the next samples.
    """

    groupwise: bool = False
    apart: bool = False

    @abstractmethod
    def __call__(self, samples: Any, conditions: Sequence[str]) -> Tensor:
        """Scores, float32 ``(batch,)``.

        Args:
            samples: what the reference's decoder returns, ``batch`` of them (images: ``(batch, C, H, W)`` in [0, 1]).
            conditions: the condition of each sample.
        """

    def to(self, device: torch.device | str) -> "Reward":
        """Moves what the reward owns to ``device``. Returns itself."""
        return self

    def weight_bytes(self) -> int | None:
        """Bytes of its networks; 0 where it has none, None where that is not known before they are there."""
        return 0

    def apart_for(self, count: int) -> bool:
        """Whether the work on a batch of so many samples is done elsewhere."""
        return self.apart is True  # what a class of somebody else's calls so may be anything

    @property
    def evaluated_by(self) -> "Reward":
        """What evaluations score by: itself, unless its scores compare the draws of a condition with each other."""
        return self

    @property
    def name(self) -> str:
        """The name of the column in pools and logs: the class's, unless a reward says otherwise."""
        return type(self).__name__


class RewardError(SettingsError):
    """A reward that fails, or returns something else than one real number a sample; the message names it."""


def score(reward: Reward, samples: Any, conditions: Sequence[str], shared: bool = False) -> Tensor:
    """Calls a reward and checks what comes back. Returns float32 ``(batch,)`` on the CPU.

    Args:
        reward: is called.
        samples: ``batch`` of them, as the reference decodes them.
        conditions: of each.
        shared: the samples are looked at again afterwards: the reward, which may work in place, gets a copy.

    Raises:
        RewardError: if the result is not one real number a sample, or the reward itself raises, or leaves the program.
    """
    try:
        with torch.no_grad(), undisturbed():
            found = reward(_copied(samples) if shared else samples, conditions)
    except Refusal:
        raise
    except SystemExit as leave:
        raise RewardError(
            f"reward {reward.name} called sys.exit({leave.code!r}) for {len(conditions)} samples; it must return scores"
        ) from leave
    except MemoryError:
        raise
    except Exception as error:
        if "OutOfMemoryError" in type(error).__name__:
            raise
        what = f"{type(error).__name__}: {first_line(error)}"
        if "does not require grad" in what:
            what += "; rewards are called without gradients, and one that needs them opens torch.enable_grad()"
        raise RewardError(f"reward {reward.name} failed for {len(conditions)} samples: {what}{_at(error)}") from error
    return as_scores(found, len(conditions), reward.name)


def as_scores(found: Any, count: int, name: str) -> Tensor:
    """What a reward returned as float32 ``(count,)`` on the CPU.

    Args:
        found: a tensor, an array, or a sequence of numbers.
        count: of the samples.
        name: of the reward, for the error.

    Raises:
        RewardError: if it is something else; says what.
    """
    right = f"it must return one real number a sample, shape ({count},)"
    scores = as_numbers(found, name, right)
    if scores.shape != (count,):
        raise RewardError(f"reward {name} returned shape {tuple(scores.shape)} for {count} samples; {right}")
    # a copy: what was returned may be a view of samples that another reward changes
    return scores.detach().to("cpu", torch.float32, copy=True)


def as_numbers(found: Any, name: str, right: str = "it must return one real number a sample") -> Tensor:
    """What a reward returned as a tensor of real numbers.

    Args:
        found: a tensor, an array, or a sequence of numbers.
        name: of the reward, for the error.
        right: what would be right, for the error.

    Raises:
        RewardError: if it is something else; says what.
    """
    try:
        numbers = found if isinstance(found, Tensor) else torch.as_tensor(_plain(found))
        if numbers.is_nested or numbers.is_meta:
            raise TypeError("a tensor that holds no numbers, or rows of several lengths")
        numbers = numbers.to_dense() if numbers.layout is not torch.strided else numbers
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        kind = type(found).__name__
        if (place := _first_none(found)) is not None:
            right += f"; for sample {place} it is None, and of one that cannot be judged it is NaN"
        raise RewardError(f"reward {name} returned a {kind} ({first_line(error)}); {right}") from None
    if numbers.is_complex():
        raise RewardError(f"reward {name} returned complex numbers ({numbers.dtype}); {right}")
    beyond = numbers.isfinite() & numbers.float().isinf()
    if beyond.any():
        raise RewardError(
            f"reward {name} returned {numbers[beyond][0].item():g}, more than single precision holds; return it "
            "divided by a constant, or its logarithm"
        )
    return numbers


def _copied(samples: Any) -> Any:
    return samples.clone() if hasattr(samples, "clone") else copy.deepcopy(samples)


def _plain(found: Any) -> Any:
    """What a reward returned, as PyTorch takes it: exact numbers and arrays of others too; masked ones are NaN."""
    if isinstance(found, np.ma.MaskedArray):
        return np.ma.filled(found.astype(np.float64), np.nan)
    if not (isinstance(found, list | tuple) or hasattr(found, "__array__")):
        return found
    if isinstance(found, list | tuple) and any(isinstance(item, Tensor) for item in found):
        return found
    values = np.asarray(found)
    if values.dtype == object and not all(isinstance(value, Real | Decimal) for value in values.flat):
        return found
    return values.astype(np.float64) if values.dtype in (object, np.longdouble) else values


def _first_none(found: Any) -> int | None:
    """The place of the first None in what a reward returned; None where there is none, or it is no sequence."""
    try:
        return next((place for place, value in enumerate(found) if value is None), None) if len(found) else None
    except TypeError:
        return None


def _at(error: BaseException) -> str:
    """Where a user's code failed: the last line outside of installed packages."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "site-packages" not in f.filename]
    return f" ({frames[-1].filename}, line {frames[-1].lineno})" if len(frames) > 1 else ""
