"""What a module needs beside an objective to follow a policy gradient: the trajectories in hand."""

import torch

from graft_lightning.modules.stages import visited
from graft_lightning.processes.denoiser import Denoiser
from graft_lightning.processes.objectives import Loss
from graft_lightning.rejection.objectives import PolicyObjective
from graft_lightning.rejection.reference import Reference, Views, evaluating
from graft_lightning.rejection.walk import Walk, walked
from graft_lightning.types import Chains


class PolicyGradient:
    """Walks a block of trajectories when the first of its steps is asked for, and keeps it until the last one.

    A resumed run walks the block again that it was cut in.
    """

    def __init__(self) -> None:
        self._walk: Walk | None = None

    def loss(
        self,
        objective: PolicyObjective,
        views: Views,
        reference: Reference,
        chains: Chains,
        drew: Denoiser | None = None,
    ) -> Loss:
        """The loss of one step of a batch of trajectories.

        Args:
            objective: the policy gradient.
            views: the model that is trained, and the frozen one.
            reference: of both.
            chains: which trajectories, and which step.
            drew: the model that drew them; None of the frozen one.
        """
        if self._walk is None or not torch.equal(self._walk.seeds, chains.seeds):
            drawing = views.frozen if drew is None else drew
            self._walk = walked(reference, drawing, chains.conditions, chains.seeds, chains.x, drew is None)
        sampler, process = reference.sampler, reference.process
        with evaluating(views.network):  # dropout would make the ratio of a model to itself another number than 1
            return objective.step_loss(views.trainable, views.frozen, sampler, process, self._walk, chains)


def asked_beside(objective: PolicyObjective, reference: Reference, steps: int) -> int:
    """How often a frozen model answers beside each training example; the steps of a walk share what it costs.

    Args:
        objective: the policy gradient.
        reference: gives the sampler.
        steps: how many of its steps can be trained.
    """
    walk = sum(calls for _, calls in visited(reference))
    return -(-walk // objective.batches_of(steps)) + int(objective.asks_reference)
