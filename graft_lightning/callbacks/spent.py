"""What a fit has spent so far: samples, reward calls, calls of the network, time. Every evaluation records it."""

import resource
import time
from typing import Any

import lightning as L

from graft_lightning.callbacks.collect import Collect
from graft_lightning.callbacks.ranks import sum_of_all
from graft_lightning.rejection.reference import Calls


class Spent(L.Callback):
    """Counts what a fit spends, and keeps it with the weights: a run that goes on from a checkpoint goes on from there.

    ``samples`` and ``reward_calls`` are those that the rounds in use are made of, whoever has drawn and scored them;
    ``forward`` holds the calls of the network that this takes, one sample each, and those without gradient beside
    training; ``forward_backward`` those with it, as they were made. Samples of evaluations are in none of them, their
    time is in ``wall_seconds`` and ``core_seconds``. All processes are summed, but for ``wall_seconds``.
    """

    def __init__(self) -> None:
        self._wall, self._cores = time.monotonic(), core_seconds()
        self._before: dict[str, float] = {}
        self._mark, self._trained = Calls(), Calls()

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts the clock: before any other callback collects or evaluates."""
        self._wall, self._cores, self._trained = time.monotonic(), core_seconds(), Calls()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Takes up what the checkpoint says that was spent before it."""
        self._before = dict(getattr(pl_module, "spent", None) or {})

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self._mark = calls_of(pl_module)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        now = calls_of(pl_module)
        self._trained.forward += now.forward - self._mark.forward
        self._trained.forward_backward += now.forward_backward - self._mark.forward_backward
        # no process waits for another one here; they have equal parts of every batch
        pl_module.spent = self._total(trainer, pl_module, float(trainer.world_size), self._trained)

    def so_far(self, trainer: L.Trainer, module: Any) -> dict[str, float]:
        """What has been spent, summed over the processes as they are. Collective."""
        own = Calls(int(sum_of_all(self._trained.forward)), int(sum_of_all(self._trained.forward_backward)))
        cores = sum_of_all(core_seconds() - self._cores)
        return {**self._total(trainer, module, 1.0, own), "core_seconds": self._since("core_seconds", cores)}

    def _total(self, trainer: L.Trainer, module: Any, processes: float, trained: Calls) -> dict[str, float]:
        samples, sampling = drawn(trainer, module)
        beside = self._before.get("beside", 0.0) + processes * trained.forward
        return {
            "samples": samples,
            "reward_calls": samples,
            "forward_backward": self._before.get("forward_backward", 0.0) + processes * trained.forward_backward,
            "forward": sampling + beside,
            "beside": beside,
            "wall_seconds": self._since("wall_seconds", time.monotonic() - self._wall),
            "core_seconds": self._since("core_seconds", processes * (core_seconds() - self._cores)),
        }

    def _since(self, name: str, seconds: float) -> float:
        return round(self._before.get(name, 0.0) + seconds, 3)


def drawn(trainer: L.Trainer, module: Any) -> tuple[float, float]:
    """Trajectories of the rounds in use, and the calls of the network that it takes to sample them."""
    callbacks: Any = trainer.callbacks  # type: ignore[attr-defined]
    collect = next((callback for callback in callbacks if isinstance(callback, Collect)), None)
    selection = getattr(trainer.datamodule, "selection", None)  # type: ignore[attr-defined]
    if collect is None or collect.reward is None or selection is None:
        return 0.0, 0.0
    each, later = float(selection.rewards.numel()), collect.round_index
    stages = module.stages()
    base, tuned = (sum(getattr(stage, name) for stage in stages) for name in ("base_calls", "calls"))
    return each * (1 + later), each * (base + later * tuned)


def calls_of(module: Any) -> Calls:
    """The calls of the network so far, a copy; none of a module without views."""
    views = getattr(module, "views", None)
    return Calls() if views is None else Calls(views.calls.forward, views.calls.forward_backward)


def core_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    spent = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(found.ru_utime + found.ru_stime for found in spent)


def begin_counting(trainer: L.Trainer, module: Any) -> None:
    """Leaves out what has been called since the batch began: a validation that was made up for."""
    if (counting := _counting(trainer)) is not None:
        counting.on_train_batch_start(trainer, module, None, 0)


def spent_so_far(trainer: L.Trainer, module: Any) -> dict[str, float]:
    """What a fit has spent until now; nothing of another command. Collective."""
    counting = _counting(trainer)
    return {} if counting is None or trainer.state.fn != "fit" else counting.so_far(trainer, module)


def _counting(trainer: L.Trainer) -> Spent | None:
    callbacks: Any = trainer.callbacks  # type: ignore[attr-defined]
    return next((callback for callback in callbacks if isinstance(callback, Spent)), None)
