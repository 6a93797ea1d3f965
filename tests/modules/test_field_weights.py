"""Weights of fields that a reference does not have: refused when the fit is set up, before anything is sampled."""

import pytest

from graft_lightning.rejection.collection import Collection
from tests.runs import launch


@pytest.mark.parametrize(
    ("objective", "settings"),
    [
        ("graft_lightning.processes.objectives.Objective", {}),
        ("graft_lightning.rejection.objectives.RWR", {"temperature": 1.0}),
    ],
    ids=["own", "RWR"],
)
def test_an_absent_field(tmp_path, monkeypatch, capsys, objective, settings):
    monkeypatch.setattr(Collection, "draw", lambda *a, **o: pytest.fail("sampled before it was refused"))
    given = {"class_path": objective, "init_args": {"field_weights": {"tpyes": 2.0}, **settings}}
    with pytest.raises(SystemExit) as leave:
        launch("fit", tmp_path, {"model.objective": given})
    said = capsys.readouterr().err
    assert leave.value.code == 2
    assert "error: model.objective.field_weights names ['tpyes']; the fields are ['x']" in said


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_is_none(tmp_path, capsys, weight):
    given = {
        "class_path": "graft_lightning.processes.objectives.Objective",
        "init_args": {"field_weights": {"x": weight}},
    }
    with pytest.raises(SystemExit) as leave:
        launch("fit", tmp_path, {"model.objective": given})
    said = capsys.readouterr().err
    assert leave.value.code == 2
    assert f"model.objective.field_weights.x={weight}" in said
