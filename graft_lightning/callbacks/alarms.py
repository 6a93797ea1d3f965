"""Alarms against reward hacking and against runs that do nothing, raised by every evaluation unless switched off."""

import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft_lightning.callbacks.sample_facts import Facts, blank_share, diversity, duplicate_share, sharpness
from graft_lightning.ranges import NonNegative
from graft_lightning.runs import ALARMS, append_record, read_records
from graft_lightning.statistics import finite_mean, interval

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Alarms:
    """When an evaluation raises an alarm. An alarm warns; it stops nothing.

    Args:
        on: False watches nothing.
        diversity: least distance between samples of one condition, as a share of the base's.
        blank: greatest share of images of one colour, and of samples with values that are not finite, above the
            base's.
        duplicates: greatest share of samples that repeat another, above the base's.
        change: least relative distance from the base's samples of the same seeds; below it, fine-tuning has no effect.
        judges: compare the rise of the training reward with that of every other score.
        sharpness: least mean sharpness, as a share of the base's; where the codec has such a notion (images: share of
            the spectral power in the upper half of frequencies). On real 8 × 8 digits two draws of 40 differ by at most
            a fifth (200 pairs), and a Gaussian blur of 0.6 pixels falls below one half 199 times in 200.
        drift: greatest kernel distance from the base's samples of the same seeds, in the features that
            ``evaluate.features`` names, as a multiple of what random halves of the base's own samples exceed once in
            100 times; halves are twice as far apart as two whole sets, so that one half means the same of these. On
            real digits two draws of 200 are told apart wrongly 1 time in 100, and halves of the classes, or mirrored
            digits, rightly every time. What fine-tuning is after is drift too: samples are others, not worse.
    """

    on: bool = True
    diversity: NonNegative = 0.5
    blank: NonNegative = 0.01
    duplicates: NonNegative = 0.05
    change: NonNegative = 1e-3
    judges: bool = True
    sharpness: NonNegative = 0.5
    drift: NonNegative = 0.5


Scores = Mapping[str, Sequence[Sequence[float]]]
"""Per-sample scores by name, condition and draw, the training reward first."""


def figures_of(rows: Sequence[Facts], change: float | None) -> dict[str, float]:
    """What is watched of the samples of one evaluation.

    Args:
        rows: of all samples.
        change: relative distance from the base's samples; None where unknown.
    """
    if not rows:
        return {}
    metrics = {"blank": blank_share(rows), "duplicates": duplicate_share(rows)}
    spread = diversity(rows)
    if spread is not None:
        metrics["diversity"] = spread
    sharp = sharpness(rows)
    if sharp is not None:
        metrics["sharpness"] = sharp
    if change is not None:
        metrics["change"] = change
    return metrics


def raised(
    limits: Alarms, metrics: Mapping[str, float], base: Mapping[str, float], gaps: Sequence["Gap"]
) -> dict[str, str]:
    """The alarms of one evaluation: name -> one line.

    Args:
        limits: when they are raised.
        metrics: of this evaluation.
        base: metrics of the base; empty where unknown, and shares are then measured from zero.
        gaps: of every judge.
    """
    lines = {}
    for name, of_what in (("blank", "of one colour or not finite"), ("duplicates", "repetitions of another")):
        share, before = metrics.get(name, 0.0), base.get(name, 0.0)
        if share > before + getattr(limits, name):
            compared = f", of the base's {before:.1%}" if base else ""
            lines[name] = f"{share:.1%} of the samples are {of_what}{compared}"
    for name, said in (
        ("diversity", "samples of one condition are {:.0%} as far apart as the base's"),
        ("sharpness", "samples are {:.0%} as sharp as the base's"),
    ):
        if name in metrics and base.get(name, 0.0) > 0:
            share = metrics[name] / base[name]
            if share < getattr(limits, name):
                lines[name] = f"{said.format(share)} ({metrics[name]:.3g}, the base {base[name]:.3g})"
    if metrics.get("drift", 0.0) > limits.drift * metrics.get("drift_of_halves", math.inf):
        lines["drift"] = (
            f"samples are {metrics['drift']:.3g} from the base's of the same seeds in the features, and the base's own "
            f"halves no more than {metrics['drift_of_halves']:.3g} from each other"
        )
    if metrics.get("change", math.inf) <= limits.change:
        lines["change"] = (
            f"fine-tuning has no effect: the same seeds give the base's samples, "
            f"to {metrics['change']:.1e} of their size"
        )
    for gap in gaps:
        if gap.alarming:
            lines[f"gap/{gap.judge}"] = gap.line()
    return lines


@dataclass(frozen=True)
class Gap:
    """How far a held-out metric stays behind the training reward; means with 95 % intervals (mean, low, high).

    Over conditions; over the samples, each less the base's of the same seed, where there is one condition.

    Attributes:
        reward: name of the training reward.
        judge: name of the other score.
        reward_rise: rise of the reward from the base, in its own units.
        judge_rise: rise of the judge.
        behind: the reward's rise less the judge's, each in standard deviations of the base's samples, condition by
            condition, or sample by sample.
    """

    reward: str
    judge: str
    reward_rise: tuple[float, float, float]
    judge_rise: tuple[float, float, float]
    behind: tuple[float, float, float]

    @property
    def alarming(self) -> bool:
        """The reward rises significantly, the held-out metric does not, and is significantly behind."""
        return self.reward_rise[1] > 0 and not self.judge_rise[1] > 0 and self.behind[1] > 0

    def line(self) -> str:
        """The alarm."""
        reward, judge = ("{:+.3f} [{:+.3f}, {:+.3f}]".format(*rise) for rise in (self.reward_rise, self.judge_rise))
        return f"{self.reward} rises by {reward}, but {self.judge} by {judge}: the reward may be exploited"


def gaps(reward: str, now: Scores, base: Scores) -> list[Gap]:
    """The gap of every score but the training reward; of none where conditions differ or scores are constant.

    Args:
        reward: name of the training reward.
        now: scores of this evaluation.
        base: scores of the base on the same conditions.
    """
    found = []
    for judge in now:
        if judge == reward or not {reward, judge} <= base.keys() & now.keys():
            continue
        found_of = {name: rises(now[name], base[name]) for name in (reward, judge)}
        units = {name: _deviation(base[name]) for name in (reward, judge)}
        if len(found_of[reward]) < 2 or len(found_of[reward]) != len(found_of[judge]) or not all(units.values()):
            continue
        behind = [r / units[reward] - j / units[judge] for r, j in zip(found_of[reward], found_of[judge], strict=True)]
        found.append(Gap(reward, judge, *map(_ends, (found_of[reward], found_of[judge], behind))))
    return found


def rises(now: Sequence[Sequence[float]], base: Sequence[Sequence[float]]) -> list[float]:
    """Rise of the mean score, condition by condition; of the only condition, sample by sample.

    NaN where a score is missing; nothing where conditions, or the draws of the only one, differ in number.
    """
    if len(now) == len(base) == 1:
        now, base = ([[score] for score in table[0]] for table in (now, base))
    if len(now) != len(base):
        return []
    return [finite_mean(after) - finite_mean(before) for after, before in zip(now, base, strict=True)]


def _deviation(table: Sequence[Sequence[float]]) -> float:
    values = [value for row in table for value in row if math.isfinite(value)]
    mean = finite_mean(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / len(values)) if values else 0.0


def _ends(values: Sequence[float]) -> tuple[float, float, float]:
    figure = interval(values)
    return figure["mean"], figure["low"], figure["high"]


def curves_of(
    metrics: Mapping[str, float],
    base: Mapping[str, float],
    found: Sequence[Gap],
    now: Collection[str],
    before: Collection[str] = (),
    stage: str = "validate",
) -> dict[str, float]:
    """Scalars for loggers, by tag; those of a test have tags of their own, beside validation's curves.

    Args:
        metrics: what is watched.
        base: the same of the base; empty where unknown.
        found: of every judge.
        now: names of the alarms that are raised: curves of 1. Of a run in which nothing is wrong there is none.
        before: of those that earlier evaluations have raised: 0 where they are raised no more.
        stage: of the evaluation.
    """
    end_of_top = "" if stage == "validate" else f"_of_{stage}"
    top = f"watched{end_of_top}"
    relative = ("diversity", "sharpness")
    curves = {f"{top}/{name}": value for name, value in metrics.items() if name not in relative}
    for name in relative:
        if name in metrics and base.get(name):
            curves[f"{top}/{name}_share"] = metrics[name] / base[name]
    for gap in found:
        for end, value in zip(("mean", "low", "high"), gap.behind, strict=True):
            curves[f"{top}/gap/{gap.judge}/{end}"] = value
    return {**curves, **{f"alarms{end_of_top}/{name}": float(name in now) for name in sorted({*now, *before})}}


def tell(folder: Path, record: Mapping[str, Any]) -> None:
    """Warns of every alarm, one line each, and adds the record to the folder.

    Args:
        folder: of the run.
        record: stage, method, step, metrics and alarms.
    """
    append_record(folder, ALARMS, record)
    for name, line in record["alarms"].items():
        log.warning("alarm (%s, step %d, %s): %s", record["stage"], record["step"], name, line)


def base_figures(folder: Path) -> dict[str, float]:
    """What was watched of the base in this run, in whatever stage; empty where it was not evaluated."""
    found = [record["metrics"] for record in read_records(folder, ALARMS) if record["method"] == "base"]
    return dict(found[-1]) if found else {}
