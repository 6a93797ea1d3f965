"""A training step under the trainer: what is read back, what is shown, and how often."""

import math
import threading
from types import SimpleNamespace

import lightning as L
import pytest
import torch

from graft_lightning.datamodules import stream
from graft_lightning.datamodules.stream import StreamLoader, noise_seeds
from graft_lightning.modules import PGraft, Pretrain, denoising
from graft_lightning.modules.denoising import LEVEL_BINS
from graft_lightning.processes.objectives import Loss
from graft_lightning.processes.weightings import CappedInverseAlpha
from graft_lightning.rejection.reference import LoRA
from graft_lightning.types import Batch
from tests.fakes import TinyReference
from tests.readbacks import ReadBacks, Supplied

COUNT = 4


class Encoded(TinyReference):
    """Looks its conditions up in a table, as text encoders do."""

    TABLE = torch.eye(3)

    def encode(self, conditions, device):
        return self.TABLE[: len(conditions)].repeat(2, 1)[: len(conditions)]


def read(positions):
    x = torch.ones(len(positions), 2) + positions[0]
    return Batch(x, ["left"] * len(positions), noise_seeds(0, positions), torch.ones(len(positions)))


class Watch(L.Callback):
    """Counts what is read back from the start of step ``first`` to the end of step ``last``."""

    def __init__(self, first, last):
        self.first, self.last, self.mode = first, last, ReadBacks()
        self.shown, self.threads = [], set()

    def on_train_batch_start(self, trainer, module, batch, index):
        if index == self.first:
            self.mode.__enter__()

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        if index == self.last:
            self.mode.__exit__(None, None, None)
        self.shown.append(dict(trainer.progress_bar_metrics))
        self.threads |= {thread.name for thread in threading.enumerate()}


def fitted(module, watch, steps=8, loader=None, **settings):
    trainer = L.Trainer(
        max_steps=steps,
        accelerator="cpu",
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[watch],
        **{"logger": False, **settings},
    )
    trainer.fit(module, loader or StreamLoader(read, COUNT, 100))
    return trainer


def sgd(parameters):
    return torch.optim.SGD(parameters, 1e-3)


MODULES = {
    "pre-training": lambda: Pretrain(reference=Encoded(), optimizer=sgd),
    "P-GRAFT": lambda: PGraft(reference=Encoded(), handoff=0.25, optimizer=sgd),
    "RP-GRAFT": lambda: PGraft(reference=Encoded(), handoff=0.5, reverse=True, optimizer=sgd),
    "x_0": lambda: PGraft(reference=Encoded(), handoff=0.25, states="x_0", optimizer=sgd),
    "guided": lambda: PGraft(reference=Encoded(guidance_scale=2.0), lora=LoRA(2), optimizer=sgd),
    "weighted": lambda: PGraft(
        reference=Encoded(output="v_prediction"), objective=denoising.Objective(CappedInverseAlpha()), optimizer=sgd
    ),
}


@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
def test_a_step_under_the_trainer_reads_nothing_back(make, monkeypatch):
    monkeypatch.setattr(denoising, "Noise", lambda seeds, device: Supplied(len(seeds), device))
    watch = Watch(2, 6)
    fitted(make(), watch)
    assert dict(watch.mode.found) == {}


def test_a_logging_step_reads_once(monkeypatch):
    monkeypatch.setattr(denoising, "Noise", lambda seeds, device: Supplied(len(seeds), device))
    module = MODULES["P-GRAFT"]()
    module.configure_model()
    module.log = lambda *values, **rest: None
    logged = {}
    logger = SimpleNamespace(log_metrics=lambda metrics, step: logged.update(metrics))
    module._trainer = SimpleNamespace(loggers=[logger], global_step=50, log_every_n_steps=50)
    module.training_step(read(range(COUNT)), 0)  # fills the caches
    logged.clear()
    read_back = []
    tolist = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: read_back.append(self.shape) or tolist(self))
    with ReadBacks() as mode:
        module.training_step(read(range(COUNT)), 0)
    assert (sum(mode.found.values()), len(read_back)) == (0, 1)
    assert logged


def test_between_logging_steps_nothing_is_logged():
    module = MODULES["P-GRAFT"]()
    module.configure_model()
    module.log = lambda *values, **rest: None
    logger = SimpleNamespace(log_metrics=lambda metrics, step: pytest.fail(f"{metrics} is logged"))
    module._trainer = SimpleNamespace(loggers=[logger], global_step=49, log_every_n_steps=50)
    module.training_step(read(range(COUNT)), 0)


def test_the_loss_of_each_level_is_the_mean_of_the_examples_there():
    module = MODULES["pre-training"]()
    logged = {}
    logger = SimpleNamespace(log_metrics=lambda metrics, step: logged.update(metrics))
    bar = {}
    module._trainer = SimpleNamespace(loggers=[logger], global_step=0, progress_bar_metrics=bar)
    t_max = module.reference.process.t_max
    t = torch.tensor([0.0, 0.2, 0.2001, 0.4, 0.5, 1.0], dtype=torch.float64) * t_max
    values = torch.tensor([7.0, 1.0, 2.0, 4.0, math.inf, 5.0])
    module._show(torch.tensor(0.25), Loss(values, t))
    assert logged == {
        "loss_by_level/t=0.0T-0.2T": 1.0,  # t = 0 is the data, and never drawn
        "loss_by_level/t=0.2T-0.4T": 3.0,
        "loss_by_level/t=0.4T-0.6T": math.inf,
        "loss_by_level/t=0.8T-1.0T": 5.0,
    }
    assert bar == {"train/loss": 0.25}
    assert LEVEL_BINS == 5


def test_the_bar_shows_the_loss_of_the_last_logging_step():
    watch = Watch(-1, -1)
    losses = []
    module = MODULES["P-GRAFT"]()
    step = module.training_step
    module.training_step = lambda *given: losses.append(step(*given)) or losses[-1]
    fitted(module, watch, 7, log_every_n_steps=3)
    assert [shown["train/loss"] for shown in watch.shown] == [losses[i].item() for i in (0, 0, 0, 3, 3, 3, 6)]


class TestReadingAhead:
    @pytest.fixture(autouse=True)
    def nothing_is_quick(self, monkeypatch):
        monkeypatch.setattr(stream, "QUICK", 0)

    def test_the_thread_ends_with_the_fit(self):
        before, watch = threading.active_count(), Watch(-1, -1)
        fitted(MODULES["P-GRAFT"](), watch)  # stopped by max_steps in the middle of an epoch
        assert any(name.startswith("next batch") for name in watch.threads)
        assert threading.active_count() == before

    def test_the_thread_ends_with_a_fit_that_fails(self):
        class Failing(Watch):
            def on_train_batch_end(self, *arguments):
                raise KeyError("stop")

        before = threading.active_count()
        with pytest.raises(KeyError, match="stop"):
            fitted(MODULES["P-GRAFT"](), Failing(-1, -1))
        assert threading.active_count() == before

    def test_an_error_of_reading_ends_the_fit_as_itself(self):
        def failing(positions):
            if positions[0] == 3 * COUNT:
                raise FileNotFoundError("the shard is gone")
            return read(positions)

        watch = Watch(-1, -1)
        with pytest.raises(FileNotFoundError, match="the shard is gone"):
            fitted(MODULES["P-GRAFT"](), watch, loader=StreamLoader(failing, COUNT, 100))
        assert len(watch.shown) == 3


class Logged(L.pytorch.loggers.logger.DummyLogger):
    """Keeps what is logged of the loss."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def log_metrics(self, metrics, step=None):
        if "train/loss" in metrics:
            self.rows.append((step, float(metrics["train/loss"])))


@pytest.mark.parametrize("every", [1, 3])
def test_the_loss_is_logged_at_the_steps_that_the_trainer_writes(every):
    module, logger, losses = MODULES["P-GRAFT"](), Logged(), []
    step = module.training_step
    module.training_step = lambda *given: losses.append(step(*given)) or losses[-1]
    fitted(module, Watch(-1, -1), 7, log_every_n_steps=every, logger=logger)
    expected = [(i, losses[i].item()) for i in range(7) if (i + 1) % every == 0]
    assert logger.rows == expected


def test_a_callback_that_looks_at_the_loss_sees_that_of_its_step():
    module, losses, seen = MODULES["P-GRAFT"](), [], []
    step = module.training_step
    module.training_step = lambda *given: losses.append(step(*given)) or losses[-1]

    class Looks(Watch):
        monitor = "train/loss"

        def on_train_batch_end(self, trainer, *given):
            seen.append(trainer.callback_metrics["train/loss"].item())

    fitted(module, Looks(-1, -1), 5, log_every_n_steps=50)
    assert seen == [loss.item() for loss in losses]


def test_no_logging_at_all():
    """Lightning's own way to say so is 0 steps between two of them."""
    fitted(MODULES["P-GRAFT"](), Watch(-1, -1), 3, log_every_n_steps=0)
