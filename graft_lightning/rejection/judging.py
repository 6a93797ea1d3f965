"""Judging beside drawing: rewards whose work is done elsewhere score one batch while the next is drawn and decoded."""

import logging
import threading
from collections.abc import Sequence
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


def judged_beside(rewards: Sequence[Reward]) -> list[Reward]:
    """Those that can score a shard while the next is made: their work is done elsewhere, and sample by sample."""
    return [reward for reward in rewards if reward.apart and not reward.groupwise]


class _Asked(NamedTuple):
    """Samples that are being judged.

    Attributes:
        shard: of theirs.
        rows: theirs in it.
        scores: by reward, once they are there.
    """

    shard: Shard
    rows: np.ndarray
    scores: "Future[list[Tensor]]"


class Judging:
    """Has rewards score shards of a round, in a thread, and commits their scores; a context.

    This thread decodes and the other one asks, for one batch at a time; what was judged is committed here, before more
    is given to judge. Left without an error, everything that was given has been committed.

    Args:
        opened: the round.
        reference: decodes its states.
        rewards: pointwise, declared; they lack the same rows of every shard that is given.
        batch_size: samples at a time.
        device: where they are decoded.
        patient: a failure is told, nothing more is asked, and the round is left without those scores, for `score_round`
            to try again; else it is raised.
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

    def __enter__(self) -> "Judging":
        for reward in self._rewards:
            reward.to(self._device)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        rewards = self._rewards
        try:
            if error is None:  # else its thread is left to itself: nobody who interrupts waits for a server
                self._settle()
        finally:
            for reward in rewards:
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
            self._asked = _Asked(shard, part, _scored(self._rewards, samples, texts))

    def _settle(self) -> None:
        """Commits what was asked last, once it is judged."""
        asked, self._asked = self._asked, None
        if asked is None:
            return
        try:
            found = asked.scores.result()
        except Exception as error:
            if not self._patient:
                raise
            names = ", ".join(reward.name for reward in self._rewards)
            log.warning(f"{names}: not judged while sampling goes on, and asked again after it: {error}")
            self._rewards = []
            return
        known = torch.zeros(len(asked.shard), dtype=torch.bool)
        known[torch.from_numpy(asked.rows)] = True
        for reward, scores in zip(self._rewards, found, strict=True):
            values = torch.full((len(asked.shard),), torch.nan)
            values[known] = scores
            self._opened.write_rewards(reward.name, asked.shard, values, known)


def _scored(rewards: Sequence[Reward], samples: Any, texts: Sequence[str]) -> "Future[list[Tensor]]":
    """The scores of samples by every reward, asked for by a thread that holds up no end of the process."""
    found: Future[list[Tensor]] = Future()

    def ask() -> None:
        try:
            found.set_result([score(reward, samples, texts) for reward in rewards])
        except BaseException as error:  # it belongs to whoever waits
            found.set_exception(error)

    threading.Thread(target=ask, name="judging", daemon=True).start()
    return found
