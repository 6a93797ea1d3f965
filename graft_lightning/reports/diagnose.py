"""``diagnose``: from one pool, where the reward is decided and what a hand-off can reach."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor
from tqdm import tqdm

from graft_lightning.callbacks.collect import Collect
from graft_lightning.callbacks.figures import ACCEPTED, BEFORE, REJECTED, new_figure
from graft_lightning.callbacks.ranks import ranks_of
from graft_lightning.datamodules.accepted import AcceptedTrajectories
from graft_lightning.domains.base import Examples
from graft_lightning.modules.graft import PGraft
from graft_lightning.processes.noise import Noise, derived_seeds
from graft_lightning.rejection.decided_level import (
    Estimate,
    Recommendation,
    continue_from,
    error_of_variance,
    estimate,
    recommended,
    reward_variance,
    score_distance,
    share_of,
    within_condition_variance,
)
from graft_lightning.rejection.levels import kept_levels
from graft_lightning.rejection.pool import Round
from graft_lightning.rejection.selection import Selection
from graft_lightning.runs import run_folder
from graft_lightning.types import SettingsError, on_device

DECIDED = 0.1
"""A hand-off is recommended where no more than this share of the reward's variance is still open."""


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

    Args:
        trainer: gives device and folder.
        module: its reference is what is diagnosed.
        data: gives pool and acceptance; the pool is filled first if it is not.
        collect: the collection's settings.
        states: stored states per kept level.
        continuations: of each state.
        real: real data, for the figure "from real data"; left out by default.

    Returns:
        What to print.
    """
    if collect.reward is None:
        raise SettingsError("collect.reward is not set: diagnose needs the reward that a run would maximise")
    sampler = module.reference.sampler
    if not sampler.stochastic(module.reference.process):
        raise SettingsError(
            f"model.reference.sampler={type(sampler).__name__} is deterministic: E[Var(r | X_t)] would be 0; "
            "use DDPM, or DDIM with eta > 0"
        )
    if not kept_levels(module.reference, collect.keep):
        raise SettingsError("collect.keep holds no level: there is no intermediate state to diagnose")
    collect.check(module, data)
    trainer.strategy.connect(module)
    trainer.strategy.setup_environment()
    module.configure_model()
    module.to(trainer.strategy.root_device).eval()
    frozen, print_of = module.opened().frozen, module.reference_fingerprint()
    opened = collect.collection(module, data).fill(frozen, print_of, module.device, ranks=ranks_of(trainer)).round
    selection = collect.select(module, data, opened)
    total, error = within_condition_variance(selection.rewards), error_of_variance(selection.rewards)
    if not total > 0:
        raise SettingsError(
            f"collect.reward={type(collect.reward).__name__} has a variance of {total:g} within the conditions: "
            "nothing is decided at any level; use a reward that differs between the draws of a condition, and 2 or more"
        )
    rows = [
        _level(module, collect, opened, selection, n, (total, error), states, continuations, real)
        for n in tqdm(sorted(opened.kept_levels), desc="Levels")
    ]
    steps = module.reference.sampler.steps
    fractions = [n / steps for n in sorted(opened.kept_levels)]
    handoff = recommended(fractions, [row["open_variance"] for row in rows], DECIDED)
    before, after = selection.mean_reward()
    found = {
        "reward": {"all": before, "accepted": after},
        "within_condition_variance": total,
        "within_condition_variance_error": error,
        "score_of": _scored_fields(module),
        "levels": [
            {"state": n, "fraction": n / steps, **opened.kept_levels[n]._asdict(), **_plain(row)}
            for n, row in zip(sorted(opened.kept_levels), rows, strict=True)
        ],
        "recommended": {
            "N_I/N": handoff.level,
            "crossing": None if math.isnan(handoff.crossing) else handoff.crossing,
            "low": handoff.low,
            "high": handoff.high,
            "open_below": handoff.below,
            "open_above": handoff.above,
        },
    }
    folder = run_folder(trainer)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "diagnose.json").write_text(json.dumps(found, indent=1) + "\n")
    _draw(found, folder / "diagnose.png")
    return _text(found, folder, _advice(handoff))


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
    if handoff.below:
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
    collect: Collect,
    opened: Round,
    selection: Selection,
    n: int,
    total: tuple[float, float],
    states: int,
    continuations: int,
    real: Examples | None,
) -> dict[str, Estimate]:
    reference, frozen, device = module.reference, module.opened().frozen, module.device
    level = opened.kept_levels[n].t
    assert collect.reward is not None
    spread = torch.linspace(0, len(opened) - 1, min(states, len(opened))).long()
    x_t, texts, seeds = _read(opened, spread, n)
    variance = reward_variance(
        reference, frozen, collect.reward, x_t, level, texts, seeds, continuations, collect.batch_size, device
    )
    row = {"open_variance": share_of(variance, *total)}
    distance = score_distance(reference, frozen, on_device(x_t, device), level, texts)
    if distance is not None:
        row["score_distance"] = distance
    chosen, before = selection.spread(min(states, len(selection)))
    x_s, texts, seeds = _read(opened, chosen, n)
    fresh = derived_seeds(seeds, "attainable")
    for times in range(1, int(before.max()) + 1):  # what is taken again is finished by other noise
        fresh = torch.where(before == times, derived_seeds(seeds, f"attainable {times}"), fresh)
    row["attainable"] = estimate(
        continue_from(reference, frozen, collect.reward, x_s, level, texts, fresh, collect.batch_size, device)
    )
    if real is not None:
        x_0, texts = real.batch(range(states), seed=0)
        seeds = derived_seeds(torch.arange(states), "real")
        noised = reference.process.diffuse(x_0, 0.0, level, Noise(seeds))
        seeds = derived_seeds(seeds, "finish")
        row["from_real_data"] = estimate(
            continue_from(reference, frozen, collect.reward, noised, level, texts, seeds, collect.batch_size, device)
        )
    return row


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


def _text(found: dict[str, Any], folder: Path, advice: str) -> str:
    columns = [name for name in found["levels"][0] if isinstance(found["levels"][0][name], dict)]
    lines = [
        "Where the reward is decided, level by level (N_I / N counted from the data):",
        "",
        f"  {'N_I/N':>6} {'t':>8}  " + "  ".join(f"{name:>22}" for name in columns),
    ]
    for level in found["levels"]:
        cells = [f"{level[name]['mean']:.3f} ± {level[name]['high'] - level[name]['mean']:.3f}" for name in columns]
        lines.append(f"  {level['fraction']:6.3f} {level['t']:8.4g}  " + "  ".join(f"{cell:>22}" for cell in cells))
    reward = found["reward"]
    lines += [
        "",
        "  open_variance   E[Var(r | X_t)] over the variance within conditions: what selection at t cannot see",
        f"  score_distance  how far the score is from that of pure noise: {found['score_of']}",
        "  attainable      mean reward of accepted states finished afresh: a perfect P-GRAFT of one round",
        f"  reward          {reward['all']:.3f} of all samples, {reward['accepted']:.3f} of the accepted",
        "  ±               to the ends of the 95 % interval over states; the conditions are those of the pool",
        "",
        advice,
        f"Written: {folder / 'diagnose.json'}, {folder / 'diagnose.png'}",
    ]
    return "\n".join(lines)


def _draw(found: dict[str, Any], path: Path) -> None:
    figure, (left, right) = new_figure(columns=2)
    fractions = [level["fraction"] for level in found["levels"]]
    # inside, a legend would lie on the intervals, which its automatic place does not avoid
    below: dict[str, Any] = {"frameon": False, "loc": "upper center", "bbox_to_anchor": (0.5, -0.14)}

    def line(axis: Any, name: str, colour: str, label: str) -> None:
        if name in found["levels"][0]:
            means = [level[name]["mean"] for level in found["levels"]]
            errors = [level[name]["high"] - level[name]["mean"] for level in found["levels"]]
            axis.errorbar(fractions, means, errors, color=colour, marker="o", capsize=3, label=label)

    line(left, "open_variance", REJECTED, "E[Var(r | X_t)] / Var")
    line(left, "score_distance", BEFORE, "distance of the score from noise")
    left.axhline(DECIDED, color="black", linewidth=0.7, linestyle=":")
    left.axvspan(found["recommended"]["low"], found["recommended"]["high"], color=ACCEPTED, alpha=0.15)
    left.set(xlabel="N_I / N, from the data", title="Where the reward is decided", xlim=(0, 1), ylim=(0, None))
    left.legend(**below)
    line(right, "attainable", ACCEPTED, "accepted states, finished afresh")
    line(right, "from_real_data", BEFORE, "real data, finished by the reference")
    for name, style in (("all", ":"), ("accepted", "--")):
        right.axhline(found["reward"][name], color="black", linewidth=0.8, linestyle=style, label=f"reward of {name}")
    right.set(xlabel="N_I / N, from the data", ylabel="reward", title="What a hand-off can reach", xlim=(0, 1))
    right.legend(**below)
    figure.savefig(path, dpi=150)
