"""Evaluation: held-out conditions, sampled from the same seeds by every model that is compared."""

import math
import time
from collections.abc import Sequence
from concurrent.futures import Future
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import lightning as L
from torch import Tensor, nn
from torchmetrics import Metric
from tqdm import tqdm

from graft_lightning.callbacks.alarms import Alarms, figures_of
from graft_lightning.callbacks.base_scores import base_key, keep_base, kept_base
from graft_lightning.callbacks.drifting import FILE, drift, keep_features
from graft_lightning.callbacks.due_validation import DueValidation
from graft_lightning.callbacks.figures import (
    SAMPLES_SHOWN,
    log_figure,
    log_layout,
    log_sheet,
    scores_figure,
    sheet_of,
    write_sheet,
)
from graft_lightning.callbacks.loggers import log_curves, takes_pictures
from graft_lightning.callbacks.measures import Measure
from graft_lightning.callbacks.pairs import Shown, base_and_now
from graft_lightning.callbacks.sample_facts import Facts, change, facts_of
from graft_lightning.callbacks.score_rows import condition_means, gathered, summarise, table
from graft_lightning.callbacks.spent import begin_counting, spent_so_far
from graft_lightning.callbacks.steer import cost_of_steering, steered
from graft_lightning.callbacks.trained_reward import trained_reward, with_trained_first
from graft_lightning.callbacks.understood import refuse_conditions
from graft_lightning.callbacks.watching import watch
from graft_lightning.domains.base import listed
from graft_lightning.identity import describe, digest_of
from graft_lightning.modules.sampled import SampledModule
from graft_lightning.processes.noise import Noise, trajectory_seeds
from graft_lightning.rejection.judging import asked
from graft_lightning.rejection.reward import Reward, RewardError, score
from graft_lightning.runs import (
    ALARMS,
    EVALUATIONS,
    KEYS,
    SPENT,
    append_record,
    read_records,
    retire_records,
    run_folder,
)
from graft_lightning.statistics import without_interval
from graft_lightning.types import Draws, SettingsError, concatenate, on_device, take

BASE_SAMPLES = 2
"""Samples of each process that are compared with the base's of the same seeds."""


class Evaluate(L.Callback):
    """Scores the samples of validation and test, logs them with intervals, and writes them to the run's folder.

    The reward that is trained on is always the first of the scores, whether `rewards` names it or not.

    Args:
        rewards: further scores per sample: held-out metrics.
        metrics: torchmetrics over all samples, called ``update(samples, conditions)``: diversity, distances. Of several
            processes one that has nothing left to draw calls it without a sample.
        method: the name in reports; the model's own by default.
        baseline: also evaluate the reference: once when a fit starts, and in `test`, where what one run has found
            serves all that share its pool.
        alarms: when an evaluation warns: of a reward that is exploited, of samples that are blank, repeated or alike,
            of fine-tuning without effect.
        measures: what is said of the model itself: operations per sample, likelihood.
        features: a network, samples in [0, 1] -> ``(batch, d)``, by whose features alarms tell how far samples have
            drifted from the base's of the same seeds.
    """

    def __init__(
        self,
        rewards: list[Reward] | None = None,
        metrics: list[Metric] | None = None,
        method: str | None = None,
        baseline: bool = True,
        alarms: Alarms | None = None,
        measures: list[Measure] | None = None,
        features: nn.Module | None = None,
    ) -> None:
        self.rewards = list(rewards or [])
        self.metrics = list(metrics or [])
        self.method = method
        self.baseline = baseline
        self.measures = list(measures or [])
        self.alarms = alarms or Alarms()
        self.features = features
        self._facts: list[Facts] = []
        self._first: tuple[Draws, Any] | None = None
        self._base_first: Any = None
        self._rows: list[tuple[str, int, list[float]]] = []
        self._asked: tuple[Draws, list[Future[Tensor]], dict[int, Any]] | None = None
        self._shown: list[Shown] = []
        self._base_shown: list[Shown] = []
        self._began = time.monotonic()
        self._tried = False
        self._trained: str | None = None
        self._identities: dict[str, str] = {}
        self._due = DueValidation()

    @property
    def names(self) -> list[str]:
        """Names of the per-sample scores; two of one name are told apart by a number."""
        return _told_apart([reward.name for reward in self.rewards])

    @property
    def metric_names(self) -> list[str]:
        """Names of the figures of all samples together, told apart from each other and from the scores."""
        return _told_apart([*self.names, *(type(metric).__name__ for metric in self.metrics)])[len(self.rewards) :]

    def named(self, module: SampledModule) -> str:
        """What reports call the model under evaluation: with how many particles it is steered, where it is."""
        if self.method or not (steering := getattr(module, "steering", None)):
            return self.method or module.method
        steered = f"fk_{steering[0].particles}"
        return f"{module.method}+{steered}" if getattr(module, "trained_steps", 0) else steered

    def lead_with_trained(self, trainer: L.Trainer, data: Any) -> None:
        """Puts the reward that the run of a trainer on some data maximises first among the scores."""
        self._trained, reward = trained_reward(trainer, data)
        self.rewards = with_trained_first(self.rewards, reward)

    # ---- hooks

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuses conditions that the model does not understand, and batches that would cut a reward's group in two.

        Raises:
            SettingsError: naming the keys.
        """
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if stage in ("fit", "validate", "test"):
            refuse_conditions(getattr(pl_module, "decoder", None), data, "test" if stage == "test" else "validation")
        self.lead_with_trained(trainer, data)
        draws, batch = getattr(data, "eval_draws", 1), getattr(data, "eval_batch_size", 1)
        if draws > batch and (groupwise := [reward.name for reward in self.rewards if reward.groupwise]):
            raise SettingsError(
                f"evaluate.rewards: {groupwise[0]} looks at all draws of a condition, but data.eval_draws={draws} do "
                f"not fit into data.eval_batch_size={batch}"
            )

    def try_rewards(self, module: SampledModule, data: Any) -> None:
        """Has every reward score pure noise, once: one that cannot work is found out before anything is sampled.

        Args:
            module: whose samples are scored.
            data: has the conditions that are held out.

        Raises:
            SettingsError: naming the reward, and what is wrong.
        """
        held_out = getattr(data, "validation", None) or getattr(data, "test", None)
        if self._tried or held_out is None:
            return
        self._tried = True
        self._identify()
        count = data.eval_draws if any(reward.groupwise for reward in self.rewards) else min(2, data.eval_draws)
        decoder, texts = module.decoder, listed(held_out)[:1] * count
        noise = Noise(trajectory_seeds(0, 0, texts, range(len(texts))), module.device)
        x = decoder.process.prior(decoder.shape(texts), noise, decoder.static_fields(texts, module.device))
        samples = decoder.decode(x)
        for place, reward in enumerate(self.rewards):
            try:
                score(reward.to(module.device), samples, texts, shared=True)
            except RewardError as error:
                raise SettingsError(f"evaluate.rewards[{place}]: {error}") from error
            reward.to("cpu")

    def on_fit_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Evaluates the reference on the validation draws; a resumed run has that already."""
        self.try_rewards(pl_module, trainer.datamodule)  # type: ignore[attr-defined]
        log_layout(trainer, pl_module, self.names, self.metric_names)
        folder = run_folder(trainer)
        told = getattr(pl_module, "run", None) is not None  # by who began the run, and set old records aside
        if trainer.ckpt_path is None and trainer.is_global_zero and not told:
            retire_records(folder)
        trainer.strategy.barrier("old records retired")
        loader = limited(trainer.datamodule.val_dataloader(), trainer, "val")  # type: ignore[attr-defined]
        if not (getattr(pl_module, "has_base", False) and (self.rewards or self.metrics)):
            return
        if not (self.baseline and loader):
            return
        recorded = any((r["stage"], r["method"]) == ("validate", "base") for r in read_records(folder))
        pl_module.eval()
        self._sample_base(trainer, pl_module, loader, only_first=recorded)
        pl_module.train()
        self._base_shown = self._shown
        self._base_first = self._first[1] if self._first else None
        if not recorded:
            self._finish(trainer, pl_module, "validate", "base", before=True)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Notes where a validation is due next: the run may be killed inside it, and goes on behind it."""
        self._due.note(trainer, checkpoint)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._due.take_up(checkpoint)

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Makes up for the validation that a killed run was in; averages of weights are restored by now."""
        if self.owes(trainer, pl_module):
            self._due.make_up(trainer)
            begin_counting(trainer, pl_module)
        self._due.forget()

    def owes(self, trainer: L.Trainer, module: Any) -> bool:
        """Whether a resumed run lacks the validation that was due where its checkpoint was saved. Collective."""
        return self._due.owed_by(trainer, self.method or module.method)

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._reset(pl_module)

    def on_test_epoch_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self._test_base(trainer, pl_module)
        self._reset(pl_module)

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Draws, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._take(pl_module, batch, outputs)

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Draws, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._take(pl_module, batch, outputs)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        if not trainer.sanity_checking:
            self._finish(trainer, pl_module, "validate", self.named(pl_module))

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        self._finish(trainer, pl_module, "test", self.named(pl_module))

    # ---- work

    def _sample_base(self, trainer: L.Trainer, module: SampledModule, loader: Any, only_first: bool = False) -> None:
        """Samples and scores the base on the draws of a loader; of a trial, or where asked, on the first batch."""
        self._reset(module)
        few = only_first or trainer.fast_dev_run  # type: ignore[attr-defined]
        quiet = few or not trainer.is_global_zero or trainer.progress_bar_callback is None
        for number, draws in enumerate(tqdm(loader, "Base", disable=quiet, leave=False)):
            if number and few:
                break
            with module.in_precision():
                samples = module.decoder.decode(module.sample_base(draws))
            self._take(module, draws, samples)
        self._settle()

    def _test_base(self, trainer: L.Trainer, module: SampledModule) -> None:
        """Records the base on the draws of a test, from what another run of these draws has found where there is one.

        Not of a model without a checkpoint, whose own record says the same. Collective.
        """
        asked = self.baseline and (self.rewards or self.metrics) and module.has_base and (self.method != "base")
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        whole = data.test_dataloader()
        loader = limited(whole, trainer, "test")
        other = self._steps(trainer, module) or trainer.ckpt_path or getattr(module, "steering", None)
        if not (asked and loader and other) or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        part = len(loader) if len(loader) < len(whole) else None
        key = base_key(module, data, self.rewards, self.metrics, self.features, part)
        folder, kept = run_folder(trainer), Path(data.pool) if getattr(data, "pool", None) else None
        seen = folder / FILE.format("test") if self.features is not None and self.alarms.on else None
        found: Any = kept_base(kept, key, seen) if kept and trainer.is_global_zero else None
        found = trainer.strategy.broadcast(found)
        if found is None:
            self._sample_base(trainer, module, loader)
            written = self._finish(trainer, module, "test", "base", before=True)
            if written and kept:
                keep_base(kept, key, written, seen)
        elif trainer.is_global_zero:
            known = [r for r in read_records(folder) if (r["stage"], r["method"]) == ("test", "base")]
            if not known or known[-1]["scores"] != found["record"]["scores"]:
                append_record(folder, EVALUATIONS, {**found["record"], **_of_run(module)})
                if found["watched"]:
                    append_record(folder, ALARMS, {**found["watched"], **_of_run(module)})

    def _identify(self) -> None:
        """Digests of the scores by name, as they are before their first call; records of others do not compare."""
        if not self._identities:
            described = [digest_of(describe(reward, evidence=True)) for reward in self.rewards]
            self._identities = dict(zip(self.names, described, strict=True))

    def _reset(self, module: L.LightningModule) -> None:
        self._identify()
        self._rows, self._shown, self._facts, self._first, self._asked = [], [], [], None, None
        self._began = time.monotonic()
        for reward in self.rewards:
            reward.to(module.device)
        for metric in self.metrics:
            metric.to(module.device).reset()
        if self.features is not None:
            self.features.to(module.device).eval()

    def _take(self, module: SampledModule, draws: Draws, samples: Any) -> None:
        if self._first is None:
            few = Draws(draws.conditions[:BASE_SAMPLES], draws.draw[:BASE_SAMPLES], draws.seeds[:BASE_SAMPLES])
            self._first = few, on_device(take(samples, slice(BASE_SAMPLES)), "cpu")
        if (draws.draw < 0).all():  # repeated to keep processes in step
            for metric in self.metrics:
                metric.update(
                    take(samples, slice(0)), []
                )  # its states get their shapes, without which none can be gathered
            return
        scores = asked(self.rewards, samples, draws.conditions, module.device)
        self._settle()
        shown = draws.draw == 0 if any(draws.conditions) else draws.draw >= 0  # one a condition, where there is any
        rows = shown.nonzero().squeeze(1).tolist()[: SAMPLES_SHOWN - len(self._shown)]
        self._asked = draws, scores, {i: on_device(take(samples, slice(i, i + 1)), "cpu") for i in rows}
        for metric in self.metrics:
            metric.update(samples, draws.conditions)
        if self.alarms.on:
            self._facts += facts_of(module.decoder, samples, draws.conditions, draws.draw.tolist(), self.features)
        if not any(reward.apart_for(len(draws.conditions)) for reward in self.rewards):
            self._settle()

    def _settle(self) -> None:
        """Takes over the scores of the batch that was asked about last, once they are there."""
        if self._asked is None:
            return
        (draws, found, shown), self._asked = self._asked, None
        scores = [one.result().tolist() for one in found]
        rows = zip(draws.conditions, draws.draw.tolist(), *scores, strict=True)
        self._rows += [(text, number, list(values)) for text, number, *values in rows]
        self._shown += [Shown(draws.conditions[i], one, [values[i] for values in scores]) for i, one in shown.items()]

    def _finish(
        self, trainer: L.Trainer, module: SampledModule, stage: str, method: str, before: bool = False
    ) -> dict[str, Any] | None:
        """Gathers, logs and records one evaluation, of the base ``before`` or in one of Lightning's loops. Collective.

        Returns:
            On process 0 the record, and what was watched; None on the others.
        """
        self._settle()
        seconds = time.monotonic() - self._began
        if stage == "validate" and not before:
            self._due.done(trainer)
        for reward in self.rewards:
            reward.to("cpu")  # its memory is needed for training
        rows = gathered(self._rows)
        metrics = {name: summarise(rows, i) for i, name in enumerate(self.names)}
        for name, metric in zip(self.metric_names, self.metrics, strict=True):
            metrics[name] = without_interval(_number_of(metric), len(rows))  # of the whole set
        if not before:
            metrics |= cost_of_steering(module)
        for measure in self.measures if not before else ():
            metrics |= measure(trainer, module)
        for name, found in metrics.items():
            if not before:  # for checkpoints and progress bars; Lightning's own step is one behind that of the interval
                module.log(f"{stage}/{name}", found["mean"], prog_bar=name == next(iter(metrics)), logger=False)
        facts = gathered(self._facts)
        changes = gathered([(trainer.global_rank, 0, self._change(trainer, module, stage, before))])
        folder = run_folder(trainer)
        spent = {} if before else spent_so_far(trainer, module)
        if not trainer.is_global_zero:
            return None
        step = 0 if before else self._steps(trainer, module)
        curves = {f"{stage}/{name}": found["mean"] for name, found in metrics.items()}
        ends = [(name, end, f[end]) for name, f in metrics.items() for end in ("low", "high")]
        curves |= {f"interval/{stage}/{name}/{end}": value for name, end, value in ends if math.isfinite(value)}
        if stage == "validate":
            curves["speed/evaluated_samples_per_second"] = len(rows) / max(seconds, 1e-9)
        averages = self._averages(trainer, stage, rows)
        curves |= {f"{stage}/{name}/{tag}": value for name, tags in averages.items() for tag, value in tags.items()}
        if not (before and stage == "test"):
            log_curves(trainer, curves, step)
        record = {
            "stage": stage,
            "method": method,
            "step": step,
            "seed": trainer.datamodule.seed,  # type: ignore[attr-defined]
            "metrics": metrics,
            "averages": averages,
            "scores": {name: table(rows, i) for i, name in enumerate(self.names)},
            "identities": self._identities,
            **_of_run(module),
            **({} if before else steered(module)),
        }
        append_record(folder, EVALUATIONS, record)
        if spent:  # apart: time is another one in every run of the same settings
            append_record(folder, SPENT, {**{key: record[key] for key in KEYS}, "spent": spent, **_of_run(module)})
        watched = None
        if self.alarms.on:
            known = [value for _, _, value in changes if value is not None]
            figures = figures_of(facts, max(known) if known else None)
            if before:
                keep_features(folder / FILE.format(stage), self.features, record["seed"], facts)
            else:
                figures |= drift(folder / FILE.format(stage), self.features, record["seed"], facts)
            watched = watch(trainer, folder, record, figures, self.alarms, self._trained or next(iter(self.names), ""))
        if stage == "validate" and not before and takes_pictures(trainer):
            curve = scores_figure([r for r in read_records(folder) if r["stage"] == stage])
            if curve is not None:
                log_figure(trainer, f"{stage}/scores", curve, None, step)
        name = f"{stage}-base" if before and stage == "test" else "base" if before else stage
        self._draw(trainer, module, stage, folder / f"{name}.png", step)
        return {"record": record, "watched": watched}

    def _averages(self, trainer: L.Trainer, stage: str, rows: Any) -> dict[str, dict[str, float]]:
        """A benchmark's own metrics by reward, where every one of its conditions was sampled."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        conditions = data.validation if stage == "validate" else data.test
        if conditions is None or {text for text, *_ in rows} != set(listed(conditions)):
            return {}
        found = {name: conditions.averages(condition_means(rows, i)) for i, name in enumerate(self.names)}
        return {name: metrics for name, metrics in found.items() if metrics}

    def _change(self, trainer: L.Trainer, module: SampledModule, stage: str, before: bool) -> float | None:
        """How far the first samples of this process are from the base's; None where nothing has been trained."""
        trained = module.has_base and not before and self._steps(trainer, module) > 0
        if not (self.alarms.on and trained and self._first):
            return None
        draws, samples = self._first
        base = self._base_first if stage == "validate" else None
        if base is None:
            with module.in_precision():
                base = module.decoder.decode(module.sample_base(draws))
        return change(module.decoder, samples, base)

    @staticmethod
    def _steps(trainer: L.Trainer, module: SampledModule) -> int:
        return trainer.global_step or int(getattr(module, "trained_steps", 0))

    def _draw(self, trainer: L.Trainer, module: SampledModule, stage: str, file: Path, step: int) -> None:
        if not self._shown:
            return
        texts, samples = zip(*((shown.text, shown.sample) for shown in self._shown), strict=True)
        tag = f"{stage}/base" if file.stem == "test-base" else f"{stage}/samples"
        log_sheet(trainer, tag, sheet_of(module, concatenate(samples), texts), file, step)
        if self._base_shown and self._base_shown is not self._shown:
            pairs = list(zip(self._base_shown, self._shown, strict=False))
            before, after = (concatenate([pair[k].sample for pair in pairs]) for k in (0, 1))
            both = module.decoder.compare(before, after, texts[: len(pairs)])
            write_sheet(both, file.with_name("base_and_now.png"))
            card = base_and_now(module.decoder, pairs, self.names, step)
            log_sheet(trainer, f"{stage}/base_and_now", both if card is None else card, None, step)


def _told_apart(names: Sequence[str]) -> list[str]:
    """Names of which those that are there before have a number."""
    found: list[str] = []
    for wanted in names:
        number = sum(name == wanted or name.startswith(f"{wanted}-") for name in found)
        found.append(f"{wanted}-{number + 1}" if number else wanted)
    return found


def _number_of(metric: Metric) -> float:
    """What a metric has found. Collective, inside torchmetrics.

    Raises:
        SettingsError: naming the metric, if it is no single number.
    """
    found = metric.compute()
    try:
        return float(found)
    except (TypeError, ValueError, RuntimeError):
        kind = type(found).__name__ + (f" of shape {tuple(found.shape)}" if isinstance(found, Tensor) else "")
        raise SettingsError(
            f"evaluate.metrics: {type(metric).__name__}.compute returned a {kind}; it must return one number. Of "
            "several, a class derived from it gives the one that is meant"
        ) from None


def limited(loader: Any, trainer: Any, kind: Literal["val", "test"]) -> Any:
    """The batches of a loader that Lightning's loop will look at: so many, or that share of them.

    All of them where it looks at none: there is nothing to compare with, and the base has its figures.
    """
    if not loader:
        return loader
    limit = getattr(trainer, f"limit_{kind}_batches", 1.0)
    count = int(limit * len(loader)) if isinstance(limit, float) else min(int(limit), len(loader))
    return list(islice(loader, count)) if 0 < count < len(loader) else loader


def _of_run(module: L.LightningModule) -> dict[str, str]:
    """Which run the weights of a module are of; nothing where that is not known."""
    found = getattr(module, "run", None)
    return {} if found is None else {"run": found}
