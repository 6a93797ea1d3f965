"""Policy gradients over the sampler's steps: better ends make every step on the way to them likelier."""

from collections.abc import Mapping

import torch
from torch import Tensor

from graft_lightning.processes.denoiser import Denoiser
from graft_lightning.processes.objectives import Loss
from graft_lightning.processes.process import Process
from graft_lightning.processes.samplers import Sampler, without_density
from graft_lightning.processes.transitions import Transition
from graft_lightning.ranges import Fraction, NonNegative, Unlimited
from graft_lightning.rejection.objectives.weighed import WeighedObjective
from graft_lightning.rejection.walk import Walk, laws_of
from graft_lightning.types import Chains, SettingsError


class PolicyObjective(WeighedObjective):
    """max(-A r, -A clip(r, 1 - clip, 1 + clip)) + kl KL(model || reference) of one step; A is the draw's weight.

    r is the ratio of the densities that the trained model and the model that drew the step give it, averaged over
    dimensions: the exponential of a mean of logarithms, without which a clip of 1e-4 would mean nothing. A mixed state
    has a ratio, a clip and a loss for each block, which are summed: at the drawing model the gradient is that of the
    logarithm of the product of all blocks, each over its number of elements. The KL is exact, and averaged likewise.

    Nothing is kept of a trajectory but its seed: it is walked again by the model that drew it, one evaluation without
    gradient a step. Kept states would need the same evaluation for the old density, and a disk for all of them.

    Steps that draw nothing (the last one of ancestral sampling) have no density and are left out.

    Args:
        clip: of the ratio of each block; inf does not clip.
        kl: weight of the divergence from the reference, in nats a dimension.
        share: of the steps of a trajectory, those that are trained, chosen anew for every batch of them.
    """

    asks_drawing = True

    def __init__(
        self, clip: Unlimited | dict[str, Unlimited] = 1e-4, kl: NonNegative = 0.0, share: Fraction = 1.0
    ) -> None:
        super().__init__()
        if share == 0:
            raise ValueError("share=0 trains no step; it must lie in (0, 1]")
        self.clip, self.kl, self.share = clip, kl, share
        self.asks_reference = kl > 0

    def check(self, process: Process) -> None:
        """Refuses clips of fields that are not there.

        Raises:
            ValueError: naming them, and those that are.
        """
        super().check(process)
        if isinstance(self.clip, Mapping) and self.clip.keys() != process.paths.keys():
            raise ValueError(f"clip names {sorted(self.clip)}; the fields are {sorted(process.paths)}")

    def batches_of(self, steps: int) -> int:
        """How many of so many steps of a trajectory are trained on."""
        return max(1, round(self.share * steps))

    def trained_steps(
        self, sampler: Sampler, process: Process, low: float = 0.0, high: float | None = None
    ) -> list[int]:
        """The state indices n of the steps to n - 1 that can be trained: from levels in (low, high], with a density.

        Raises:
            SettingsError: if there is none.
        """
        levels = sampler.levels(process)
        found = sampler.drawn_steps(process)
        if not found:
            raise SettingsError(f"model.objective={type(self).__name__}: {without_density(sampler)}")
        inside = [n for n in found if low < levels[n] <= (process.t_max if high is None else high)]
        if not inside:
            raise SettingsError(
                f"model.objective={type(self).__name__} trains steps from levels above {low:g}, none of which draws; "
                f"those that do start at {', '.join(f'{levels[n]:g}' for n in found)}"
            )
        return inside

    def step_loss(
        self, trained: Denoiser, reference: Denoiser, sampler: Sampler, process: Process, walk: Walk, chains: Chains
    ) -> Loss:
        """The loss of one step of every trajectory of a batch.

        Args:
            trained: the model that is trained.
            reference: the frozen one.
            sampler: of both.
            process: of both.
            walk: the trajectories, walked again by the model that drew them.
            chains: weights, and which step.
        """
        t = walk.levels[chains.step]
        ours = laws_of(trained, sampler, process, walk, chains.step)
        with torch.no_grad():
            theirs = laws_of(walk.drew, sampler, process, walk, chains.step)
        weight = chains.weight.double()
        total = torch.zeros_like(weight)
        for name, law in ours.items():
            if law.random:
                ratio = (law.log_ratio(theirs[name], walk.after(chains.step)[name]) / law.freedom.clamp_min(1)).exp()
                bound = self.clip[name] if isinstance(self.clip, Mapping) else self.clip
                total = total + torch.maximum(-weight * ratio, -weight * ratio.clamp(1 - bound, 1 + bound))
        if self.kl > 0:
            with torch.no_grad():
                start = theirs if walk.by_reference else laws_of(reference, sampler, process, walk, chains.step)
            total = total + self.kl * divergence(ours, start)
        known = chains.rewards.isfinite()
        return Loss(torch.where(known, total, 0.0).float(), torch.full_like(weight, t))


def divergence(ours: Mapping[str, Transition], others: Mapping[str, Transition]) -> Tensor:
    """The sum over blocks of the divergence of their steps, in nats a dimension, ``(batch,)``."""
    drawn = [law.divergence(others[name]) / law.freedom.clamp_min(1) for name, law in ours.items() if law.random]
    return torch.stack(drawn).sum(0)
