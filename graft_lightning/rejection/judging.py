"""Judging beside drawing: rewards whose work is done elsewhere score one batch while the next is drawn and decoded."""

import logging
import threading
import time
import weakref
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from graft_lightning.rejection.pool import Round, Shard
from graft_lightning.rejection.reference import Reference
from graft_lightning.rejection.reward import Reward, score
from graft_lightning.types import on_device

log = logging.getLogger(__name__)

THREAD = "judging"
"""Name of the thread that asks."""

FAREWELL = 3.0
"""Seconds that who is interrupted waits for a call: one that computes here is soon done, a server may never be."""

WRITTEN_EVERY = 5.0
"""Seconds between two commits of a shard's scores: those of a slow reward are not lost, those of a fast one not held up
by the disk."""


_calls: dict[int, threading.Thread] = {}
"""By the identity of a reward object, the thread that called it last: as long as it lives, it holds the object."""

_left: "weakref.WeakSet[threading.Thread]" = weakref.WeakSet()
"""Threads that somebody who was interrupted has left to themselves."""


def wait_for(rewards: Iterable[Reward]) -> None:
    """Waits until no thread calls any of these rewards: each is called by one at a time, also after an interruption."""
    for reward in rewards:
        thread = _calls.get(id(reward))
        if thread is None or not thread.is_alive():
            continue
        if thread in _left:
            log.warning(f"{reward.name}: waiting for a call that goes on since its collection was left")
        thread.join()


def judged_beside(rewards: Iterable[Reward], batch_size: int) -> list[Reward]:
    """Those that can score a batch while the next is made: their work is done elsewhere, and sample by sample."""
    return [reward for reward in rewards if reward.apart_for(batch_size) and not reward.groupwise]


class _Job(NamedTuple):
    """What one reward is asked.

    Attributes:
        reward: is called, in a thread where its work is done elsewhere.
        samples: what it is asked about.
        texts: the conditions.
        scores: once they are there.
        shared: the samples are not its own, so that it gets a copy.
    """

    reward: Reward
    samples: Any
    texts: Sequence[str]
    scores: "Future[Tensor]"
    shared: bool = False


def asked(rewards: Sequence[Reward], samples: Any, texts: Sequence[str], device: Any) -> "list[Future[Tensor]]":
    """Has rewards score one batch: here and now, or where their work is done elsewhere, beside what is done meanwhile.

    Args:
        rewards: each gets a copy of the samples.
        samples: a batch, decoded.
        texts: the conditions.
        device: where they are.

    Returns:
        The scores of each, once they are there; what it raises is raised by who asks for them.
    """
    wait_for(rewards)
    jobs = [_Job(reward, samples, texts, Future(), shared=True) for reward in rewards]
    _begin(jobs, device)
    return [job.scores for job in jobs]


class _Asked(NamedTuple):
    """Samples that are being judged.

    Attributes:
        shard: of theirs.
        rows: theirs in it.
        is_last: of the shard.
        scores: by reward, once they are there.
    """

    shard: Shard
    rows: np.ndarray
    is_last: bool
    scores: "list[tuple[Reward, Future[Tensor]]]"


class Judging:
    """Has rewards score shards of a round, in a thread, and commits their scores; a context.

    This thread decodes and the other one asks, for one batch at a time; what was judged is committed here. Left without
    an error, everything that was given has been committed.

    Args:
        opened: the round.
        reference: decodes its states.
        rewards: pointwise, declared; they lack the same rows of every shard that is given.
        batch_size: samples at a time.
        device: where they are decoded.
        patient: a failure is told, that reward is asked no more, and the round is left without those scores, for
            `score_round` to try again; else it is raised.
    """

    def __init__(
        self,
        opened: Round,
        reference: Reference,
        rewards: Sequence[Reward],
        batch_size: int,
        device: Any = "cpu",
        patient: bool = False,
    ) -> None:
        self._opened, self._reference, self._rewards = opened, reference, list(rewards)
        self._batch_size, self._device, self._patient = batch_size, device, patient
        self._asked: _Asked | None = None
        self._thread: threading.Thread | None = None
        self._gathered: dict[str, tuple[Tensor, Tensor]] = {}
        self._written = time.monotonic()

    def __enter__(self) -> "Judging":
        wait_for(self._rewards)
        for reward in self._rewards:
            reward.to(self._device)
        self._moved = list(self._rewards)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if error is None:
                self._settle()
        finally:
            if self._thread is not None and self._thread.is_alive():
                _left.add(self._thread)
                self._thread.join(FAREWELL)
            if self._thread is None or not self._thread.is_alive():  # else one of them is at work where it is
                for reward in self._moved:
                    reward.to("cpu")  # its memory is needed for training

    def judge(self, shard: Shard) -> None:
        """Decodes what a committed shard lacks scores of, and has it judged.

        Raises:
            RewardError: if an earlier one was not judged, unless this is patient.
        """
        if not self._rewards:
            return
        rows = np.flatnonzero(self._opened.unscored(self._rewards[0].name, shard))
        for low in range(0, len(rows), self._batch_size):
            part = rows[low : low + self._batch_size]
            index = self._opened.indices(shard)[part]
            texts = [self._opened.conditions[i] for i in (index // self._opened.draws).tolist()]
            samples = self._reference.decode(on_device(self._opened.read(index, ["x_0"])["x_0"], self._device))
            self._settle()
            if not self._rewards:
                return
            shared = len(self._rewards) > 1
            jobs = [_Job(reward, samples, texts, Future(), shared) for reward in self._rewards]
            is_last = low + self._batch_size >= len(rows)
            self._asked = _Asked(shard, part, is_last, [(job.reward, job.scores) for job in jobs])
            self._thread = _begin(jobs, self._device)
            del jobs, samples  # which are given back when the last of them has scored

    def _settle(self) -> None:
        """Gathers what was asked last, once it is judged, and commits the scores of a whole shard."""
        asked, self._asked = self._asked, None
        if asked is None:
            return
        rows, count = torch.from_numpy(asked.rows), len(asked.shard)
        for reward, scores in asked.scores:
            new = torch.full((count,), torch.nan), torch.zeros(count, dtype=torch.bool)
            values, known = self._gathered.setdefault(reward.name, new)
            try:
                values[rows] = scores.result()
                known[rows] = True
            except Exception as error:
                self._commit(asked.shard, reward)
                if not self._patient:
                    raise
                log.warning(f"{reward.name}: not judged while sampling goes on, and asked again after it: {error}")
                self._rewards = [one for one in self._rewards if one is not reward]
        if asked.is_last or time.monotonic() - self._written > WRITTEN_EVERY:
            for reward in self._rewards:
                self._commit(asked.shard, reward)
            self._written = time.monotonic()

    def _commit(self, shard: Shard, reward: Reward) -> None:
        values, known = self._gathered.pop(reward.name)
        if known.any():
            self._opened.write_rewards(reward.name, shard, values, known)


def _begin(jobs: list[_Job], device: Any) -> threading.Thread:
    """Has samples judged: those of jobs that are done elsewhere by a thread that holds up no end of the process."""
    apart = []
    for job in jobs:
        if job.reward.apart_for(len(job.texts)):
            apart.append(job)
        else:
            _do(job)
    gpu = torch.cuda.current_device() if torch.device(device).type == "cuda" else None

    def ask() -> None:
        if gpu is not None:
            torch.cuda.set_device(gpu)  # each thread has its own
        while apart:
            _do(apart.pop(0))  # and its samples are given back

    thread = threading.Thread(target=ask, name=THREAD, daemon=True)
    for job in apart:
        _calls[id(job.reward)] = thread
    if apart:
        thread.start()
    return thread


def _do(job: _Job) -> None:
    try:
        job.scores.set_result(score(job.reward, job.samples, job.texts, job.shared))
    except BaseException as error:  # it belongs to whoever waits
        job.scores.set_exception(error)


def at_work() -> bool:
    """Whether a call of a reward goes on that somebody has left to itself."""
    return any(thread.name == THREAD for thread in threading.enumerate())
