"""What pre-training and fine-tuning share: a reference, an objective, an optimiser, samples for evaluation."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from graft_lightning.modules.sampled import SampledModule
from graft_lightning.modules.stages import Stage, evaluations_of
from graft_lightning.processes.denoiser import Denoiser
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.objectives import Loss, Objective
from graft_lightning.rejection.reference import Reference, Views, open_views
from graft_lightning.rejection.reward import Reward
from graft_lightning.rejection.steering import Steering
from graft_lightning.tensors import refuse_misfit, refuse_not_finite
from graft_lightning.types import Batch, Draws, SettingsError, StateLike

OptimizerCallable = Callable[[Iterable], Optimizer]
LRSchedulerCallable = Callable[[Optimizer], LRScheduler]

LOSS = "train/loss"

LEVEL_BINS = 5
"""Parts of [0, T] by which the training loss is shown."""


class DenoisingModule(SampledModule):
    """A thin adapter between Lightning and `Objective`, `Reference` and `Sampler`.

    The constructor loads nothing; networks are built in `configure_model`. Only ``network`` is a registered submodule,
    so that checkpoints, averages and sharding see the trained weights and no others; a frozen copy follows it from
    device to device by `_apply`.

    Args:
        reference: the pre-trained model.
        objective: the loss.
        optimizer: makes the optimiser from the trained parameters.
        lr_scheduler: makes a schedule from the optimiser, stepped every step, or every epoch where it monitors
            something; none by default.
    """

    network: nn.Module
    trains = True

    def __init__(
        self,
        reference: Reference,
        objective: Objective | None = None,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__()
        self.reference = reference
        self.objective = objective or Objective()
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self._fingerprint: dict[str, Any] | None = None
        self.steering: tuple[Steering, Reward] | None = None  # how evaluation samples, and what that follows

    @property
    def decoder(self) -> Reference:
        """The reference whose samples are made, shown and written."""
        return self.reference

    @abstractmethod
    def open_views(self) -> Views:
        """Builds the networks."""

    @abstractmethod
    def sampling_denoiser(self) -> Denoiser:
        """What evaluation samples from."""

    def setup(self, stage: str) -> None:
        """Tries objective, optimiser and schedule: what they refuse is told before anything is sampled.

        Raises:
            SettingsError: with what they say; of weights of fields that the reference does not have.
        """
        super().setup(stage)
        if stage != "fit":
            return
        self.objective.check(self.reference.process)
        name = "model.optimizer"
        try:
            optimizer = self.optimizer([nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(2))])
            if self.lr_scheduler is not None:
                name = "model.lr_scheduler"
                schedule_of(self.lr_scheduler(optimizer))
        except (ValueError, TypeError) as error:
            raise SettingsError(f"{name}: {error}") from error

    def configure_model(self) -> None:
        if self.views is not None:
            return
        self.views = self.open_views()
        self.network = self.views.network
        if self.device_mesh is not None:
            self.reference_fingerprint()  # as long as every process has the whole weights
            from torch.distributed.fsdp import fully_shard

            for block in self.reference.blocks(self.network):
                fully_shard(block, mesh=self.device_mesh["data_parallel"])
            fully_shard(self.network, mesh=self.device_mesh["data_parallel"])
        if self.reference.compile:
            for network in dict.fromkeys((self.views.network, self.views.original)):
                network.compile()  # in place: the names of its weights stay

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Builds the networks first, where a forked run hands its weights back to a process that never needed them.

        Raises:
            SettingsError: if weights are missing, unexpected, of another shape or not finite; names the first.
        """
        if self.views is None and any(name.startswith("network.") for name in state_dict):
            self.configure_model()
        kind, own = type(self).__name__, self.state_dict()
        given = state_dict if strict else {**own, **state_dict}  # of adapters alone the frozen weights are not saved
        refuse_misfit(own, given, "the checkpoint", kind)
        refuse_not_finite({name for name, _ in self.named_parameters()}, state_dict, "the checkpoint")
        return super().load_state_dict(state_dict, strict, assign)

    def reference_fingerprint(self) -> dict[str, Any]:
        """`Reference.fingerprint` of the weights that the reference was built with."""
        if self._fingerprint is None:
            self._fingerprint = self.reference.fingerprint(self.opened().original)
        return self._fingerprint

    @property
    def in_step(self) -> bool:
        """Whether processes hold the trained network in parts, so that each needs the others at every call."""
        return self.views is not None and self.device_mesh is not None

    def opened(self) -> Views:
        """The views.

        Raises:
            RuntimeError: before `configure_model`.
        """
        if self.views is None:
            raise RuntimeError("the networks are not built yet; configure_model() builds them")
        return self.views

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        super()._apply(fn, recurse)
        if self.views is not None and self.views.original is not self.views.network:
            self.views.original._apply(fn)
        return self

    def on_train_start(self) -> None:
        """Lets the loader's thread fetch what encoding the next batch will need."""
        loader: Any = self.trainer.train_dataloader
        if hasattr(loader, "prepare"):
            loader.prepare = self.reference.prepare

    def loss_range(self) -> tuple[float, float | None, float | None]:
        """Level of the training states, and the range (low, high] that is trained; None leaves it to the objective."""
        return 0.0, None, None

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        total, loss = self.loss_of(batch)
        if self._trainer is not None:  # else a loop of one's own
            if self._kept():
                self.log(LOSS, total, batch_size=len(batch.conditions))
            self._show(total.detach(), loss)
        return total

    def loss_of(self, batch: Batch) -> tuple[Tensor, Loss]:
        """What is minimised, a scalar, and the losses of the examples."""
        level, low, high = self.loss_range()
        loss = self.objective.loss(
            self.opened().trainable,
            self.reference.process,
            batch.x,
            self.reference.encode(batch.conditions, self.device),
            Noise(batch.seeds, self.device),
            level,
            low,
            high,
        )
        return (batch.weight * loss.value).mean(), loss

    def _kept(self) -> bool:
        """Whether the trainer writes this step's loss, or a callback looks at it.

        To hand it over costs the trainer a millisecond, which is why it is not done at every step.
        """
        trainer, step = self.trainer, self.global_step
        every = getattr(trainer, "log_every_n_steps", 50)
        if step == 0 or getattr(trainer, "fast_dev_run", False) or (every and (step + 1) % every == 0):
            return True
        return any(getattr(callback, "monitor", None) == LOSS for callback in getattr(trainer, "callbacks", ()))

    def _show(self, total: Tensor, loss: Loss) -> None:
        """The loss on the progress bar, and by level in the log: on logging steps alone, with one read-back.

        Of a metric that is logged with ``prog_bar`` the trainer reads every step's value back, even without a bar.
        """
        every = getattr(self.trainer, "log_every_n_steps", 50)
        if not every or self.global_step % every:
            return
        values = loss.value.detach().double()
        share = loss.t / self.reference.process.t_max
        edges = [part / LEVEL_BINS for part in range(LEVEL_BINS + 1)]
        inside = torch.stack([(share > low) & (share <= high) for low, high in pairwise(edges)])
        sums = torch.where(inside, values, 0.0).sum(1)
        shown, *by_level = torch.cat([total.double().reshape(1), sums, inside.sum(1)]).tolist()
        getattr(self.trainer, "progress_bar_metrics", {})[LOSS] = shown
        for (low, high), value, count in zip(pairwise(edges), by_level, by_level[LEVEL_BINS:], strict=False):
            for logger in self.trainer.loggers if count else ():
                name = f"loss_by_level/t={low:.1f}T-{high:.1f}T"
                logger.log_metrics({name: value / count}, step=self.global_step)

    def sample(self, draws: Draws, denoiser: Denoiser | None = None) -> StateLike:
        """Finished states of the draws' own seeds, ``(batch, *shape)``.

        Args:
            draws: conditions and seeds.
            denoiser: another model, with the same seeds; by default the one under evaluation, steered where that is
                asked for.
        """
        reference = self.reference
        if denoiser is None and self.steering is not None:
            steering, reward = self.steering
            together = len(draws.conditions) if self.in_step else None  # processes make as many calls as each other
            return steering.sample(
                reference,
                reward.to(self.device),
                self.sampling_denoiser(),
                draws.conditions,
                draws.seeds,
                self.device,
                together,
            ).x_0
        trajectory = reference.sampler.sample(
            denoiser or self.sampling_denoiser(),
            reference.process,
            reference.encode(draws.conditions, self.device),
            Noise(draws.seeds, self.device),
            reference.shape(draws.conditions),
            static=reference.static_fields(draws.conditions, self.device),
        )
        return trajectory.x_0

    def stages(self) -> list[Stage]:
        calls = evaluations_of(self.reference)
        return [Stage("network", self.reference, calls, calls, lambda: self.opened().frozen, trained=True)]

    def meta_views(self) -> Views | None:
        return open_views(self.reference, self.reference.meta_network(), guidance="absorbed", copies=False)

    def configure_optimizers(self) -> Any:
        learned = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        if not learned:
            raise SettingsError(
                f"model.reference: {type(self.reference).__name__}.build returned a network "
                f"({type(self.network).__name__}) of whose weights none is trained, for all have requires_grad=False: "
                "leave true what shall be trained, or set model.lora"
            )
        optimizer = self.optimizer(learned)
        if self.lr_scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": schedule_of(self.lr_scheduler(optimizer))}


def schedule_of(scheduler: Any) -> dict[str, Any]:
    """When a schedule goes on: at every step, or at the end of an epoch by the last value of what it monitors.

    Raises:
        ValueError: if it goes by a quantity, and names none.
    """
    if not isinstance(scheduler, ReduceLROnPlateau):
        return {"scheduler": scheduler, "interval": "step"}
    monitor = getattr(scheduler, "monitor", None)
    if monitor is None:
        raise ValueError(
            "ReduceLROnPlateau does not say what it goes by: take lightning.pytorch.cli.ReduceLROnPlateau, with "
            f"init_args.monitor, such as {LOSS}, or validate/REWARD and mode: max"
        )
    # what is validated is not there before the first validation, nor at every epoch
    return {"scheduler": scheduler, "interval": "epoch", "monitor": monitor, "strict": False}
