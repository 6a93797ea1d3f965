"""What each round of a run spends of divergence: what its rule asks for, and what training on it has taken up."""

import logging
import math
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from graft_lightning.callbacks.loggers import log_curves
from graft_lightning.modules.graft import PGraft
from graft_lightning.processes.denoiser import Denoiser
from graft_lightning.processes.noise import hashed_seed, place_seeds
from graft_lightning.rejection.pool import Round
from graft_lightning.rejection.round_kl import bound, kl_levels, measurable
from graft_lightning.rejection.selection import Selection
from graft_lightning.runs import ROUNDS, append_record
from graft_lightning.statistics import interval
from graft_lightning.types import take

log = logging.getLogger("graft_lightning.callbacks.collect")  # whose messages these are

SAMPLES = 64
"""Accepted samples of a round on which it is measured, at most: conditions alike, members by weight."""


class RoundKL:
    """Measures one round after another, each between the model that drew it and the model when the next is due.

    Args:
        batch_size: samples that are looked at at a time.
    """

    def __init__(self, batch_size: int = SAMPLES) -> None:
        self._batch_size = batch_size
        self._before: list[float] | None = None
        self._known: tuple[Any, list[str], Selection, int] | None = None

    def state(self) -> dict[str, Any]:
        """What a run that goes on from a checkpoint has to know."""
        return {"bounds": self._before}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes up what `state` said."""
        self._before = state.get("bounds")  # older checkpoints hold those of other samples, under another name

    def begin(self, module: PGraft, opened: Round, selection: Selection, drew: Denoiser | None = None) -> None:
        """Takes a round up. Collective where processes share the model's weights in parts.

        Args:
            module: what is trained.
            opened: the round.
            selection: what was accepted of it.
            drew: the model that drew it; none where a resumed run goes on inside the round.
        """
        # without levels to sum over every rise would be 0
        if not measurable(module.reference.process) or not self._levels(module):
            return
        chosen, _ = selection.spread(min(SAMPLES, len(selection)))
        data = opened.read(chosen, ["condition", "x_0"])
        texts = [opened.conditions[i] for i in data["condition"].tolist()]
        self._known = data["x_0"], texts, selection, opened.index
        if drew is not None:
            self._before = self._bounds(module, drew).tolist()

    def end(self, trainer: L.Trainer, module: PGraft, folder: Path) -> None:
        """Measures the round that was begun, logs it and records it; nothing where none was. Collective."""
        if self._known is None or self._before is None:
            return
        _, texts, selection, index = self._known
        rises = (self._bounds(module, module.sampling_denoiser()) - torch.tensor(self._before)).tolist()
        self._known = self._before = None
        found, asked = interval(rises), selection.implied.kl
        if not trainer.is_global_zero:
            return
        log.info(
            "round %d: KL %.2f nats asked for by the rule, %.2f [%.2f, %.2f] taken up by training (rise of the bound "
            "on %d accepted samples)",
            *(index, asked, found["mean"], found["low"], found["high"], len(texts)),
        )
        figures = {"kl_asked": asked, "kl_taken_up": found["mean"], "low": found["low"], "high": found["high"]}
        spent = {name: value for name, value in figures.items() if math.isfinite(value)}  # JSON has no NaN
        where = {"stage": "fit", "method": module.method, "step": trainer.global_step, "round": index}
        run = {} if module.run is None else {"run": module.run}
        append_record(folder, ROUNDS, {**where, "spent": {**spent, "samples": len(texts)}, **run})
        log_curves(trainer, {"collect/kl_taken_up": found["mean"], "collect/kl_asked": asked}, trainer.global_step)

    def _bounds(self, module: PGraft, denoiser: Denoiser) -> Tensor:
        assert self._known is not None
        x_0, texts, _, index = self._known
        reference, levels = module.reference, self._levels(module)
        seeds = place_seeds("kl", hashed_seed("kl", index), range(len(texts)))
        training, together = module.training, self._batch_size
        module.eval()
        with module.in_precision():
            parts = [
                bound(
                    denoiser,
                    reference.process,
                    take(_plain(x_0), slice(first, first + together)),
                    reference.encode(texts[first : first + together], module.device),
                    seeds[first : first + together],
                    levels,
                    module.device,
                )
                for first in range(0, len(texts), together)
            ]
        module.train(training)
        return torch.cat(parts)

    @staticmethod
    def _levels(module: PGraft) -> list[tuple[float, float]]:
        reference, (_, low, high) = module.reference, module.loss_range()
        return kl_levels(reference.process, reference.sampler, low or 0.0, high)


def _plain(x_0: Any) -> Any:
    """A state by field as a dictionary, which a stored one is not."""
    return x_0 if isinstance(x_0, Tensor) else {name: x_0[name] for name in x_0.keys()}  # noqa: SIM118
