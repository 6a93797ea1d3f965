"""What a fit left behind is opened by its folder, by a checkpoint, and with a module that a script built."""

from pathlib import Path

import lightning as L
import pytest
import torch

from graft_lightning import api
from graft_lightning.types import SettingsError
from tests.fakes import CONDITIONS, GaussianReference, TinyReference
from tests.runs import HELD_OUT, launch


def test_a_run_is_opened_and_sampled(tmp_path):
    """By its folder or by a checkpoint, the module is the one that was trained: it gives its samples."""
    cli = launch("fit", tmp_path, {"trainer.max_steps": 3, "trainer.limit_val_batches": 0, "evaluate.baseline": False})
    expected = api.sample(cli.model, HELD_OUT, seed=5)
    (checkpoint,) = {path.resolve() for path in (tmp_path / "run").rglob("last.ckpt")}
    for opened in (
        api.open_run(tmp_path / "run"),
        api.open_run(checkpoint),
        api.open_run(tmp_path / "run", checkpoint),
    ):
        assert opened.method == "pgraft@0.25"
        assert not opened.training
        torch.testing.assert_close(api.sample(opened, HELD_OUT, seed=5), expected)
    assert (api.sample(opened, HELD_OUT, seed=6) - expected).abs().max() > 0.01
    torch.manual_seed(987)
    before = torch.get_rng_state()
    api.open_run(tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), before), "opening a run seeds nobody else's numbers"
    with pytest.raises(SettingsError, match="is a checkpoint already"):
        api.open_run(checkpoint, checkpoint)
    with pytest.raises(FileNotFoundError, match=r"absent\.ckpt is absent"):
        api.open_run(tmp_path / "run/absent.ckpt")


def by_lightning(folder):
    """A module and data, built in Python: no configuration is ever written."""
    module = api.PGraft(reference=TinyReference(api.DDIM(4)), handoff=0.25)
    data = api.AcceptedTrajectories(api.Texts(CONDITIONS), api.TopK(2), str(folder / "pool"), batch_size=8)
    collect = api.Collect(api.CallableReward(first_coordinate), draws=8, keep=[0.25])
    return module, data, collect


def first_coordinate(samples, conditions):
    return samples[:, 0]


def test_lightning_trains_what_was_built_in_python(tmp_path):
    """And its checkpoint is opened with the module, where there is no configuration; it carries no code."""
    module, data, collect = by_lightning(tmp_path)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = L.Trainer(max_steps=3, default_root_dir=tmp_path, logger=False, callbacks=[collect], **quiet)
    trainer.fit(module, data)
    expected = api.sample(module, CONDITIONS)
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    opened = api.open_run(checkpoint, module=by_lightning(tmp_path)[0])
    assert opened.trained_steps == 3
    torch.testing.assert_close(api.sample(opened, CONDITIONS), expected)
    with pytest.raises(FileNotFoundError, match=r"config\.yaml is absent"):
        api.open_run(checkpoint)
    other = api.PGraft(reference=TinyReference(api.DDIM(4)), handoff=0.5)
    with pytest.raises(SettingsError, match="hand-off level"):
        api.open_run(checkpoint, module=other)
    other = api.PGraft(reference=GaussianReference(api.DDIM(4)), handoff=0.25)
    with pytest.raises(SettingsError, match=r"\.ckpt does not fit this PGraft"):
        api.open_run(checkpoint, module=other)


class Touching:
    """Would make a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("what", ["code", "damaged", "other"])
def test_a_checkpoint_that_is_none_is_refused(tmp_path, what):
    file, touched = tmp_path / "bad.ckpt", tmp_path / "touched"
    if what == "damaged":
        file.write_bytes(b"not a checkpoint")
    else:
        torch.save({"weights": torch.ones(2), "x": Touching(touched) if what == "code" else 1}, file)
    message = "lacks state_dict" if what == "other" else "damaged, or holds more than tensors"
    with pytest.raises(SettingsError, match=rf"bad\.ckpt .*{message}"):
        api.open_run(file, module=by_lightning(tmp_path)[0])
    assert not touched.exists()
