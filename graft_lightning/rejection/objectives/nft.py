"""DiffusionNFT: towards the better draws, and away from the worse ones, in the data that is predicted (2509.16117)."""

from typing import Any, Literal

import torch
from torch import Tensor

from graft_lightning.processes.outputs import Output
from graft_lightning.processes.paths import Noised, Path
from graft_lightning.processes.paths.base import mean_over_real
from graft_lightning.processes.weightings import OwnOutput
from graft_lightning.ranges import NonNegative, Positive
from graft_lightning.rejection.objectives.advantages import LIMIT, advantages
from graft_lightning.rejection.objectives.base import Answers, PoolObjective
from graft_lightning.rejection.selection import Selection
from graft_lightning.types import Groups

LEAST = 1e-5
"""Of the mean absolute error that a loss is divided by."""


class NFT(PoolObjective):
    """(1 / mixing) [q |x+ - x_0|^2 / w+ + (1 - q) |x- - x_0|^2 / w-] + anchor |f - f_ref|^2, means over elements.

    x+ = mixing x + (1 - mixing) x_old and x- = (1 + mixing) x_old - mixing x, x the data that the trained model
    predicts and x_old what the model predicts that drew the pool; w is the mean absolute error of each, without
    gradient. Above a hand-off x_0 is the target of (6b), and errors are multiplied by its kappa.

    Without the adaptive weight the minimiser is x_old + E[(2 q - 1)(x_0 - x_old) | x_t] / mixing: to first order the
    tilt 1 + (2 q - 1) / mixing. With mixing 1 that is a small step, at most from 0 to 2; rounds add up.

    With mixing 1, without the negative term and the anchor this is soft acceptance with A_i = q_i, not divided by its
    mean, and an adaptive weight; with q "accepted" by a rule that accepts or rejects it is GRAFT with that weight.

    Args:
        mixing: beta; 1 for most rewards, 0.1 where several are summed.
        optimality: q of a draw: 1/2 + A / 10 of its "advantage" A, or how far the rule has "accepted" it.
        negative: whether the second term is there.
        anchor: to the reference, in the network's own output; the authors' 1e-4, beside five times the first terms.
        objective: arguments of `Objective`; its weighting has a say in the anchor alone.
    """

    method = "nft"
    asks_drawing = True
    moves_continuously = True

    def __init__(
        self,
        mixing: Positive = 1.0,
        optimality: Literal["advantage", "accepted"] = "advantage",
        negative: bool = True,
        anchor: NonNegative = 2e-5,
        **objective: Any,
    ) -> None:
        super().__init__(**objective)
        self.weighting = self.weighting or OwnOutput()
        self.mixing, self.optimality, self.negative, self.anchor = mixing, optimality, negative, anchor

    @property
    def by_rule(self) -> bool:
        return self.optimality == "accepted"

    def weights(self, selection: Selection) -> Tensor:
        """Q, in [0, 1]; 0 of draws that could not be judged, which `losses` leaves out."""
        if self.optimality == "accepted":
            return selection.share
        q = (0.5 + advantages(selection.rewards) / (2 * LIMIT)).clamp(0, 1)
        return q * selection.rewards.isfinite()

    def aim(self, selection: Selection) -> Tensor:
        q = self.weights(selection)
        if not self.negative:
            return q / q.mean(1, keepdim=True).clamp_min(1e-12)
        finite = selection.rewards.isfinite()
        return 1 + torch.where(finite, (2 * q - 1) / self.mixing, 0.0)

    def losses(self, answers: Answers, groups: Groups) -> Tensor:
        q = groups.weight

        def value(name: str, path: Path[Any], field: Noised, output: Output) -> Tensor:
            ours, target = path.clean(answers.raw[name], field, output)
            with torch.no_grad():
                drew, _ = path.clean(answers.of_drawing[name], field, output)
            total = q * adaptive(self.mixing * ours + (1 - self.mixing) * drew - target, field.mask)
            if self.negative:
                away = (1 + self.mixing) * drew - self.mixing * ours
                total = total + (1 - q) * adaptive(away - target, field.mask)
            return total / self.mixing

        total = self.over_fields(answers, value)
        if self.anchor:
            total = total + self.anchor * self.apart(answers, answers.of_reference)
        return torch.where(groups.rewards.isfinite(), total, 0.0)


def adaptive(error: Tensor, mask: Tensor | None) -> Tensor:
    """The mean square of an error over its mean absolute value, the latter without gradient; ``(batch,)``.

    Args:
        error: ``(batch, *shape)``.
        mask: which elements are real, ``(batch, n)``.
    """
    with torch.no_grad():
        size = mean_over_real(error.double().abs(), mask).clamp_min(LEAST)
    return mean_over_real(error.square(), mask) / size.to(error)
