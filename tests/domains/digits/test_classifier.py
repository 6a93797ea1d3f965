import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from graft_lightning.domains.digits.classifier import (
    CLASSIFIER_FILE,
    NONE,
    REMAKE,
    labelled_crops,
    load_classifier,
    train_classifier,
)
from graft_lightning.domains.digits.data import digits


def test_the_shipped_classifier_recognises_digits_it_has_not_seen() -> None:
    classifier = load_classifier()
    assert CLASSIFIER_FILE.stat().st_size < 100_000
    for third in ("reference", "judge"):
        images, labels = digits(third)
        assert (classifier(images).argmax(dim=1) == labels).float().mean() > 0.97


def test_the_shipped_classifier_knows_what_is_no_digit() -> None:
    images, labels = digits("judge")
    drawn, classes = labelled_crops(images, labels, 800, torch.Generator().manual_seed(1))
    nothing = load_classifier()(drawn[classes == NONE]).argmax(dim=1) == NONE
    for kind, share in zip(nothing.split(200), (0.95, 0.85, 0.75, 0.95), strict=True):
        assert kind.float().mean() > share
    assert (load_classifier()(torch.zeros(1, 8, 8)).argmax() == NONE).all()


def test_labelled_crops_are_in_range_and_reproducible() -> None:
    images, labels = digits("reward")
    drawn, classes = labelled_crops(images, labels, 64, torch.Generator().manual_seed(7))
    again, _ = labelled_crops(images, labels, 64, torch.Generator().manual_seed(7))
    assert torch.equal(drawn, again)
    assert drawn.shape == (128, 8, 8)
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    assert (classes[:64] < NONE).all()
    assert (classes[64:] == NONE).all()


def test_training_learns_quickly() -> None:
    images, labels = digits("judge")
    accuracy = (train_classifier(steps=60)(images).argmax(dim=1) == labels).float().mean()
    assert accuracy > 0.5


def test_an_absent_file_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.safetensors") as error:
        load_classifier(tmp_path / "absent.safetensors")
    assert REMAKE in str(error.value)


@pytest.mark.usefixtures("warm")
def test_it_loads_from_any_working_directory(tmp_path: Path) -> None:
    root = CLASSIFIER_FILE.parents[2]
    code = "from graft_lightning.domains.digits.classifier import load_classifier; load_classifier()"
    environment = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, timeout=120)
