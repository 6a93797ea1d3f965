"""Conditions that the model is not defined for: refused with their key, before anything is sampled."""

import logging
from types import SimpleNamespace

import pytest

from graft_lightning.callbacks.understood import refuse_conditions
from graft_lightning.domains.base import Texts
from graft_lightning.domains.digits import DigitReference
from graft_lightning.domains.layouts import LayoutReference
from graft_lightning.domains.molecules import MoleculeReference
from graft_lightning.rejection.collection import Collection
from tests.runs import launch


@pytest.mark.parametrize(("name", "command"), [("conditions", "fit"), ("validation", "fit"), ("test", "test")])
def test_a_run(tmp_path, monkeypatch, capsys, name, command):
    monkeypatch.setattr(Collection, "draw", lambda *a, **o: pytest.fail("sampled before it was refused"))
    asked = {"class_path": "Texts", "init_args": {"values": ["two ones", "a unicorn"]}}
    with pytest.raises(SystemExit) as leave:
        launch(command, tmp_path, {f"data.{name}": asked})
    assert leave.value.code == 2
    assert f"error: data.{name}: prompt 'a unicorn' is not understood" in capsys.readouterr().err


def test_a_condition_that_is_there_twice_is_told(monkeypatch, caplog):
    data = SimpleNamespace(conditions=Texts(["two ones", "two twos", "two ones"]), validation=Texts(["two ones"]))
    monkeypatch.setattr(logging.getLogger("graft_lightning"), "propagate", True)
    refuse_conditions(DigitReference(), data, "conditions", "validation", "test")
    told = {record.getMessage() for record in caplog.records}
    (one,) = told
    assert one.startswith("data.conditions: 1 of 3 conditions repeat another, such as 'two ones': ")


@pytest.mark.parametrize(
    ("reference", "asked"),
    [
        (DigitReference(), "a unicorn"),
        (MoleculeReference(max_atoms=9), "n=10"),
        (MoleculeReference(max_atoms=9), "nine"),
        (LayoutReference(max_elements=5), "n=6"),
    ],
    ids=lambda given: str(given) if isinstance(given, str) else type(given).__name__,
)
def test_references(reference, asked):
    with pytest.raises(ValueError, match=asked):
        reference.refuse([asked])
