"""``diagnose``: from one pool, where the reward is decided and what a hand-off can reach."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import lightning as L
import torch
from torch import Tensor
from tqdm import tqdm

from graft_lightning.callbacks.collect import Collect
from graft_lightning.callbacks.ranks import ready
from graft_lightning.callbacks.trained_reward import scorer
from graft_lightning.datamodules.accepted import AcceptedTrajectories
from graft_lightning.domains.base import Examples
from graft_lightning.durable import write_text
from graft_lightning.modules.graft import PGraft
from graft_lightning.processes.noise import Noise, derived_seeds
from graft_lightning.rejection.decided_level import (
    Estimate,
    Recommendation,
    accepted_mean,
    continue_from,
    error_of_variance,
    estimate,
    recommended,
    reward_variance,
    score_distance,
    share_of,
    within_condition_variance,
)
from graft_lightning.rejection.imported import imported_round
from graft_lightning.rejection.levels import kept_levels
from graft_lightning.rejection.pool import Round
from graft_lightning.rejection.reward import Reward
from graft_lightning.rejection.selection import Selection
from graft_lightning.reports.diagnosed import DECIDED, draw, text_of
from graft_lightning.runs import run_folder
from graft_lightning.types import SettingsError, on_device


def diagnose(
    trainer: L.Trainer,
    module: PGraft,
    data: AcceptedTrajectories,
    collect: Collect,
    states: int,
    continuations: int,
    real: Examples | None = None,
) -> str:
    """Measures every kept level of a pool; writes diagnose.json and diagnose.png to the run's folder.

    With a deterministic sampler the variance is 0 by construction and nothing is recommended by it: all that differs
    between the levels is the distance of the score.

    Args:
        trainer: gives device and folder.
        module: its reference is what is diagnosed.
        data: gives pool and acceptance; the pool is filled first if it is not.
        collect: the collection's settings.
        states: stored states per kept level.
        continuations: of each state.
        real: real data, for the metric "from real data"; left out by default.

    Returns:
        What to print.
    """
    reward = scorer(collect, data)
    if reward.groupwise or reward.evaluated_by is not reward:
        raise SettingsError(
            f"{reward.name} compares the draws of a condition with each other, and diagnose finishes single states; "
            "accept by one of its parts (data.reward), or leave the normalisation out"
        )
    if not kept_levels(module.reference, collect.keep):
        raise SettingsError("collect.keep holds no level: there is no intermediate state to diagnose")
    collect.check(module, data)
    if imported_round(data.pool) is not None:
        raise SettingsError(
            f"data.pool={data.pool} holds imported samples, whose states on the way from noise nobody has; diagnose "
            "needs a pool that the reference has drawn: set data.pool to another folder"
        )
    ready(trainer, module)
    opened = collect.fill(trainer, module, data, 0, module.opened().frozen).round
    selection = collect.select(module, data, opened)
    total, error = within_condition_variance(selection.rewards), error_of_variance(selection.rewards)
    if not total > 0:
        raise SettingsError(
            f"the reward {reward.name} has a variance of {total:g} within the conditions: "
            "nothing is decided at any level; use a reward that differs between the draws of a condition, and 2 or more"
        )
    rows = [
        _level(module, reward, collect.batch_size, opened, selection, n, (total, error), states, continuations, real)
        for n in tqdm(sorted(opened.kept_levels), desc="Levels")
    ]
    steps = module.reference.sampler.steps
    fractions = [n / steps for n in sorted(opened.kept_levels)]
    ode = _is_deterministic(module)
    handoff = None if ode else recommended(fractions, [row["open_variance"] for row in rows], DECIDED)
    before, after = selection.mean_reward()
    found: dict[str, Any] = {
        "reward": {"name": reward.name, "all": before, "accepted": after},
        "within_condition_variance": total,
        "within_condition_variance_error": error,
        "score_of": _scored_fields(module),
        "deterministic": ode,
        "states": module.states,
        "sampler": _of_the_sampler(module),
        "levels": [
            {"state": n, "fraction": n / steps, **opened.kept_levels[n]._asdict(), **_plain(row)}
            for n, row in zip(sorted(opened.kept_levels), rows, strict=True)
        ],
        "recommended": _record(handoff),
    }
    folder = run_folder(trainer)
    write_text(folder / "diagnose.json", json.dumps(found, indent=1) + "\n")
    draw(found, folder / "diagnose.png")
    return text_of(found, folder, _by_validation(fractions) if handoff is None else _advice(handoff))


def _is_deterministic(module: PGraft) -> bool:
    return not module.reference.sampler.stochastic(module.reference.process)


def _of_the_sampler(module: PGraft) -> str:
    """What the sampler means for the tilt that is left below the hand-off."""
    name = type(module.reference.sampler).__name__
    if not _is_deterministic(module):
        classes = any(path.discrete for path in module.reference.process.paths.values())
        other = (
            "every sampler draws classes" if classes else "a deterministic one (DDIM with eta 0, Euler) keeps all of it"
        )
        return (
            f"{name} finishes x_s with fresh noise: of the tilt E[A | X_0] only E[E[A | X_s] | X_0] is left, which "
            f"attainable measures; {other}."
        )
    kept = f"{name} is deterministic: x_0 is a function of x_s, and accepted x_s keep the whole tilt."
    if module.states == "x_0":
        return f"{kept} model.states=x_0 noises x_0 afresh, and keeps what attainable measures; x_s keeps all."
    return f"{kept} Finished, they are the stored x_0: attainable is the accepted mean at every level."


def _by_validation(fractions: Sequence[float]) -> str:
    """The recommendation under a deterministic sampler, in words."""
    levels = ", ".join(f"{fraction:.3g}" for fraction in fractions)
    return (
        "Recommended hand-off: the one with the highest validation reward. E[Var(r | X_t)] is 0 by construction and "
        f"does not tell; train at N_I / N = {levels}, and compare them on the validation conditions."
    )


def _record(handoff: Recommendation | None) -> dict[str, Any]:
    """The recommendation for diagnose.json; none where nothing but a validation can tell."""
    if handoff is None:
        return {"by": "validation reward"} | dict.fromkeys(
            ("N_I/N", "crossing", "low", "high", "open_below", "open_above")
        )
    return {
        "by": "open variance",
        "N_I/N": handoff.level,
        "crossing": None if math.isnan(handoff.crossing) else handoff.crossing,
        "low": handoff.low,
        "high": handoff.high,
        "open_below": handoff.below,
        "open_above": handoff.above,
    }


def _advice(handoff: Recommendation) -> str:
    """The recommendation in words."""
    level = f"{handoff.level:.3g}"
    low = "the data (not resolved)" if handoff.below else f"{handoff.low:.3g}"
    high = "the noise (not resolved)" if handoff.above else f"{handoff.high:.3g}"
    interval = f"95 % interval of the crossing: {low} to {high}"
    if not math.isnan(handoff.crossing):
        return (
            f"Recommended hand-off: N_I / N = {level}, the highest kept level with at most {DECIDED:.0%} of the "
            f"variance still open; {DECIDED:.0%} is crossed at {handoff.crossing:.3g} ({interval})."
        )
    if handoff.below and not (handoff.above and handoff.decided):  # of an interval open at both ends the level tells
        return (
            f"Recommended hand-off: at or below N_I / N = {level}: not resolved, more than {DECIDED:.0%} of the "
            f"variance is open at the lowest kept level already; keep lower ones ({interval})."
        )
    return (
        f"Recommended hand-off: at or above N_I / N = {level}: nothing crosses {DECIDED:.0%} of the variance; keep "
        f"higher levels to find where it is crossed ({interval})."
    )


def _level(
    module: PGraft,
    reward: Reward,
    size: int,
    opened: Round,
    selection: Selection,
    n: int,
    total: tuple[float, float],
    states: int,
    continuations: int,
    real: Examples | None,
) -> dict[str, Estimate]:
    reference, frozen, device, under = module.reference, module.opened().frozen, module.device, module.in_precision
    level = opened.kept_levels[n].t
    spread = torch.linspace(0, len(opened) - 1, min(states, len(opened))).long()
    x_t, texts, seeds = _read(opened, spread, n)
    ode = _is_deterministic(module)
    if ode:
        row = {"open_variance": Estimate(0.0, 0.0, len(opened))}
    else:
        variance = reward_variance(
            reference, frozen, reward, x_t, level, texts, seeds, continuations, size, device, under
        )
        row = {"open_variance": share_of(variance, *total)}
    distance = score_distance(reference, frozen, on_device(x_t, device), level, texts, under)
    if distance is not None:
        row["score_distance"] = distance
    if ode and module.states == "x_s":
        row["attainable"] = accepted_mean(selection)
    else:
        row["attainable"] = _attainable(module, reward, size, opened, selection, n, states)
    if real is not None:
        x_0, texts = real.batch(range(states), seed=0)
        seeds = derived_seeds(torch.arange(states), "real")
        noised = reference.process.diffuse(x_0, 0.0, level, Noise(seeds))
        seeds = derived_seeds(seeds, "finish")
        row["from_real_data"] = estimate(
            continue_from(reference, frozen, reward, noised, level, texts, seeds, size, device, under)
        )
    return row


def _attainable(
    module: PGraft, reward: Reward, size: int, opened: Round, selection: Selection, n: int, states: int
) -> Estimate:
    """Mean reward of accepted states, finished afresh by the reference: under an ODE of x_0 that are noised again."""
    reference, level = module.reference, opened.kept_levels[n].t
    chosen, before = selection.spread(min(states, len(selection)))
    x_s, texts, seeds = _read(opened, chosen, n)
    fresh = derived_seeds(seeds, "attainable")
    for times in range(1, int(before.max()) + 1):  # what is taken again is finished by other noise
        fresh = torch.where(before == times, derived_seeds(seeds, f"attainable {times}"), fresh)
    if _is_deterministic(module):
        x_0 = opened.read(chosen, ["x_0"])["x_0"]
        x_s = reference.process.diffuse(x_0, 0.0, level, Noise(fresh))
    frozen, under = module.opened().frozen, module.in_precision
    finished = continue_from(reference, frozen, reward, x_s, level, texts, fresh, size, module.device, under)
    return estimate(finished)


def _read(opened: Round, indices: Tensor, n: int) -> tuple[Any, list[str], Tensor]:
    data = opened.read(indices, ["condition", "seed", f"states/{n}"])
    texts = [opened.conditions[i] for i in data["condition"].tolist()]
    return data["states", str(n)], texts, data["seed"]


def _scored_fields(module: PGraft) -> str:
    """What the distance of the score is about."""
    paths = module.reference.process.paths
    names = [name for name, path in paths.items() if not path.discrete]
    if not names:
        return "not measured: classes have no score"
    if len(names) == len(paths):
        return "what is left to learn above t"
    return f"what is left to learn above t; of {', '.join(map(str, names))} alone: classes have no score"


def _plain(row: dict[str, Estimate]) -> dict[str, dict[str, float]]:
    return {
        name: {**asdict(value), "low": value.mean - value.half_width, "high": value.mean + value.half_width}
        for name, value in row.items()
    }
