"""Never worse than the base: the weights that validation liked best are kept, or the base's where none beat it."""

import json
import logging
import math
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from graft_lightning.callbacks.alarms import rises
from graft_lightning.callbacks.likely_cause import likely_cause
from graft_lightning.callbacks.loggers import log_curves
from graft_lightning.durable import write_text
from graft_lightning.modules.trained_weights import beside_trained, trained, whole, write, write_beside
from graft_lightning.ranges import Natural
from graft_lightning.runs import KEPT, read_records, run_folder, validations
from graft_lightning.statistics import Interval, interval
from graft_lightning.types import SettingsError

log = logging.getLogger(__name__)

VALIDATIONS = 5
"""Evaluations on the way of a run, at least."""

NO_SCORES = (
    "not one sample of the fine-tuned model could be scored; where its weights are not finite, lower the learning rate"
)

TRIAL = 50
"""Steps below which a run is only tried out, and is evaluated as often as it is told to be."""


class KeepBest(L.Callback):
    """Ends a fit with its best weights by validation reward; with the base's, bit for bit, where none beat the base.

    Every evaluation is compared with the base's samples of the same seeds, so that the interval is that of paired
    differences. Weights beat the base if the whole interval lies above 0. The run's folder gets ``kept.json``, and
    ``checkpoints/best.ckpt``, which other commands take up; ``last.ckpt`` is still where a fit goes on.

    Needs a validation and the base's evaluation (``evaluate.baseline``), with the reward that is trained on among
    ``evaluate.rewards``; without, weights stay as the last step leaves them. A run that validates at all does so at
    least five times.

    Args:
        on: False keeps the last weights, whatever they are worth.
        patience: so many evaluations in a row whose reward lies significantly below the best end the run; 0 never
            does.
        at_least: constraints: score or metric -> share of the base's value below which weights are not kept, such as
            ``{Diversity: 0.8}``.
        at_most: the same, for what should be low: ``{FrechetDistance: 1.2}``.
    """

    def __init__(
        self,
        on: bool = True,
        patience: Natural = 2,
        at_least: dict[str, float] | None = None,
        at_most: dict[str, float] | None = None,
    ) -> None:
        if patience < 0:
            raise ValueError(f"best.patience={patience}; it is a number of evaluations, 0 to never stop")
        self.on, self.patience = on, patience
        self.at_least, self.at_most = dict(at_least or {}), dict(at_most or {})
        self.kept: dict[str, Tensor] = {}
        self.step, self.falling = 0, 0
        self._seen: dict[str, Tensor] = {}
        self._folder: Path | None = None

    # ---- hooks

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Has a run validated at least `VALIDATIONS` times."""
        if stage == "fit" and self.applies(pl_module):
            step = interval_of(trainer, getattr(trainer, "datamodule", None))
            if step is not None:
                trainer.check_val_every_n_epoch = None
                trainer.val_check_interval = step

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """What an earlier fit in this folder kept is not this one's."""
        if hasattr(pl_module, "kept_step"):
            pl_module.kept_step = None
        folder = self._folder = run_folder(trainer)  # collective: later one process asks alone
        if trainer.ckpt_path is None and trainer.is_global_zero:
            for path in (folder / KEPT, best_checkpoint(folder)):
                path.unlink(missing_ok=True)

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """What another run kept, from whose checkpoint this one goes on, was never compared with this one's base."""
        came_from = getattr(pl_module, "came_from", None)
        if came_from not in (None, getattr(pl_module, "run", None)):
            self.kept, self.step, self.falling = {}, 0, 0

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Copies the weights as they are evaluated: with an average in their place, where there is one."""
        if batch_idx == 0 and trainer.state.fn == "fit" and self.applies(pl_module):
            held = [*trained(pl_module), *beside_trained(pl_module)]
            self._seen = {name: whole(value.detach()).to("cpu", copy=True) for name, value in held}

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Keeps the copy if it is the best so far, and ends a run that falls for good."""
        if trainer.sanity_checking or not self._seen:
            return
        verdict = self._judge(trainer) if trainer.is_global_zero else None
        better, self.falling, stop = trainer.strategy.broadcast(verdict or (False, self.falling, False))
        if better:
            self.kept, self.step = self._seen, trainer.global_step
        self._seen = {}
        if stop:
            trainer.should_stop = True

    def on_fit_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Puts the best weights, or the base's, into the module and into ``best.ckpt``."""
        if not self.applies(pl_module) or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if not self._judged(trainer):
            if trainer.is_global_zero and any(
                r["stage"] == "validate" and r["method"] != "base" for r in read_records(self._run(trainer))
            ):
                _say(UNJUDGED, warn=True)
            return
        if self.kept:
            self.put_back(pl_module)
        else:
            pl_module.restore_base()
        pl_module.kept_step = pl_module.trained_steps = self.step
        trainer.save_checkpoint(best_checkpoint(self._run(trainer)), weights_only=True)
        if trainer.is_global_zero:
            self._tell(trainer, pl_module)

    def put_back(self, module: Any) -> None:
        """Puts the weights of the best evaluation into the module, with the running means that they had."""
        for name, parameter in trained(module):
            write(parameter.data, self.kept[name])
        write_beside(module, self.kept)

    def state_dict(self) -> dict[str, Any]:
        return {"kept": self.kept, "step": self.step, "falling": self.falling}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.kept, self.step, self.falling = state_dict["kept"], state_dict["step"], state_dict["falling"]

    # ---- work

    def _run(self, trainer: L.Trainer) -> Path:
        """The run's folder, as it was when the fit began: asking the trainer takes all processes."""
        return run_folder(trainer) if self._folder is None else self._folder

    def applies(self, module: Any) -> bool:
        """Whether the weights of a module are kept at all."""
        return self.on and bool(getattr(module, "collects", False) and getattr(module, "has_base", False))

    def _judged(self, trainer: L.Trainer) -> bool:
        """Whether any evaluation could be compared with the base's; known to all processes."""
        found = None
        if trainer.is_global_zero:
            found = bool(self._differences(trainer)) or bool(unscored(self._run(trainer), self._reward(trainer)))
        return bool(trainer.strategy.broadcast(found))

    def _judge(self, trainer: L.Trainer) -> tuple[bool, int, bool]:
        """Whether these weights are the best yet, how often in a row they have been worse, and whether to end."""
        found, lost = self._differences(trainer), unscored(self._run(trainer), self._reward(trainer))
        if lost and max(lost) > max(found, default=0):  # not one sample could be scored: nothing is worse
            return False, self.falling + 1, 0 < self.patience <= self.falling + 1
        if not found:
            return False, 0, False
        now = found[max(found)]
        log_curves(trainer, {f"best/difference/{end}": now[end] for end in ("mean", "low", "high")}, max(found))
        reference = found.get(self.step) if self.kept else None
        better = above_zero(now) and not self.broken(trainer) and (reference is None or now["mean"] > reference["mean"])
        behind = interval(self._behind(trainer, self.step if self.kept else 0))
        falling = 0 if better or not behind["high"] < 0 else self.falling + 1
        stop = 0 < self.patience <= falling
        if stop:
            log.info("stopped at step %d: %d evaluations in a row lie below the best", trainer.global_step, falling)
        return better, falling, stop

    def _differences(self, trainer: L.Trainer) -> dict[int, Interval]:
        """Paired differences of the validation reward from the base's, with intervals, by step."""
        return differences(self._run(trainer), self._reward(trainer))

    def _behind(self, trainer: L.Trainer, step: int) -> list[float]:
        """The last evaluation's reward less that at a step, 0 for the base, pair by pair."""
        records, reward = validations(self._run(trainer)), self._reward(trainer)
        if step not in records:
            return []
        return rises(records[max(records)]["scores"][reward], records[step]["scores"][reward])

    def broken(self, trainer: L.Trainer) -> list[str]:
        """Constraints that the last evaluation breaks, in words.

        Raises:
            SettingsError: if a constraint names nothing that is evaluated.
        """
        records = validations(self._run(trainer))
        now, base = records[max(records)]["metrics"], records[0]["metrics"]
        lines = []
        for key, limits, sign in (("at_least", self.at_least, 1), ("at_most", self.at_most, -1)):
            for name, share in limits.items():
                if name not in now or name not in base:
                    raise SettingsError(
                        f"best.{key} names {name!r}, which is not evaluated; there are {', '.join(now)}"
                    )
                value, before = now[name]["mean"], base[name]["mean"]
                if not sign * value >= sign * share * before:
                    lines.append(f"{name} {value:.3g} against the base's {before:.3g}")
        return lines

    @staticmethod
    def _reward(trainer: L.Trainer) -> str:
        """Name of the reward that is trained on."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        collect: Any = next((c for c in trainer.callbacks if hasattr(c, "rewards") and hasattr(c, "keep")), None)  # type: ignore[attr-defined]
        return getattr(data, "reward", None) or next(iter(getattr(collect, "rewards", {})), "")

    def _tell(self, trainer: L.Trainer, module: Any) -> None:
        folder, reward = self._run(trainer), self._reward(trainer)
        found = differences(folder, reward)
        records = validations(folder)
        base = records[0]["metrics"][reward]["mean"]
        record: dict[str, Any] = {
            "reward": reward,
            "base": base,
            "step": self.step,
            "kept": "weights" if self.kept else "base",
            "differences": {str(step): plain(found[step]) for step in sorted(found)},
            "cause": None,
        }
        lost = unscored(folder, reward)
        last = max([*found, *lost])
        if self.kept:
            best = found[self.step]
            record["line"] = (
                f"kept: the weights of step {self.step} of {last}, {reward} {base:.3f} -> "
                f"{records[self.step]['metrics'][reward]['mean']:.3f}, {written(best)} against the base"
            )
        elif not found:
            record["cause"] = NO_SCORES
            record["line"] = f"no gain: the base is returned. {reward} {base:.3f}. Likely cause: {NO_SCORES}"
        else:
            top = max(found, key=lambda step: found[step]["mean"])
            record["cause"] = likely_cause(folder, trainer, module, found, self.broken(trainer))
            record["line"] = (
                f"no gain: the base is returned. {reward} {base:.3f}; the best evaluation, at step {top}, differs by "
                f"{written(found[top])}. Likely cause: {record['cause']}"
            )
        write_text(folder / KEPT, json.dumps(record, indent=1))
        _say(record["line"], warn=not self.kept)


UNJUDGED = (
    "best: nothing is kept, the last weights are returned: no evaluation could be compared with one of the base on the "
    "same draws (evaluate.baseline, data.validation)"
)


def interval_of(trainer: L.Trainer, data: Any) -> int | None:
    """Batches between two validations, if a run that validates does so less than `VALIDATIONS` times as it is set.

    None where it stays as it is: a run without validation, one that is only tried out, or one that goes by the clock.
    """
    per_epoch = getattr(data, "steps_per_epoch", None)
    if not per_epoch or not getattr(data, "validation", None) or not trainer.limit_val_batches:
        return None
    if getattr(trainer, "_val_check_time_interval", None) is not None or trainer.max_steps < 0:
        return None
    batches = trainer.max_steps * trainer.accumulate_grad_batches
    if trainer.max_epochs is not None and trainer.max_epochs >= 0:
        batches = min(batches, trainer.max_epochs * per_epoch)
    every = trainer.val_check_interval
    inside = int(every * per_epoch) if isinstance(every, float) else every
    now = inside * (trainer.check_val_every_n_epoch or 1) if inside else 0
    planned = batches // now if now else 0
    if trainer.fast_dev_run or planned == 0 or planned >= VALIDATIONS or batches < TRIAL:  # type: ignore[attr-defined]
        return None
    most, unit = batches // VALIDATIONS, trainer.accumulate_grad_batches
    even = [step for step in range(unit, most + 1, unit) if batches % step == 0 and step * 2 > most]
    return max(even, default=most // unit * unit)


def differences(folder: Path, reward: str) -> dict[int, Interval]:
    """Paired differences of a reward from the base's, with 95 % intervals, by step; without the base itself."""
    records = validations(folder)
    if 0 not in records or reward not in records[0]["scores"]:
        return {}
    base = records[0]["scores"][reward]
    found = {step: interval(rises(r["scores"][reward], base)) for step, r in records.items() if step}
    return {step: difference for step, difference in found.items() if math.isfinite(difference["mean"])}


def unscored(folder: Path, reward: str) -> list[int]:
    """Steps at which not one sample of the trained model has a score, as of weights that are not finite."""
    records = validations(folder)
    scores = {step: r["scores"].get(reward, ()) for step, r in records.items() if step}
    return [step for step, table in scores.items() if not any(math.isfinite(v) for row in table for v in row)]


def above_zero(difference: Interval) -> bool:
    """Whether a whole interval lies above 0; of a single value, which has none, the value."""
    return (difference["mean"] if math.isnan(difference["low"]) else difference["low"]) > 0


def written(difference: Interval) -> str:
    """A difference as text."""
    ends = "" if math.isnan(difference["low"]) else f" [{difference['low']:+.3f}, {difference['high']:+.3f}]"
    return f"{difference['mean']:+.3f}{ends}"


def plain(difference: Interval) -> dict[str, float | None]:
    """For JSON, which has no NaN."""
    return {name: value if math.isfinite(value) else None for name, value in difference.items()}


def best_checkpoint(folder: Path) -> Path:
    """Where the best weights of a run are."""
    return folder / "checkpoints" / "best.ckpt"


@rank_zero_only
def _say(line: str, warn: bool) -> None:
    log.log(logging.WARNING if warn else logging.INFO, "%s", line)
