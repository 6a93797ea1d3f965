"""Advantage-weighted matching: the denoising loss with signed weights, held by the reference (arXiv 2509.25050)."""

from typing import Any, Literal

import torch
from torch import Tensor

from graft_lightning.processes.weightings import OwnOutput
from graft_lightning.ranges import Positive
from graft_lightning.rejection.objectives.advantages import LIMIT, advantages
from graft_lightning.rejection.objectives.base import Answers, PoolObjective
from graft_lightning.rejection.selection import Selection
from graft_lightning.types import Groups

TINY = 1e-10
"""Keeps the gradient of a fourth root finite at 0."""


class AWM(PoolObjective):
    """A l + anchor |f - f_ref|^2: l grows with the denoising loss d, A is the advantage, within +-1.

    ``matching`` "root": l = 4 t [(d + 1e-10)^(1/4) - (1e-10)^(1/4)], t the noise's share sigma / (alpha + sigma), which
    is a flow's own time; "squared": l = d. The first step's gradient is that of A l, on the policy that sampled.

    The anchor keeps negative weights from growing without bound. With "squared", an exact reference and anchor 1 it is
    the loss of weights 1 + A: selected draws less unselected ones (`UnselectedBaseline`) have this gradient too. The
    authors anchor to a slow average of the model (1) and to the reference (0.001); a pool is drawn by one model, which
    is both, so that here they are one.

    Args:
        matching: "root" or "squared".
        anchor: how strongly the model is held.
        objective: arguments of `Objective`; the weighting is by default that of the network's own output.
    """

    method = "awm"
    moves_continuously = True

    def __init__(
        self, matching: Literal["root", "squared"] = "root", anchor: Positive = 1.001, **objective: Any
    ) -> None:
        super().__init__(**objective)
        self.weighting = self.weighting or OwnOutput()
        self.matching, self.anchor = matching, anchor

    def weights(self, selection: Selection) -> Tensor:
        return advantages(selection.rewards) / LIMIT

    def losses(self, answers: Answers, groups: Groups) -> Tensor:
        error = self.of(answers.raw, answers.seen, answers.trained, answers.process)
        if self.matching == "root":
            alpha, sigma = answers.process.schedule.coefficients(answers.seen.t)
            time = (sigma / (alpha + sigma)).to(error)
            error = 4 * time * ((error + TINY) ** 0.25 - TINY**0.25)
        held = self.anchor * self.apart(answers)
        return torch.where(groups.rewards.isfinite(), groups.weight * error + held, 0.0)
