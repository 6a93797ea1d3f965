"""Checks of the rules' settings, with messages that name the rule, the key, the value, and what would be right."""

import math

from torch import Tensor


def whole_number(rule: str, key: str, value: int) -> int:
    """The value, if it is a whole number of at least 1.

    Raises:
        ValueError: otherwise.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{rule}: {key} must be a whole number of at least 1, got {key}={value!r}")
    return value


def positive(rule: str, key: str, value: float) -> float:
    """The value, if it is finite and above 0.

    Raises:
        ValueError: otherwise.
    """
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{rule}: {key} must be a finite number above 0, got {key}={value!r}")
    return float(value)


def finite(rule: str, key: str, value: float) -> float:
    """The value, if it is finite.

    Raises:
        ValueError: otherwise.
    """
    if not math.isfinite(value):
        raise ValueError(f"{rule}: {key} must be a finite number, got {key}={value!r}")
    return float(value)


def multiple(rule: str, what: str, block: int, draws: int) -> None:
    """Refuse draws that cannot be cut into blocks.

    Raises:
        ValueError: naming the nearest numbers of draws that can.
    """
    if draws < 1 or draws % block:
        above = block * (draws // block + 1)
        nearest = f"{above - block} or {above}" if above > block else f"{above}"
        raise ValueError(f"{rule}: {what}, which needs a multiple of {block} draws per condition, got M={draws}; "
                         f"the nearest are {nearest}")  # fmt: skip


def enough(rule: str, accept_k: int, draws: int) -> None:
    """Refuse to accept more draws than there are.

    Raises:
        ValueError: naming K and M.
    """
    if accept_k > draws:
        raise ValueError(f"{rule}: accept k={accept_k}, but only M={draws} draws per condition; k must be at most M")


def only_zero_or_one(rule: str, values: Tensor, mask: Tensor) -> None:
    """Refuse rewards other than 0 and 1.

    Raises:
        ValueError: naming the first of them.
    """
    wrong = mask & (values != 0) & (values != 1)
    if wrong.any():
        found = values[wrong][0].item()
        raise ValueError(f"{rule}: rewards must be 0 or 1, got {found}; for others use Deduplicated(rule)")
