"""Short runs of fine-tuning that are thrown away: what `placebo` and `tune` look at before the real one.

Each begins at the reference. One run of gradient steps is evaluated at several steps and with several moving averages,
which cost no steps; every evaluation is compared with the base's samples of the same seeds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import lightning as L
import torch
from torch import Tensor
from tqdm import tqdm

from graft_lightning.callbacks.alarms import rises
from graft_lightning.callbacks.collect import Collect
from graft_lightning.callbacks.evaluate import Evaluate
from graft_lightning.callbacks.ranks import ranks_of
from graft_lightning.callbacks.sample_facts import change
from graft_lightning.callbacks.score_rows import table
from graft_lightning.callbacks.trained_reward import scorer
from graft_lightning.datamodules.accepted import AcceptedTrajectories
from graft_lightning.datamodules.evaluation import DrawLoader, draws_of
from graft_lightning.domains.base import listed
from graft_lightning.modules.graft import PGraft
from graft_lightning.modules.trained_weights import trained
from graft_lightning.processes.weightings import Weighting
from graft_lightning.rejection.acceptance import Acceptance, Always
from graft_lightning.rejection.objectives import UnselectedBaseline, WeighedObjective
from graft_lightning.rejection.reward import score
from graft_lightning.reports.without_signal import ShuffledRewards
from graft_lightning.statistics import Interval, interval, over_conditions
from graft_lightning.types import SettingsError, concatenate, on_device

OWN = "own"
"""The weighting, and the baseline, that a configuration asks for."""


@dataclass(frozen=True)
class Setting:
    """What a short run is tried with.

    Attributes:
        lr: learning rate of all parameters.
        weighting: its name; "own" is the configuration's.
        baseline: "own", or "unselected".
        average: decay of the moving average that is evaluated; 0 is none.
    """

    lr: float
    weighting: str = OWN
    baseline: str = OWN
    average: float = 0.0

    @property
    def name(self) -> str:
        """In words, for tables and curves."""
        parts = [f"lr {self.lr:.3g}"]
        parts += [] if self.weighting == OWN else [self.weighting]
        parts += [] if self.baseline == OWN else [f"less {self.baseline}"]
        parts += [f"average {self.average:g}"] if self.average else []
        return ", ".join(parts)


@dataclass(frozen=True)
class Point:
    """One evaluation of a short run.

    Attributes:
        setting: what was tried.
        step: gradient steps that had been taken.
        rewards: paired differences from the base by score, the one that is trained on first.
        change: distance from the base's samples of the same seeds, as a share of their size; None where unknown.
    """

    setting: Setting
    step: int
    rewards: dict[str, Interval]
    change: float | None

    @property
    def reward(self) -> Interval:
        """Of the reward that is trained on."""
        return next(iter(self.rewards.values()))

    @property
    def falls(self) -> bool:
        """Whether the reward lies significantly below the base's, or not one sample could be scored."""
        return self.reward["high"] < 0 or math.isnan(self.reward["mean"])


@dataclass
class ShortRuns:
    """Runs on one pool, evaluated on the validation conditions.

    Args:
        trainer: gives device and folder.
        module: its networks are built, and left as the reference.
        data: gives pool, acceptance and validation conditions; the pool is filled first if it is not.
        collect: the collection's settings.
        evaluate: gives further scores.
        samples: of the validation draws in an evaluation, at most; all by default.
        weightings: by name, those that settings may ask for beside "own".

    Attributes:
        spent: gradient steps so far.
    """

    trainer: L.Trainer
    module: PGraft
    data: AcceptedTrajectories
    collect: Collect
    evaluate: Evaluate
    samples: int | None = None
    weightings: dict[str, Weighting] = field(default_factory=dict)
    spent: int = 0

    def __post_init__(self) -> None:
        first = scorer(self.collect, self.data).evaluated_by
        if self.data.validation is None:
            raise SettingsError(
                "data.validation is needed: short runs are judged on the conditions for choosing settings"
            )
        self.collect.check(self.module, self.data)
        self.trainer.strategy.connect(self.module)
        self.trainer.strategy.setup_environment()
        self.module.configure_model()
        self.module.to(self.trainer.strategy.root_device)
        self.module.eval()
        frozen, print_of = self.module.opened().frozen, self.module.reference_fingerprint()
        self.module.draw_as(self.trainer)
        filled = self.collect.collection(self.module, self.data)
        self._round = filled.fill(frozen, print_of, self.module.device, ranks=ranks_of(self.trainer)).round
        self._start = {name: p.detach().clone() for name, p in trained(self.module)}
        self.rewards = {first.name: first, **{reward.name: reward for reward in self.evaluate.rewards}}
        with torch.no_grad():
            self._base, self._base_scores = self._sampled(base=True)

    @property
    def reward(self) -> str:
        """Name of the reward that is trained on."""
        return self.data.reward or next(iter(self.collect.rewards))

    @property
    def base(self) -> dict[str, float]:
        """Mean scores of the base on the validation draws, conditions alike as in the differences from it."""
        return {name: over_conditions(rows)["mean"] for name, rows in self._base_scores.items()}

    def run(
        self, setting: Setting, steps: Sequence[int], averages: Sequence[float] = (0.0,), selected: bool = True
    ) -> list[Point]:
        """One short run.

        Args:
            setting: what is tried; its average is not looked at.
            steps: after which it is evaluated, increasing.
            averages: decays of the moving averages that are evaluated at each of them.
            selected: False trains on all samples of the pool, whatever they are worth; where the objective goes by
                rewards whatever the rule accepts, on rewards that are exchanged at random within their condition.
        """
        before, acceptance = self.module.objective.weighting, self.data.acceptance
        objective = self.module.pool_objective
        try:
            return self._run(setting, steps, averages, self.data.acceptance if selected else Always(), selected)
        finally:
            self.module.objective.weighting, self.data.acceptance = before, acceptance
            self.module.pool_objective = objective
            self._load(self._start)
            self.module.zero_grad()
            self.module.eval()

    def _run(
        self, setting: Setting, steps: Sequence[int], averages: Sequence[float], acceptance: Acceptance, selected: bool
    ) -> list[Point]:
        module, points = self.module, list[Point]()
        if setting.weighting != OWN:
            module.objective.weighting = self.weightings[setting.weighting]
        module.pool_objective = self._objective(setting)
        self.data.acceptance = acceptance
        # unselected samples of conditions without signal are as good a placebo as any
        drop = self.data.drop_without_signal
        self.data.drop_without_signal = drop and not isinstance(acceptance, Always)
        objective = module.pool_objective
        used: Any = self._round
        if not selected and objective is not None and not objective.by_rule:
            used = ShuffledRewards(self._round, self.data.seed)
        try:
            self.data.use(used, self.reward, module.training_state, objective, module.policy_steps())
        finally:
            self.data.drop_without_signal = drop
        self._load(self._start)
        parameters = [p for _, p in trained(module)]
        optimiser = module.optimizer(parameters)
        for group in optimiser.param_groups:
            group["lr"] = setting.lr
        averaged = {decay: [p.detach().clone() for p in parameters] for decay in averages if decay}
        size = self.data.batch_size
        for step in range(steps[-1]):
            module.train()
            batch = self.data.read(range(step * size, (step + 1) * size)).to(module.device)
            optimiser.zero_grad()
            module.loss_of(batch)[0].backward()
            if self.trainer.gradient_clip_val:
                torch.nn.utils.clip_grad_norm_(parameters, self.trainer.gradient_clip_val)
            optimiser.step()
            self.spent += 1
            with torch.no_grad():
                for decay, values in averaged.items():
                    share = 1 - min(decay, (2 + step) / (11 + step))
                    for value, parameter in zip(values, parameters, strict=True):
                        value.lerp_(parameter.detach(), share)
            if step + 1 in steps:
                points += [self._point(setting, step + 1, decay, averaged.get(decay)) for decay in averages]
        return points

    def _objective(self, setting: Setting) -> WeighedObjective | None:
        # a baseline has a copy of the objective's weighting, which a setting may have changed
        if setting.baseline == OWN and self.module.baseline == "none":
            return self.module.pool_objective
        plain = self.module.objective
        return UnselectedBaseline(plain.weighting, plain.field_weights, plain.categorical_target)

    @torch.no_grad()
    def _point(self, setting: Setting, step: int, decay: float, averaged: list[Tensor] | None) -> Point:
        names = [name for name, _ in trained(self.module)]
        now = {name: p.detach().clone() for name, p in trained(self.module)}
        if averaged is not None:
            self._load(dict(zip(names, averaged, strict=True)))
        samples, scores = self._sampled()
        self._load(now)
        found = {name: interval(rises(rows, self._base_scores[name])) for name, rows in scores.items()}
        return Point(replace(setting, average=decay), step, found, change(self.module.decoder, samples, self._base))

    @torch.no_grad()
    def _load(self, weights: dict[str, Tensor]) -> None:
        for name, parameter in trained(self.module):
            parameter.copy_(weights[name])

    def _sampled(self, base: bool = False) -> tuple[Any, dict[str, list[list[float]]]]:
        """Samples of the validation draws on the CPU, and their scores by condition and draw."""
        data, module = self.data, self.module
        module.eval()
        assert data.validation is not None
        texts = listed(data.validation)
        draws = min(data.eval_draws, max(1, (self.samples or len(texts) * data.eval_draws) // len(texts)))
        loader = DrawLoader(
            lambda: draws_of(data.validation, draws, data.seed, "validation"),  # type: ignore[arg-type]
            data.eval_batch_size,
            group=draws,
        )
        parts, rows = [], []
        for batch in loader:
            finished = module.sample_base(batch) if base else module.sample(batch)
            samples = module.decoder.decode(finished)
            scores = [
                score(reward.to(module.device), samples, batch.conditions, shared=True).tolist()
                for reward in self.rewards.values()
            ]
            found = zip(batch.conditions, batch.draw.tolist(), *scores, strict=True)
            rows += [(text, number, list(values)) for text, number, *values in found]
            parts.append(on_device(samples, "cpu"))
        return concatenate(parts), {name: table(rows, i) for i, name in enumerate(self.rewards)}


def own_rate(module: PGraft) -> float:
    """The learning rate that a configuration asks for."""
    return float(module.optimizer([torch.nn.Parameter(torch.zeros(1))]).param_groups[0]["lr"])


def progress(total: int, what: str) -> tqdm:
    """A progress bar over short runs."""
    return tqdm(total=total, desc=what, unit="run")
