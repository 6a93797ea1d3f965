"""GRAFT and P-GRAFT: fine-tuning on accepted trajectories (math: Eq. 6, 6b, 7)."""

import logging
from typing import Any, Literal

import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from graft_lightning.modules.adapters import check_adapters, keep_adapters
from graft_lightning.modules.denoising import DenoisingModule
from graft_lightning.modules.drawing_model import DrawingModel, weights_now
from graft_lightning.modules.policy_gradient import PolicyGradient, asked_beside
from graft_lightning.modules.stages import Stage, evaluations_of, halves, visited
from graft_lightning.modules.trained_weights import write, write_beside
from graft_lightning.processes.denoiser import Denoiser
from graft_lightning.processes.objectives import Loss
from graft_lightning.processes.stitched import Stitched
from graft_lightning.rejection.levels import state_index
from graft_lightning.rejection.objectives import PolicyObjective, PoolObjective, UnselectedBaseline, WeighedObjective
from graft_lightning.rejection.reference import LoRA, Views, open_views
from graft_lightning.types import Batch, Chains, Draws, Groups, SettingsError, StateLike

log = logging.getLogger(__name__)

KEPT_BY_X_0 = {0.25: 0.96, 0.5: 0.76, 0.75: 0.34}
"""Share of the tilt that `states: x_0` keeps under an ODE, by t of a linear path; exact, for one mixture of two."""


class PGraft(DenoisingModule):
    """P-GRAFT: trains the levels above the hand-off s on accepted x_s; the reference finishes what it starts.

    How much of the tilt A that was accepted by is left depends on the reference's sampler. Ancestral sampling, and
    whatever else draws on the way, finishes x_s with fresh noise: what is sampled is p(x_0) E[E[A | X_s] | X_0 = x_0],
    the decision smoothed twice, at any number of steps. With a deterministic sampler (`DDIM` at eta 0, `Euler`, `Heun`)
    x_0 is a function of x_s, and the whole tilt is kept: p(x_0) E[A | x_0]. Of a state with classes all samplers draw.
    ``diagnose`` measures what is left.

    Args:
        handoff: N_I / N, the share of the sampler's steps, counted from the data, that the reference keeps; 0 is GRAFT.
        states: "x_s" trains on the stored intermediate states; "x_0" keeps decision and levels but noises the accepted
            x_0: the same distribution if the reference's trajectories obeyed Eq. 1 exactly, with less variance. Those
            of a deterministic sampler do not: noised afresh, x_0 forgets part of the tilt (`KEPT_BY_X_0`).
        reverse: RP-GRAFT: the fine-tuned model has the levels at and below s, trained on x_0, the reference those
            above.
        guidance: "composed" trains and samples the guided combination, "absorbed" the conditional output alone.
        lora: low-rank adapters in place of full fine-tuning.
        baseline: "unselected" trains the selected draws less all draws (`UnselectedBaseline`): what fine-tuning does to
            any samples cancels in the mean at the reference, and its noise does not. An objective over whole groups
            (`PoolObjective`), or a policy gradient (`PolicyObjective`), is given as ``objective``.
        arguments: of `DenoisingModule`.

    Raises:
        SettingsError: if a baseline is set where the objective looks at groups itself, or where guidance is absorbed:
            unselected samples of the guided reference then teach something.
    """

    has_base = True
    collects = True

    def __init__(
        self,
        handoff: float = 0.25,
        states: Literal["x_s", "x_0"] = "x_s",
        reverse: bool = False,
        guidance: Literal["composed", "absorbed"] = "composed",
        lora: LoRA | None = None,
        baseline: Literal["none", "unselected"] = "none",
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.save_hyperparameters()
        self.baseline = baseline
        self.pool_objective = self._over_groups(guidance)
        self.handoff, self.states, self.reverse = handoff, states, reverse
        self.guidance, self.lora = guidance, lora
        self.state_index = state_index(self.reference, handoff)
        self.drew_with: dict[str, Tensor] = {}  # trained weights that drew the round in use; none in the first one
        self.steps_taken = PolicyGradient()
        self.strict_loading = lora is None  # a checkpoint of adapters lacks the frozen weights

    def _over_groups(self, guidance: str) -> WeighedObjective | None:
        """The objective that looks at whole groups, where there is one."""
        if isinstance(self.objective, WeighedObjective):
            if self.baseline != "none":
                raise SettingsError(
                    f"model.baseline={self.baseline}, but model.objective is {type(self.objective).__name__}, which "
                    "looks at whole groups itself; leave out the one or the other"
                )
            asks = self.objective.asks_reference or self.objective.asks_drawing
            if asks and guidance == "absorbed" and self.reference.guidance_scale != 1:
                raise SettingsError(
                    f"model.guidance=absorbed, but model.objective={type(self.objective).__name__} compares the "
                    "trained model with the guided reference, which only guidance=composed starts as"
                )
            return self.objective
        if self.baseline == "none":
            return None
        if guidance == "absorbed" and self.reference.guidance_scale != 1:
            raise SettingsError(
                "model.baseline=unselected with model.guidance=absorbed: samples of the guided reference have to be "
                "learned before anything is selected, and the baseline would cancel that; use guidance=composed"
            )
        plain = self.objective
        return UnselectedBaseline(plain.weighting, plain.field_weights, plain.categorical_target)

    @property
    def method(self) -> str:
        named = "graft" if self.pool_objective is None else self.pool_objective.method
        if self.baseline == "unselected":
            named += "-unselected"
        return f"{'rp' if self.reverse else 'p'}{named}@{self.handoff:g}" if self.state_index else named

    @property
    def handoff_level(self) -> float:
        """S as a level of the reference's process; 0 for GRAFT."""
        return self.reference.sampler.levels(self.reference.process)[self.state_index] if self.state_index else 0.0

    @property
    def training_state(self) -> int | Literal["x_0"]:
        """Index of the states that are trained on, or "x_0"."""
        if self.reverse or isinstance(self.pool_objective, PolicyObjective):  # which walks from noise to the data
            return "x_0"
        return "x_0" if self.states == "x_0" or self.state_index == 0 else self.state_index

    @property
    def forgets(self) -> bool:
        """Whether accepted x_0 are noised to states above s that the sampler, which is deterministic, never pairs."""
        sampler, process = self.reference.sampler, self.reference.process
        noised = self.states == "x_0" and self.state_index > 0 and not self.reverse
        return noised and not sampler.stochastic(process)

    def setup(self, stage: str) -> None:
        """Warns of settings that lose part of the tilt.

        Raises:
            SettingsError: if the objective is not defined for the reference's fields.
        """
        super().setup(stage)
        if stage == "fit" and self.pool_objective is not None:
            self.pool_objective.check(self.reference.process)
            self.policy_steps()
        if stage == "fit" and self.forgets:
            _warn(
                "model.states=x_0 with model.handoff=%g and the deterministic sampler %s: noising the accepted x_0 "
                "afresh keeps only part of the tilt (%s of it in a mixture of two with exact scores, for s at t = %s "
                "of a linear path); model.states=x_s keeps all of it",
                self.handoff,
                type(self.reference.sampler).__name__,
                " / ".join(f"{share:.2f}".lstrip("0") for share in KEPT_BY_X_0.values()),
                " / ".join(f"{t:g}".lstrip("0") for t in KEPT_BY_X_0),
            )

    def on_train_start(self) -> None:
        """Warns where the gradient of an update is that of some of a trajectory's steps alone."""
        super().on_train_start()
        if isinstance(self.pool_objective, PolicyObjective):
            batches, summed = (
                self.pool_objective.batches_of(len(self.policy_steps())),
                self.trainer.accumulate_grad_batches,
            )
            if summed % batches:
                _warn(
                    "trainer.accumulate_grad_batches=%d: each trajectory is trained on %d steps, one a batch, so that "
                    "an update follows the gradient of some of them alone; set it to %d, or a multiple, and "
                    "data.steps_per_epoch to one too",
                    summed,
                    batches,
                    batches,
                )

    def open_views(self) -> Views:
        views = open_views(self.reference, self.reference.build(), self.lora, self.guidance)
        if self.objective.categorical_target == "c_s" and self.training_state != "x_0":
            views.trainable.origin = self.handoff_level
        return views

    def meta_views(self) -> Views:
        return open_views(self.reference, self.reference.meta_network(), self.lora, self.guidance)

    def stages(self) -> list[Stage]:
        reference, s, tuned = self.reference, self.handoff_level, 0
        for t, evaluations in visited(reference, (s,) if s > 0 else ()):
            by_tuned = (t > s) != self.reverse
            tuned += evaluations * (1 if by_tuned and self.guidance == "absorbed" else halves(reference))
        composed = self.guidance == "composed" and halves(reference) == 2  # its unconditional half stays frozen
        beside = int(composed) + halves(reference) * self._asked()
        frozen = lambda: self.opened().frozen  # noqa: E731
        return [Stage("network", reference, tuned, evaluations_of(reference), frozen, True, beside)]

    def _asked(self) -> int:
        """How often a frozen model answers beside each training example."""
        if isinstance(self.pool_objective, PolicyObjective):
            return asked_beside(self.pool_objective, self.reference, len(self.policy_steps()))
        return int(self.pool_objective is not None and self.pool_objective.asks_reference)

    def policy_steps(self) -> list[int]:
        """State indices of the sampler's steps that a policy gradient is taken of; none where none is taken.

        Raises:
            SettingsError: if the sampler draws nothing.
        """
        if not isinstance(self.pool_objective, PolicyObjective):
            return []
        s, reference = self.handoff_level, self.reference
        between = (0.0, s) if self.reverse else (s, None)
        return self.pool_objective.trained_steps(reference.sampler, reference.process, *between)

    def loss_range(self) -> tuple[float, float | None, float | None]:
        s = self.handoff_level
        if self.reverse:
            return 0.0, 0.0, s
        return (0.0 if self.training_state == "x_0" else s), s, None

    def loss_of(self, batch: Batch) -> tuple[Tensor, Loss]:
        if self.pool_objective is None:
            return super().loss_of(batch)
        assert isinstance(batch, Groups)
        views = self.opened()
        drawing = DrawingModel(views.trainable, views.network, self.drew_with) if self.drew_with else None
        if isinstance(self.pool_objective, PolicyObjective):
            assert isinstance(batch, Chains)
            drew = None if drawing is None else self._stitched(drawing)
            loss = self.steps_taken.loss(self.pool_objective, views, self.reference, batch, drew)
            return loss.value.mean(), loss
        assert isinstance(self.pool_objective, PoolObjective)
        loss = self.pool_objective.group_loss(
            views.trainable,
            views.frozen,
            self.reference.process,
            batch,
            self.reference.encode(batch.conditions, self.device),
            *self.loss_range(),
            drawing,
        )
        return loss.value.mean(), loss

    def drawn_again(self) -> None:
        """Keeps the weights that a later round was drawn with, where the objective compares with them."""
        if self.pool_objective is not None and self.pool_objective.asks_drawing:
            self.drew_with = weights_now(self.opened().network)

    def sampling_denoiser(self) -> Denoiser:
        return self._stitched(self.opened().trainable)

    def _stitched(self, tuned: Denoiser) -> Denoiser:
        frozen = self.opened().frozen
        above, below = (frozen, tuned) if self.reverse else (tuned, frozen)
        return Stitched(above, below, self.handoff_level)

    def sample_base(self, draws: Draws) -> StateLike:
        return self.sample(draws, self.opened().frozen)

    @torch.no_grad()
    def restore_base(self) -> None:
        """Makes the trained model the reference again, bit for bit. Collective where weights are sharded."""
        original = dict(self.opened().original.named_parameters())
        for name, parameter in self.network.named_parameters():
            if not parameter.requires_grad:
                continue
            if self.lora is None:
                write(parameter.data, original[name])
            elif "lora_B" in name:
                parameter.zero_()
        write_beside(self.network, dict(self.opened().original.named_buffers()))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Stores the level beside the fraction, which means nothing without its grid; of adapters, only them."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["handoff_level"] = self.handoff_level
        if self.drew_with:
            checkpoint["drew_with"] = self.drew_with
        if self.lora is not None:
            keep_adapters(checkpoint, self.lora, self.network)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses weights that were trained for another hand-off, or, for adapters, that lack some.

        Raises:
            SettingsError: naming both levels, or what is missing.
        """
        super().on_load_checkpoint(checkpoint)
        self.drew_with = checkpoint.get("drew_with", {})
        stored = checkpoint.get("handoff_level", self.handoff_level)
        if stored != self.handoff_level:
            raise SettingsError(
                f"the checkpoint was trained for the hand-off level t={stored:g}, "
                f"but handoff={self.handoff} on this sampler's grid is t={self.handoff_level:g}"
            )
        if self.lora is not None:
            check_adapters(checkpoint, self.lora, self.network)


@rank_zero_only
def _warn(message: str, *values: Any) -> None:
    log.warning(message, *values)


class Graft(PGraft):
    """GRAFT: P-GRAFT at N_I = 0, which trains every level on accepted x_0.

    Args:
        guidance: "composed" or "absorbed", as in `PGraft`.
        lora: low-rank adapters in place of full fine-tuning.
        baseline: "none" or "unselected", as in `PGraft`.
        arguments: of `DenoisingModule`.
    """

    def __init__(
        self,
        guidance: Literal["composed", "absorbed"] = "composed",
        lora: LoRA | None = None,
        baseline: Literal["none", "unselected"] = "none",
        **arguments: Any,
    ) -> None:
        super().__init__(handoff=0.0, guidance=guidance, lora=lora, baseline=baseline, **arguments)
        self.save_hyperparameters()
