"""What a run says of a round that it accepts from: to the log, to the loggers, and in its folder."""

import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch

from graft_lightning.callbacks.figures import accepted_figure, log_figure, log_samples
from graft_lightning.callbacks.loggers import log_curves
from graft_lightning.datamodules.accepted import AcceptedTrajectories
from graft_lightning.durable import write_text
from graft_lightning.modules.graft import PGraft
from graft_lightning.rejection.acceptance import Acceptance
from graft_lightning.rejection.objectives import WeighedObjective
from graft_lightning.rejection.pool import Round
from graft_lightning.rejection.selection import Selection, mean_of_all
from graft_lightning.runs import COLLECTED

log = logging.getLogger("graft_lightning.callbacks.collect")  # whose messages these are


def tell(
    trainer: L.Trainer,
    module: PGraft,
    data: AcceptedTrajectories,
    opened: Round,
    selection: Selection,
    drawn: int,
    folder: Path,
    rewards: Sequence[str],
) -> None:
    """Logs, draws and records what was accepted of a round; on one process.

    Args:
        trainer: has the loggers.
        module: what is trained.
        data: has the rule.
        opened: the round.
        selection: what was accepted of it.
        drawn: trajectories that were drawn just now.
        folder: of the run.
        rewards: names of those whose means are recorded, the one that is accepted by first.
    """
    before, after = selection.mean_reward()
    log.info(
        "round %d: %d trajectories (%d newly drawn), accepted %.0f (%.1f %%), mean reward %.3f, of the accepted %.3f",
        opened.index,
        len(opened),
        drawn,
        _number(selection.share.sum()),
        100 * selection.acceptance_rate,
        before,
        after,
    )
    rule = selection.implied
    log.info(
        "effective sample size %.1f of %d trajectories to train on; expected of this rule: effective sample size "
        "%.0f, KL from the reference %.2f of at most %.2f nats",
        selection.effective_sample_size,
        len(selection),
        rule.effective_sample_size,
        rule.kl,
        rule.kl_cap,
    )
    if module.pool_objective is not None and not module.pool_objective.by_rule:
        _tell_aim(module.pool_objective, selection, type(data.acceptance).__name__)
    if selection.without_signal:
        texts = [opened.conditions[i] for i in selection.without_signal]
        log.warning("%d conditions without signal (all rewards equal), left out: %s", len(texts), texts[:5])
    if selection.not_finite:
        log.warning("%d rewards are NaN or infinite; these trajectories are never accepted", selection.not_finite)
    _record(folder, opened, selection, module, data, drawn, rewards)
    log_samples(trainer, module, opened, selection, folder)
    metrics: dict[str, Any] = {
        "collect/reward_of_all": before,
        "collect/reward_of_accepted": after,
        "collect/acceptance_rate": selection.acceptance_rate,
        "collect/without_signal": len(selection.without_signal),
        "collect/not_finite": selection.not_finite,
        "collect/newly_drawn": drawn,
        "collect/effective_sample_size": selection.effective_sample_size,
        "collect/expected_effective_sample_size": rule.effective_sample_size,
        "collect/kl": rule.kl,
        **{f"collect/{name}": value for name, value in rule.diagnostics.items()},
    }
    log_curves(trainer, metrics, trainer.global_step)
    figure = accepted_figure(selection, opened.conditions, opened.index)
    log_figure(trainer, "collect/acceptance", figure, folder / "acceptance.png")


def _tell_aim(objective: WeighedObjective, selection: Selection, rule: str) -> None:
    """What an objective that weighs draws itself can reach in this round, where it is known."""
    name, weights = type(objective).__name__, objective.aim(selection)
    log.info("%s weighs draws by their rewards itself: %s has no say in training", name, rule)
    if weights is None:
        return
    finite = selection.rewards.isfinite()
    signal = (objective.weights(selection) != 0).any(1) & finite.any(1)
    # what cannot be judged is not trained on, and takes no part in what the weights are relative to
    weights, rewards = weights * finite, torch.where(finite, selection.rewards.double(), 0.0)
    reached = float(((weights * rewards).sum(1) / weights.sum(1))[signal].mean())
    if (weights < 0).any():
        log.info("%s aims at a mean reward of about %.3f in this round", name, reached)
        return
    share = weights / weights.sum(1, keepdim=True)
    kl = torch.special.xlogy(share, share * finite.sum(1, keepdim=True)).sum(1)[signal].mean()
    log.info("%s aims at a mean reward of %.3f in this round, %.2f nats (KL) from what drew it", name, reached, kl)


def _record(
    folder: Path,
    opened: Round,
    selection: Selection,
    module: PGraft,
    data: AcceptedTrajectories,
    drawn: int,
    rewards: Sequence[str],
) -> None:
    """Leaves the counts of this round in the run's folder, for reports."""
    scores = {name: opened.rewards(name) for name in dict.fromkeys(rewards)}
    means = {name: {"all": mean_of_all(r), "accepted": selection.mean(r)} for name, r in scores.items()}
    record = {
        "round": opened.index,
        "acceptance": selection.rule,
        "acceptance_settings": _settings(data.acceptance),
        "reward": rewards[0],
        "seed": data.seed,
        "draws": opened.draws,
        "conditions": len(opened.conditions),
        "accepted": _number(selection.share.sum()),
        "used": len(selection),
        "effective_sample_size": selection.effective_sample_size,
        "newly_drawn": drawn,
        "not_finite": selection.not_finite,
        "without_signal": len(selection.without_signal),
        "rewards": means,
        "rewards_before": {name: selection.mean_before(r) for name, r in scores.items()},
        "pool": str(data.pool),
        **({} if module.run is None else {"run": module.run}),
        "implied": _implied(selection),
    }
    folder.mkdir(parents=True, exist_ok=True)
    name = COLLECTED if opened.index == 0 else f"collected-{opened.index}.json"
    write_text(folder / name, json.dumps(record, indent=1))


def _implied(selection: Selection) -> dict[str, float]:
    """What the rule implies, single metrics; those that do not exist are left out, as JSON has no NaN."""
    return {name: value for name, value in selection.implied.scalars().items() if math.isfinite(value)}


def _settings(rule: Acceptance) -> dict[str, Any]:
    """The settings of a rule; rules inside it as text, with theirs."""
    found: dict[str, Any] = {}
    for name, value in vars(rule).items():
        if isinstance(value, Acceptance):
            found[name] = _written(value)
        elif isinstance(value, list) and all(isinstance(item, Acceptance) for item in value):
            found[name] = [_written(item) for item in value]
        elif isinstance(value, int | float | str) and name not in ("pointwise", "positional"):  # follow from the rest
            found[name] = value
    return found


def _written(rule: Acceptance) -> str:
    settings = (
        f"{name}=[{', '.join(value)}]" if isinstance(value, list) else f"{name}={value}"
        for name, value in _settings(rule).items()
    )
    return f"{type(rule).__name__}({', '.join(settings)})"


def _number(accepted: torch.Tensor) -> int | float:
    """How many draws are accepted: a whole number, but for soft acceptance."""
    return int(accepted) if accepted == accepted.round() else float(accepted)
