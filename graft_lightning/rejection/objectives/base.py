"""Objectives over a pool: losses that look at whole groups of draws, their rewards, and the reference's answers."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from graft_lightning.processes.denoiser import Denoiser
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.objectives import Loss, Noisy, noisy
from graft_lightning.processes.outputs import Output
from graft_lightning.processes.paths import LossSettings, Noised, Path
from graft_lightning.processes.process import Process
from graft_lightning.rejection.objectives.weighed import WeighedObjective
from graft_lightning.types import Groups, State, as_state, device_of


@dataclass(frozen=True)
class Answers:
    """What the models say of a batch of groups.

    Attributes:
        seen: the draws at their levels, with the random numbers that took them there.
        condition: encoded conditions.
        process: the noise process.
        trained: the model that is trained, in its output type.
        raw: its answer, by field.
        reference: the frozen reference, of the same output type.
        of_reference: its answer, by field, without gradient; empty where the objective does not ask it.
        of_drawing: the answer of the model that drew the groups: the reference, and in later rounds what it had become.
    """

    seen: Noisy
    condition: Any
    process: Process
    trained: Denoiser
    raw: State
    reference: Denoiser
    of_reference: State
    of_drawing: State


class PoolObjective(WeighedObjective):
    """A loss over groups of a pool's draws, rejected ones among them.

    A method is a file with a class: `weights`, once a round, of all rewards; `losses`, of what the models answer. With
    `Objective.of` the denoising loss of any answer (Eq. 6, 6b, 7), on every path and for every output, is at hand.

    Attributes:
        same_noise: whether all draws of a group get the same level and noise.
    """

    same_noise = False

    def errors(self, answers: Answers) -> tuple[Tensor, Tensor]:
        """The denoising losses of the trained model and, without gradient, of the reference, ``(batch,)`` each."""
        ours = self.of(answers.raw, answers.seen, answers.trained, answers.process)
        with torch.no_grad():
            theirs = self.of(answers.of_reference, answers.seen, answers.reference, answers.process)
        return ours, theirs

    def over_fields(self, answers: Answers, value: Callable[[str, Path[Any], Noised, Output], Tensor]) -> Tensor:
        """The sum of a value of every field, ``(batch,)``, with ``field_weights``; 0 of a field that has not moved.

        Args:
            answers: of the models.
            value: of a field's name, path, noising and output type, ``(batch,)``.
        """
        total = torch.zeros(len(answers.seen.levels), device=answers.seen.levels.device)
        for name, path in answers.process.paths.items():
            field = answers.seen.fields[name]
            found = value(name, path, field, answers.trained.output_of(name))
            moved = field.t > answers.seen.level
            total = total + self.field_weights.get(name, 1.0) * torch.where(moved, found, 0.0)
        return total

    def apart(self, answers: Answers, other: State) -> Tensor:
        """How far the trained model's answer is from another one, squared, on the scale of the denoising loss."""
        settings = LossSettings(self.weighting)
        return self.over_fields(
            answers,
            lambda name, path, field, output: path.apart(answers.raw[name], other[name], field, output, settings),
        )

    @abstractmethod
    def losses(self, answers: Answers, groups: Groups) -> Tensor:
        """The losses ``(batch,)``, weights in them; their mean is minimised."""

    def group_loss(
        self,
        trained: Denoiser,
        reference: Denoiser,
        process: Process,
        groups: Groups,
        condition: Any,
        level: float = 0.0,
        low: float | None = None,
        high: float | None = None,
        drawing: Denoiser | None = None,
    ) -> Loss:
        """The loss of a batch of groups.

        Args:
            trained: the model that is trained.
            reference: the frozen one.
            process: of both.
            groups: draws at ``level``.
            condition: encoded conditions.
            level: of the draws, as in `Objective.loss`.
            low: as there.
            high: as there.
            drawing: the model that drew the groups, where that is not the reference.
        """
        self.check(process)
        noise = Noise(groups.shared_seeds if self.same_noise else groups.seeds, device_of(groups.x))
        seen = noisy(process, groups.x, noise, level, low, high)
        raw = as_state(trained(seen.x_t, seen.levels, condition))
        of_reference: State = {}
        if self.asks_reference:
            with torch.no_grad():
                of_reference = as_state(reference(seen.x_t, seen.levels, condition))
        of_drawing = of_reference
        if self.asks_drawing and drawing is not None:
            with torch.no_grad():
                of_drawing = as_state(drawing(seen.x_t, seen.levels, condition))
        answers = Answers(seen, condition, process, trained, raw, reference, of_reference, of_drawing)
        return Loss(self.losses(answers, groups), seen.t)
