"""TensorBoard's page in the order in which it is read: what came of it first, alarms last."""

from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

GROUPS = {
    "validate": "1_held_out",
    "collect": "2_acceptance",
    "invert": "2_inversion",
    "invert_by_step": "2_inversion_by_step",
    "loss_by_level": "3_loss_by_level",
    "speed": "4_speed",
    "train": "5_training",
    "test": "6_test",
    "watched": "7_watched",
    "watched_of_test": "7_watched_of_test",
    "interval": "8_intervals",
    "alarms": "9_alarms",
    "alarms_of_test": "9_alarms_of_test",
}
"""Beginnings of tags as other loggers have them, and as TensorBoard shows them, which sorts its groups by name."""

WHOLE = {
    "validate/scores": "1_held_out/1_scores",
    "validate/base_and_now": "1_held_out/2_base_and_now",
    "validate/samples": "6_samples/held_out",
    "collect/accepted": "6_samples/accepted",
    "collect/rejected": "6_samples/rejected",
    "test/samples": "6_samples/test",
    "test/base": "6_samples/test_of_the_base",
    "best/difference/mean": "1_held_out/gain_over_base",
    "best/difference/low": "8_intervals/gain_over_base/low",
    "best/difference/high": "8_intervals/gain_over_base/high",
}

MEANINGLESS = {"epoch", "hp_metric"}
"""What Lightning adds by itself: an epoch is a number of steps here."""


def shown_as(tag: str) -> str:
    """The tag that a `Board` shows; what is not ours keeps its own."""
    group, slash, rest = tag.partition("/")
    return WHOLE.get(tag) or GROUPS.get(group, group) + slash + rest


class Board(TensorBoardLogger):
    """Lightning's TensorBoard logger with groups that are numbered, and without metrics that mean nothing."""

    @classmethod
    def of(cls, logger: TensorBoardLogger) -> "Board":
        """A logger of the same settings, in place of one that has written nothing yet."""
        board = cls.__new__(cls)
        vars(board).update(vars(logger))
        return board

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        super().log_metrics({shown_as(t): value for t, value in metrics.items() if t not in MEANINGLESS}, step)

    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        """Keeps them for hparams.yaml. The page HPARAMS has what people compare runs by (`compare`)."""
        self.hparams.update({name: value for name, value in dict(params).items() if not name.startswith("_")})

    @rank_zero_only
    def compare(self, settings: Mapping[str, Any], tags: Sequence[str]) -> None:
        """What the page HPARAMS shows of this run: a few settings, and the last values of some curves."""
        from torch.utils.tensorboard.summary import hparams

        writer: Any = self.experiment
        for summary in hparams(dict(settings), dict.fromkeys(map(shown_as, tags), 0.0)):
            writer.file_writer.add_summary(summary)


def with_boards(trainer: L.Trainer) -> None:
    """Puts a `Board` in the place of Lightning's own logger; one of another class stays."""
    trainer.loggers = [Board.of(each) if type(each) is TensorBoardLogger else each for each in trainer.loggers]


def settings_of(trainer: L.Trainer, module: Any) -> dict[str, Any]:
    """What runs are compared by, where a run has it: plain values by the names that options have."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    rule, optimizer = getattr(data, "acceptance", None), getattr(module, "optimizer", None)
    found = {
        "method": getattr(module, "method", None),
        "acceptance": None if rule is None else _told(rule),
        "learning_rate": None if optimizer is None else _rate(trainer),
        "max_steps": trainer.max_steps if trainer.max_steps > 0 else None,
        "batch_size": getattr(data, "batch_size", None),
        "handoff": getattr(module, "handoff", None),
        "seed": getattr(data, "seed", None),
    }
    return {name: value for name, value in found.items() if isinstance(value, bool | int | float | str)}


def _told(rule: Any) -> str:
    derived = ("pointwise", "positional")  # follow from the rest
    plain = {n: value for n, value in vars(rule).items() if isinstance(value, int | float | str) and n not in derived}
    return f"{type(rule).__name__}({', '.join(f'{name}={value}' for name, value in plain.items())})"


def _rate(trainer: L.Trainer) -> float | None:
    found = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]
    return float(found[0]) if found else None
