import json

import pytest

from graft_lightning.domains.molecules.score import score
from graft_lightning.domains.molecules.sdf import write_sdf
from graft_lightning.domains.molecules.xyz import write_xyz


def test_qm7_by_the_published_rules(test_data):
    found = score(test_data / "qm7_xyz" / "qm7_xyz.tar.gz", with_strain=False)
    assert (found["molecules"], found["left_out"]) == (6803, 298)
    percent = {name: round(100 * value, 3) for name, value in found.items() if isinstance(value, float)}
    assert percent == {
        "atom_stability": 99.713,
        "molecule_stability": 98.265,
        "validity": 98.265,
        "uniqueness": 99.701,
        "valid_unique": 97.971,
        "connectivity": 100.0,
    }


def test_qm9_sample(test_data):
    path = test_data / "qm9_sample" / "qm9_sample.xyz"
    found = score([path], train_files=[path])
    assert round(100 * found["atom_stability"], 3) == 99.328
    assert (found["molecule_stability"], found["validity"], found["novelty"]) == (0.95, 0.96, 0.0)
    assert found["strain_judged"] == 0.95
    assert 1 < found["strain"] < 10  # DFT's minimum is not MMFF94's


def test_files_of_both_kinds_and_json(tmp_path, molecule):
    write_xyz(tmp_path / "a.xyz", [molecule("water"), molecule("methyl")])
    write_sdf(tmp_path / "b.sdf", [molecule("methane"), molecule("two_waters")])
    write_xyz(tmp_path / "train.xyz", [molecule("methane")])
    found = score([tmp_path / "a.xyz", tmp_path / "b.sdf"], train_files=tmp_path / "train.xyz")
    assert json.loads(json.dumps(found)) == pytest.approx(
        {
            "molecules": 4,
            "left_out": 0,
            "atom_stability": (3 + 3 + 5 + 6) / 18,
            "molecule_stability": 3 / 4,
            "validity": 1.0,
            "uniqueness": 3 / 4,
            "valid_unique": 3 / 4,
            "novelty": 2 / 3,
            "connectivity": 3 / 4,
            "strain": found["strain"],
            "strain_judged": 2 / 4,
        }
    )
    assert score(tmp_path / "b.sdf", tmp_path / "train.xyz", cache=tmp_path / "cache")["novelty"] == 1 / 2


def test_elements_without_rule_are_left_out_and_told(tmp_path, molecule, caplog):
    write_xyz(tmp_path / "a.xyz", [molecule("water")])
    with (tmp_path / "a.xyz").open("a") as file:
        file.write("2\n\nH 0 0 0\nCl 0 0 1.27\n")
    found = score(tmp_path / "a.xyz")
    assert (found["molecules"], found["left_out"], found["molecule_stability"]) == (1, 1, 1.0)
    assert "1 molecules are left out" in caplog.text
    assert "'Cl': 1" in caplog.text


def test_fractions_of_nothing_are_none(tmp_path, molecule):
    write_xyz(tmp_path / "a.xyz", [molecule("methanium")])
    found = score(tmp_path / "a.xyz")
    assert found["validity"] == 0
    assert found["uniqueness"] is None
    assert found["strain"] is None
    json.dumps(found, allow_nan=False)
