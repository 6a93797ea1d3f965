"""``picture``: the base's samples beside those of a run, of the same seeds."""

import math
import re

import numpy as np
import pytest
import torch
from PIL import Image

from graft_lightning.cli import picturing
from graft_lightning.cli.main import main
from graft_lightning.cli.picturing import GAP, TITLE, held_out
from tests.runs import HELD_OUT, launch

LOUD = {"trainer.max_steps": 6, "model.optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.1}}}
"""Steps that change what is drawn."""


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted")
    return launch("fit", folder, LOUD), folder / "run"


def drawn(run, out, *more):
    main(["picture", str(run), f"--out={out}", *more])
    return np.asarray(Image.open(out).convert("RGB")).astype(int)


def test_the_base_on_the_left_and_the_run_on_the_right(fitted, tmp_path, capsys):
    """From the same seeds, and the same again when it is drawn again."""
    _, run = fitted
    pixels = drawn(run, tmp_path / "a.png", "--samples=4", "--columns=2")
    said = capsys.readouterr().out
    means = [float(text) for text in re.findall(r"mean reward ([\d.]+) before and ([\d.]+) after", said)[0]]
    assert f"picture: {tmp_path / 'a.png'}" in said
    width = (pixels.shape[1] - GAP) // 2
    before, after = pixels[TITLE:, :width], pixels[TITLE:, -width:]
    assert before.shape == after.shape
    assert (before != after).any()
    assert means[0] != means[1]
    again = drawn(run, tmp_path / "b.png", "--samples=4", "--columns=2")
    assert (again == pixels).all()


def test_means_are_those_of_the_reward_that_the_run_accepts_by(tmp_path, capsys):
    """Ink and Paper of one picture add up to 1."""
    said = {}
    for name in ("Ink", "Paper"):
        also = {"collect.also": [{"class_path": "tests.runs.Paper"}], "data.reward": name}
        launch("fit", tmp_path / name, LOUD | also | {"trainer.max_steps": 1})
        drawn(tmp_path / name / "run", tmp_path / "a.png", "--samples=4")
        said[name] = float(re.findall(r"mean reward ([\d.]+) before", capsys.readouterr().out)[0])
    assert said["Ink"] + said["Paper"] == pytest.approx(1, abs=2e-3)


def test_as_many_samples_as_were_asked_for(fitted):
    cli, _ = fitted
    for samples in (1, len(HELD_OUT), len(HELD_OUT) + 1, 7):
        draws = held_out(cli.datamodule, samples)
        assert len(draws.conditions) == len(draws.seeds) == len(set(draws.seeds.tolist())) == samples


def test_scores_that_are_not_numbers_are_not_told(monkeypatch):
    monkeypatch.setattr(picturing, "score", lambda *given: torch.tensor([math.nan, math.nan]))
    assert picturing._mean(object(), torch.zeros(2, 1, 8, 8), ["", ""]) is None


def test_a_long_title_is_not_cut_off():
    sheet = torch.zeros(3, 20, 20, dtype=torch.uint8)
    assert picturing._under("a title that is wider than the sheet", sheet).width > 100


@pytest.mark.parametrize(
    ("more", "told"), [(["--samples=0"], "samples=0; it must be at least 1"), (["--columns=-1"], "columns=-1")]
)
def test_a_wrong_number(fitted, capsys, more, told):
    with pytest.raises(SystemExit) as leave:
        main(["picture", str(fitted[1]), *more])
    assert leave.value.code == 2
    assert told in capsys.readouterr().err


def test_a_folder_that_is_no_run(tmp_path, capsys):
    with pytest.raises(SystemExit) as leave:
        main(["picture", str(tmp_path)])
    assert leave.value.code == 2
    assert "config.yaml is absent; `picture` takes the folder of a run" in capsys.readouterr().err
