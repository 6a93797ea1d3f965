"""What is trained, in two lines: Lightning's table less what says nothing of our networks (operations: 0)."""

import logging
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelSummary, RichModelSummary
from lightning.pytorch.utilities.model_summary import get_human_readable_count

log = logging.getLogger(__name__)


class WeightsSummary(ModelSummary):
    """Says which networks there are, and how many of their weights are trained."""

    @staticmethod
    def summarize(
        summary_data: list[tuple[str, list[str]]],
        total_parameters: int,
        trainable_parameters: int,
        model_size: float,
        total_training_modes: dict[str, int],
        total_flops: int = 0,
        **more: Any,
    ) -> None:
        """Arguments as of Lightning's; ``model_size`` in MB."""
        columns = dict(summary_data)
        for name, kind, count in zip(columns["Name"], columns["Type"], columns["Params"], strict=True):
            log.info("%s: %s, %s weights", name, kind, count.strip())
        trained, known = (get_human_readable_count(int(n)).strip() for n in (trainable_parameters, total_parameters))
        log.info("trained: %s of %s weights (%.3g MB)", trained, known, model_size)


def with_short_summary(trainer: L.Trainer) -> None:
    """Puts a summary of ours in the place of Lightning's own default; one that a configuration names stays."""
    callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    for place, callback in enumerate(callbacks):
        if type(callback) in (ModelSummary, RichModelSummary):
            callbacks[place] = WeightsSummary()
