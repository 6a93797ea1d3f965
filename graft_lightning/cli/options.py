"""Options of Lightning's that do not do here what they say, or find out late: refused before anything is sampled."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    GradientAccumulationScheduler,
    LearningRateFinder,
    StochasticWeightAveraging,
)

from graft_lightning.callbacks import Collect, Evaluate, KeepBest
from graft_lightning.callbacks.keep_best import interval_of
from graft_lightning.callbacks.steer import cost_of_steering
from graft_lightning.identity.source import is_users
from graft_lightning.modules.denoising import LOSS
from graft_lightning.types import SettingsError

REFUSED: dict[type[L.Callback], str] = {
    StochasticWeightAveraging: "copies the module before its networks are built, and would average nothing; "
    "TrainableEMA averages what is trained",
    BatchSizeFinder: "tries batches before there is a pool to read them from; plan says what a batch takes",
    LearningRateFinder: "tries steps before there is a pool to train on; tune chooses a learning rate by the reward",
}

LIGHTNINGS = ("epoch", "step")
"""What the trainer itself gives callbacks to watch."""


def refuse_options(trainer: L.Trainer, module: L.LightningModule, data: Any) -> None:
    """Refuses callbacks and intervals of the trainer that a fit cannot work with.

    Raises:
        SettingsError: naming the key, its value, and what would be right.
    """
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    _refuse_monitors(trainer, module, data, callbacks)
    for callback in callbacks:
        for kind, reason in REFUSED.items():
            if isinstance(callback, kind):
                raise SettingsError(f"trainer.callbacks: {type(callback).__name__} {reason}")
    collect = next((callback for callback in callbacks if isinstance(callback, Collect)), None)
    rounds = 1 if collect is None else collect.rounds
    for callback in callbacks:
        changing = isinstance(callback, GradientAccumulationScheduler) and len({*callback.scheduling.values()}) > 1
        if rounds > 1 and changing:
            raise SettingsError(
                f"collect.rounds={rounds} with trainer.callbacks: GradientAccumulationScheduler of "
                f"{callback.scheduling}: rounds are counted by an epoch's steps, which would change; use one round, or "  # type: ignore[attr-defined]
                "trainer.accumulate_grad_batches"
            )
    _refuse_intervals(trainer, module, data, callbacks)


def _refuse_intervals(trainer: L.Trainer, module: L.LightningModule, data: Any, callbacks: list[L.Callback]) -> None:
    """Shares and numbers of batches that an epoch does not have."""
    whole = getattr(data, "steps_per_epoch", None)
    if not whole or trainer.fast_dev_run:  # type: ignore[attr-defined]
        return
    if repeated := getattr(trainer, "overfit_batches", 0):
        raise SettingsError(
            f"trainer.overfit_batches={repeated} would repeat no batch: every epoch has an order and "
            "noise of its own; leave it out, and to see few examples learned name few conditions (data.conditions)"
        )
    limit = trainer.limit_train_batches
    batches = int(whole * limit) if isinstance(limit, float) else min(limit, whole)
    if limit and not batches:
        raise SettingsError(
            f"trainer.limit_train_batches={limit} of data.steps_per_epoch={whole} is not one batch; make it at least "
            f"{1 / whole:.2g}, or a number of batches"
        )
    every, epochs = trainer.val_check_interval, trainer.check_val_every_n_epoch
    validated = getattr(data, "validation", None) is not None and trainer.limit_val_batches
    if isinstance(every, float) or epochs is None or not validated or every <= batches:
        return
    moved = any(isinstance(c, KeepBest) and c.applies(module) for c in callbacks) and interval_of(trainer, data)
    if not moved:
        raise SettingsError(
            f"trainer.val_check_interval={every} is more than the {batches} batches of an epoch "
            f"(data.steps_per_epoch); make it at most {batches}, or set trainer.check_val_every_n_epoch to null, which "
            "counts batches over epochs"
        )


def _refuse_monitors(trainer: L.Trainer, module: L.LightningModule, data: Any, callbacks: list[L.Callback]) -> None:
    """What callbacks watch and nobody logs; where a user's own code may log it, Lightning finds out."""
    watching = [callback for callback in callbacks if getattr(callback, "monitor", None) is not None]
    evaluate = next((callback for callback in callbacks if isinstance(callback, Evaluate)), None)
    if not watching or evaluate is None or evaluate.measures or any(is_users(type(c)) for c in (module, *callbacks)):
        return
    evaluate.lead_with_trained(trainer, data)
    steered = cost_of_steering(module) if getattr(module, "steering", None) else {}
    known = [*(f"validate/{name}" for name in (*evaluate.names, *evaluate.metric_names, *steered)), LOSS]
    for callback in watching:
        watched = callback.monitor  # type: ignore[attr-defined]
        if watched not in (*known, *LIGHTNINGS):
            raise SettingsError(
                f"trainer.callbacks: {type(callback).__name__} has monitor={watched}, which is not logged; it is one "
                f"of {', '.join(known)}"
            )


def refuse_precision(trainer: L.Trainer) -> None:
    """Refuses precisions that cast a network's weights: states, times and noise are in 32 bits, and would not fit.

    Raises:
        SettingsError: naming the key, its value, and what would be right.
    """
    found = str(trainer.precision)
    if found != "32-true" and not found.endswith("-mixed"):
        raise SettingsError(
            f"trainer.precision={found} casts weights, but neither states nor noise; make it bf16-mixed (16-mixed on "
            "older GPUs), which computes in 16 bits, or leave it at 32-true"
        )
