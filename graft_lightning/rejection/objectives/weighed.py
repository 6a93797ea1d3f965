"""Objectives that weigh the draws of a pool: what there is to know of them before any model answers."""

from abc import ABC

from torch import Tensor

from graft_lightning.processes.objectives import Objective
from graft_lightning.processes.process import Process
from graft_lightning.rejection.selection import Selection
from graft_lightning.types import SettingsError


class WeighedObjective(Objective, ABC):
    """An objective over all draws of a round, rejected ones among them.

    Attributes:
        method: what reports call it; a hand-off is added to it.
        asks_reference: whether the reference answers too, one evaluation without gradient an example.
        asks_drawing: whether the model that drew the round answers too, where that is not the reference.
        group: draws of a group, where the method fixes it.
        weighted_only: whether draws of weight 0 are left out of the groups.
        moves_continuously: whether the method is about fields that move in small steps, and not about classes.
        within_conditions: whether a draw's weight follows from the others of its condition alone, so that a condition
            with equal rewards has nothing to teach.
    """

    method = "graft"
    asks_reference = True
    asks_drawing = False
    group: int | None = None
    weighted_only = False
    moves_continuously = False
    within_conditions = True

    def aim(self, selection: Selection) -> Tensor | None:
        """The weights, of mean 1, of the distribution that one round leads to, ``(conditions, draws)``.

        What a round can reach, and the KL that it may spend, follow from them. None where the method names no such
        distribution; to first order, and perhaps negative, where weights are signed.

        Args:
            selection: as in `weights`.
        """
        return selection.relative if self.by_rule else None

    @property
    def by_rule(self) -> bool:
        """Whether what the acceptance rule says of a draw decides its weight."""
        return type(self).weights is WeighedObjective.weights

    def check(self, process: Process) -> None:
        """Refuses fields that the method is not defined for, and weights of fields that are not there.

        Raises:
            ValueError: naming them.
        """
        super().check(process)
        classes = [name for name, path in process.paths.items() if path.discrete]
        if self.moves_continuously and classes:
            raise SettingsError(
                f"model.objective={type(self).__name__} is about differences of predicted states, and of classes there "
                f"is none; the reference has classes in {', '.join(classes)}: use RWR, DGPO or DPO, which take the "
                "denoising loss of any field, or GRAFT's own objective"
            )

    def weights(self, selection: Selection) -> Tensor:
        """What each draw counts, ``(conditions, draws)``: A_i over its mean by default.

        Conditions whose weights are all 0 are left out.

        Args:
            selection: all rewards of a round, and what the rule accepts of them.
        """
        return selection.relative

    def weights_after(self, selection: Selection, earlier: Tensor) -> Tensor:
        """`weights`, where what earlier rounds were worth may have a say; it has none by default.

        Args:
            selection: of the round.
            earlier: rewards of the rounds before it, the oldest first, ``(conditions, any number)``.
        """
        return self.weights(selection)
