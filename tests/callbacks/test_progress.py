"""The bar of a fit says which epoch it is in, and where it ends; its first lines what is trained."""

from types import SimpleNamespace

import pytest
from lightning.pytorch.callbacks import RichProgressBar, TQDMProgressBar

from graft_lightning.callbacks.progress import RichStepsBar, StepsBar, described, with_plain_bar
from tests.runs import launch


@pytest.mark.parametrize(
    ("epochs", "steps", "text"),
    [(-1, 300, "Epoch 3, to step 300"), (5, -1, "Epoch 3 of 5"), (5, 300, "Epoch 3 of 5"), (-1, -1, "Epoch 3")],
)
def test_what_stands_before_the_bar(epochs, steps, text):
    assert described(SimpleNamespace(current_epoch=2, max_epochs=epochs, max_steps=steps)) == text


def test_only_lightnings_own_bars_are_replaced():
    class Mine(TQDMProgressBar):
        pass

    mine = Mine()
    trainer = SimpleNamespace(callbacks=[TQDMProgressBar(refresh_rate=7), mine, RichProgressBar(refresh_rate=3)])
    with_plain_bar(trainer)
    assert [type(bar) for bar in trainer.callbacks] == [StepsBar, Mine, RichStepsBar]
    assert [bar.refresh_rate for bar in trainer.callbacks[::2]] == [7, 3]


def test_no_bar_counts_to_a_negative_epoch(tmp_path, capfd):
    launch("fit", tmp_path, {"trainer.enable_progress_bar": True})
    shown = "".join(capfd.readouterr())
    assert "Epoch 2, to step 10" in shown
    assert "/-2" not in shown


def test_what_is_trained_is_said_in_two_lines_unless_a_configuration_names_a_summary(tmp_path, capfd, caplog):
    caplog.set_level("INFO", logger="graft_lightning")
    cli = launch("fit", tmp_path, {"trainer.enable_model_summary": True})
    count = sum(p.numel() for p in cli.model.network.parameters())
    lines = [record.getMessage() for record in caplog.records]
    (told,) = [line for line in lines if line.startswith("trained: ")]
    number, unit = told.split()[1:3]
    assert float(number) * {"K": 1e3, "M": 1e6}[unit] == pytest.approx(count, rel=0.05)
    assert "FLOPs" not in "".join(capfd.readouterr())
    theirs = {"class_path": "lightning.pytorch.callbacks.RichModelSummary"}
    checkpoint = {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": {"save_last": True}}
    named = {"trainer.enable_model_summary": True, "trainer.callbacks": [theirs, checkpoint]}
    launch("fit", tmp_path / "other", named)
    assert "FLOPs" in "".join(capfd.readouterr())
