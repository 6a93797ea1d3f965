"""What all modules share: they are sampled, and say what that takes. Whether anything is trained is another matter."""

from abc import abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning as L

from graft_lightning.modules.stages import Stage
from graft_lightning.rejection.reference import Reference, Views
from graft_lightning.types import Draws, SettingsError, StateLike


class SampledModule(L.LightningModule):
    """A model whose samples are evaluated, compared and written.

    Attributes:
        has_base: whether there is a model to compare with, from the same seeds (`sample_base`).
        trains: whether gradient steps change it.
        collects: whether it is trained on trajectories that a reference has drawn.
        inverts: whether it is made from the inverse noise of a flow.
        untrained: why a fit takes no gradient steps, where it takes none.
        run: the fit that its weights are of; None where that is not known.
    """

    has_base = False
    trains = False
    collects = False
    inverts = False
    untrained = "nothing is trained"

    def __init__(self) -> None:
        super().__init__()
        self.views: Views | None = None  # of what is trained; none before the networks are built
        self.trained_steps = 0
        self.run: str | None = None
        self.came_from: str | None = None  # the fit whose checkpoint was loaded, which a fit may go on from
        self._drawn_by: Any = None  # the precision of a trainer that is not attached
        self.kept_step: int | None = None  # the step that the weights are of, where it is not the last one
        self.spent: dict[str, float] | None = None  # what the fit that the weights are of has spent

    @property
    @abstractmethod
    def method(self) -> str:
        """The name under which reports list this model."""

    @property
    @abstractmethod
    def decoder(self) -> Reference:
        """The reference whose samples are made, shown and written."""

    @abstractmethod
    def sample(self, draws: Draws) -> StateLike:
        """Finished states of the draws' own seeds, ``(batch, *shape)``."""

    @property
    def drawn_in(self) -> str | None:
        """The trainer's precision, under which every sample is drawn; None for full precision, or without a trainer."""
        found = str(getattr(self._precision_plugin, "precision", "32-true"))
        return None if found == "32-true" else found

    def draw_as(self, trainer: L.Trainer) -> None:
        """Draws in a trainer's precision, also where its own loops, which attach it, do not run."""
        self._drawn_by = trainer.precision_plugin

    def in_precision(self) -> AbstractContextManager[Any]:
        """What is drawn inside is drawn as the trainer's own steps draw it: what compares samples compares models."""
        return nullcontext() if self.drawn_in is None else self._precision_plugin.forward_context()

    @property
    def _precision_plugin(self) -> Any:
        return self._drawn_by if self._trainer is None else getattr(self._trainer, "precision_plugin", None)

    def sample_base(self, draws: Draws) -> StateLike:
        """What the model to compare with makes of the same draws.

        Raises:
            TypeError: where there is none (`has_base`).
        """
        raise TypeError(f"{type(self).__name__} has no model to compare with")

    def stages(self) -> list[Stage]:
        """The networks that a sample goes through, in their order; none where nothing is computed."""
        return []

    def meta_views(self) -> Views | None:
        """The views that training would open, without weights; None where no network is trained."""
        return None

    def closed_form_bytes(self, samples: int) -> tuple[int, int]:
        """Bytes of what is fitted in closed form, and of what it is fitted to.

        Args:
            samples: of the data of the fit.
        """
        return 0, 0

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Says which run the weights are of, and leaves out hyper-parameters that are objects.

        A module that was built in Python, not from a YAML, has such.
        They could not be loaded again without trusting the file's code; `load_from_checkpoint` takes them as arguments.
        """
        if self.run is not None:
            checkpoint["run"] = self.run
        if self.kept_step is not None:
            checkpoint["kept_step"] = self.kept_step
        if self.spent is not None:
            checkpoint["spent"] = self.spent
        if not _is_plain(checkpoint.get(self.CHECKPOINT_HYPER_PARAMS_KEY, {})):
            del checkpoint[self.CHECKPOINT_HYPER_PARAMS_KEY]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes over which run the weights are of.

        Raises:
            SettingsError: where a fit is to go on from weights alone, before it looks at its pool.
        """
        trainer = self._trainer
        alone = "state_dict" in checkpoint and "optimizer_states" not in checkpoint  # of a sharded one both are read
        if trainer is not None and trainer.state.fn == "fit" and alone:
            raise SettingsError(
                f"ckpt_path={trainer.ckpt_path} holds weights alone (save_weights_only of a ModelCheckpoint), and a "
                "fit goes on with the optimiser's state too; name another checkpoint, or leave ckpt_path out"
            )
        self.run = self.came_from = checkpoint.get("run")
        self.spent = checkpoint.get("spent")
        self.trained_steps = int(checkpoint.get("kept_step", checkpoint["global_step"]))

    def validation_step(self, batch: Draws, batch_idx: int) -> Any:
        return self.decoder.decode(self.sample(batch))

    def test_step(self, batch: Draws, batch_idx: int) -> Any:
        return self.decoder.decode(self.sample(batch))

    def predict_step(self, batch: Draws, batch_idx: int) -> Any:
        return self.decoder.decode(self.sample(batch))


def _is_plain(value: Any) -> bool:
    """Whether a value is made of numbers, texts, lists and dictionaries alone."""
    if isinstance(value, Mapping):
        return all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
