"""Which reward a run maximises, so that every evaluation begins with it."""

from collections.abc import Sequence
from typing import Any

import lightning as L

from graft_lightning.callbacks.collect import Collect
from graft_lightning.identity import describe
from graft_lightning.rejection.reward import Reward
from graft_lightning.types import SettingsError


def trained_reward(trainer: L.Trainer, data: Any) -> tuple[str | None, Reward | None]:
    """Name of the reward that a trainer's run accepts by, and the reward.

    Args:
        trainer: has the callback that collects.
        data: the datamodule, which may name another than the first reward.

    Returns:
        None for both where nothing is collected; a name alone where the scores are stored in the pool and no reward
        makes them: a person's verdicts.
    """
    callbacks: Sequence[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    collect = next((callback for callback in callbacks if isinstance(callback, Collect)), None)
    if collect is None or collect.reward is None:
        return None, None
    name = getattr(data, "reward", None) or collect.reward.name
    found = collect.rewards.get(name)
    return name, None if found is None else found.evaluated_by


def scorer(collect: Collect, data: Any) -> Reward:
    """The reward that a run accepts by, for whoever has new samples to score.

    Args:
        collect: the collection's settings.
        data: the datamodule, which may name another than the first reward.

    Raises:
        SettingsError: if there is none, or nothing makes its scores: a person's verdicts, or those of a table.
    """
    if collect.reward is None:
        raise SettingsError("collect.reward is not set: new samples are scored by the reward that a run would maximise")
    name = getattr(data, "reward", None) or collect.reward.name
    if name not in collect.rewards:
        raise SettingsError(
            f"data.reward={name!r} has scores in the pool and nothing that makes them, and new samples are to be "
            f"scored; leave it out, or name one of collect.reward and collect.also: {', '.join(collect.rewards)}"
        )
    return collect.rewards[name]


def with_trained_first(rewards: Sequence[Reward], trained: Reward | None) -> list[Reward]:
    """The scores of an evaluation: the reward that is trained on, then all others; an equal one is the same."""
    if trained is None:
        return list(rewards)
    own = describe(trained)
    return [trained, *(other for other in rewards if other is not trained and describe(other) != own)]
