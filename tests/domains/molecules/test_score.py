import json

import pytest

from graft_lightning.domains.molecules.format_error import FormatError
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


def test_what_cannot_be_read_counts_as_invalid_and_is_named(tmp_path, molecule, caplog):
    write_xyz(tmp_path / "a.xyz", [molecule("water"), molecule("methane")])
    with (tmp_path / "a.xyz").open("a") as file:
        file.write("2\nblown up\nH 0 0 0\nH nan 0 0\n")
    (tmp_path / "b.xyz").write_text("3\ncut\nO 0 0 0\n")
    (tmp_path / "c.sdf").write_text("")
    found = score(tmp_path, with_strain=False)
    assert found["molecules"] == 5
    assert found["atom_stability"] == 8 / 10  # the atoms that are somewhere count, and those that are nowhere
    assert found["molecule_stability"] == found["validity"] == found["connectivity"] == found["valid_unique"] == 2 / 5
    assert found["uniqueness"] == 1
    assert "3 of 5 molecules cannot be read, and count as invalid" in caplog.text
    for said in ("a.xyz:16: the coordinate 'nan'", "b.xyz:1: the file ends", "c.sdf:1: the file is empty"):
        assert said in caplog.text


def test_strain_is_judged_of_all_molecules(tmp_path, molecule):
    write_xyz(tmp_path / "a.xyz", [molecule("water")])
    (tmp_path / "b.xyz").write_text("")
    assert score(tmp_path)["strain_judged"] == 1 / 2


def test_if_nothing_can_be_read_the_files_are_wrong(tmp_path):
    (tmp_path / "a.xyz").write_text("1\n\nH 0 x 0\n" * 3)
    with pytest.raises(FormatError, match=r"a\.xyz:3: the coordinate 'x' should be a number"):
        score(tmp_path)


def test_novelty_against_nothing_is_none(tmp_path, molecule):
    write_xyz(tmp_path / "a.xyz", [molecule("water")])
    write_xyz(tmp_path / "invalid.xyz", [molecule("methanium")])
    for cache in (None, tmp_path / "cache"):
        found = score(tmp_path / "a.xyz", tmp_path / "invalid.xyz", cache=cache)
        assert (found["validity"], found["novelty"]) == (1.0, None)


def test_drawings_and_heavy_atoms_alone_are_told(tmp_path, caplog):
    """As RDKit writes them; stable molecules in a plane or without hydrogens are neither."""
    from rdkit import Chem
    from rdkit.Chem import AllChem

    ethanol = Chem.MolFromSmiles("CCO")
    whole = Chem.AddHs(ethanol)
    AllChem.EmbedMolecule(whole, randomSeed=0)
    heavy = Chem.RemoveHs(whole)
    flat = Chem.AddHs(ethanol)
    AllChem.Compute2DCoords(flat)
    for name, mol in {"whole": whole, "heavy": heavy, "flat": flat}.items():
        (tmp_path / f"{name}.sdf").write_text(Chem.MolToMolBlock(mol) + "$$$$\n")
    (tmp_path / "plane.xyz").write_text("3\n\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n2\n\nN 0 0 0\nN 1.1 0 0\n")
    said = {"heavy": "have no hydrogen atom", "flat": "2-D drawing", "whole": "", "plane": ""}
    for name, text in said.items():
        caplog.clear()
        score(tmp_path / f"{name}.{'xyz' if name == 'plane' else 'sdf'}", with_strain=False)
        assert (text in caplog.text) if text else not caplog.text
    caplog.clear()
    score(tmp_path, with_strain=False)
    assert "1 of 5 molecules are flat" in caplog.text
    assert "1 of 5 molecules are unstable and have no hydrogen" in caplog.text
