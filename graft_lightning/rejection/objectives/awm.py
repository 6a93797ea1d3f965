"""Advantage-weighted matching: the denoising loss with signed weights, held by the reference (arXiv 2509.25050)."""

from typing import Any, Literal

import torch
from torch import Tensor

from graft_lightning.processes.weightings import OwnOutput
from graft_lightning.ranges import NonNegative
from graft_lightning.rejection.objectives.advantages import LIMIT, advantages
from graft_lightning.rejection.objectives.base import Answers, PoolObjective
from graft_lightning.rejection.selection import Selection
from graft_lightning.types import Groups

TINY = 1e-10
"""Keeps the gradient of a fourth root finite at 0."""


class AWM(PoolObjective):
    """A l + anchor |f - f_old|^2 + reference_anchor |f - f_ref|^2, means over elements; A the advantage, within +-1.

    l grows with the denoising loss d. ``matching`` "root": l = 4 t [(d + 1e-10)^(1/4) - (1e-10)^(1/4)], t the noise's
    share sigma / (alpha + sigma), which is a flow's own time; "squared": l = d.

    The anchors keep negative weights from growing without bound. With "squared" and anchor 1 alone, selected draws less
    unselected ones (`UnselectedBaseline`) of weights 1 + A have this gradient; where the reference is exact its
    minimiser is that of these weights. f_old is the model that drew the pool, in the first round the reference; the
    authors take a slow average of the model for it.

    Args:
        matching: "root" or "squared".
        anchor: to the model that drew the pool.
        reference_anchor: to the reference.
        objective: arguments of `Objective`; the weighting is by default that of the network's own output.
    """

    method = "awm"
    asks_drawing = True
    moves_continuously = True

    def __init__(
        self,
        matching: Literal["root", "squared"] = "root",
        anchor: NonNegative = 1.0,
        reference_anchor: NonNegative = 1e-3,
        **objective: Any,
    ) -> None:
        super().__init__(**objective)
        self.weighting = self.weighting or OwnOutput()
        if anchor + reference_anchor == 0:
            raise ValueError("anchor=0 with reference_anchor=0: negative weights would drive the model off; keep one")
        self.matching, self.anchor, self.reference_anchor = matching, anchor, reference_anchor

    def weights(self, selection: Selection) -> Tensor:
        return advantages(selection.rewards) / LIMIT

    def aim(self, selection: Selection) -> Tensor:
        return 1 + self.weights(selection)

    def losses(self, answers: Answers, groups: Groups) -> Tensor:
        error = self.of(answers.raw, answers.seen, answers.trained, answers.process)
        if self.matching == "root":
            alpha, sigma = answers.process.schedule.coefficients(answers.seen.t)
            time = (sigma / (alpha + sigma)).to(error)
            error = 4 * time * ((error + TINY) ** 0.25 - TINY**0.25)
        held = self.anchor * self.apart(answers, answers.of_drawing)
        held = held + self.reference_anchor * self.apart(answers, answers.of_reference)
        return torch.where(groups.rewards.isfinite(), groups.weight * error + held, 0.0)
