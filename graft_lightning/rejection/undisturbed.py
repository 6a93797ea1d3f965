"""What somebody else's function may not change for the rest of the process: random numbers, types, threads, folders."""

import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

_STREAM: dict[str, Any] = {}
"""States of the global generators as rewards have left them: their numbers go on from call to call."""

_INSIDE: list[bool] = []
"""Whether a reward is asked just now: one that asks others hands its stream on to them."""


def begin_anew() -> None:
    """Has the next reward begin where the process stands: it was seeded."""
    _STREAM.clear()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Puts back, afterwards, what a reward has changed of the process: a training beside it goes on as without it.

    These are the global generators of torch, NumPy and `random`, of which rewards have a stream of their own that
    begins where the process stood at the first call; torch's default type and device and its number of threads; and
    the working folder. Nothing is put back in a thread, where it would be taken from what the others do.
    """
    if _INSIDE or threading.current_thread() is not threading.main_thread():
        yield
        return
    outside, place = _generators(), _here()
    kind, device, threads = torch.get_default_dtype(), torch.get_default_device(), torch.get_num_threads()
    _set_generators(_STREAM)
    _INSIDE.append(True)
    try:
        yield
    finally:
        _INSIDE.clear()
        _STREAM.update(_generators())
        if torch.get_default_device() != device:
            torch.set_default_device(None if device == torch.device("cpu") else device)
        torch.set_default_dtype(kind)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        if place is not None and _here() != place:
            os.chdir(place)
        _set_generators(outside)


def _generators() -> dict[str, Any]:
    states = {"torch": torch.get_rng_state(), "numpy": np.random.get_state(), "random": random.getstate()}  # noqa: NPY002
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _set_generators(states: dict[str, Any]) -> None:
    if not states:
        return
    torch.set_rng_state(states["torch"])
    np.random.set_state(states["numpy"])  # noqa: NPY002
    random.setstate(states["random"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"])


def _here() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # a folder that is gone
        return None
