"""Selected draws less unselected ones: at the reference, what fine-tuning does to any samples cancels."""

import torch
from torch import Tensor

from graft_lightning.rejection.objectives.base import Answers, PoolObjective
from graft_lightning.types import Groups


class UnselectedBaseline(PoolObjective):
    """E_selected l(f) - E_all <f, dl/df at the reference>, l the denoising loss and f the network's answer.

    For a Gaussian field this is E_sel |kappa eps - e|^2 + 2 E_all <kappa eps, e - kappa eps_ref>, in the weighting and
    the output of the loss. The second term is linear in the answer: convex, unlike a difference of two losses. At the
    reference the gradient is that of the selected draws less that of all draws, sum_i (A_i / mean A - 1) dl_i: of draws
    that are selected without regard to anything its mean is 0, whatever the reference's errors are. It does not cancel
    noise: every draw has a gradient, those that a plain run would not look at too, and its variance may rise.

    Its minimiser is that of GRAFT where the reference is exact; else the reference's own error at x_t is kept, in the
    ratio of all draws to selected ones there.
    """

    def losses(self, answers: Answers, groups: Groups) -> Tensor:
        selected = self.of(answers.raw, answers.seen, answers.trained, answers.process)
        with torch.enable_grad():
            start = {name: field.detach().requires_grad_() for name, field in answers.of_reference.items()}
            of_all = self.of(start, answers.seen, answers.trained, answers.process).sum()
            slopes = torch.autograd.grad(of_all, list(start.values()))
        linear = sum((answers.raw[name] * slope).flatten(1).sum(1) for name, slope in zip(start, slopes, strict=True))
        return groups.weight * selected - linear
