from collections import Counter

import numpy as np
import pytest

from graft_lightning.domains.molecules.conditions import EMBEDDED_HISTOGRAM
from graft_lightning.domains.molecules.embedded import build, load_embedded
from graft_lightning.domains.molecules.metrics import strains
from graft_lightning.domains.molecules.perception import perceive


@pytest.fixture(scope="module")
def small():
    """Up to three heavy atoms."""
    left_out: Counter[str] = Counter()
    return list(build(3, 12, left_out)), left_out


def test_every_molecule_is_the_one_that_was_meant(small):
    from rdkit import Chem

    molecules, _ = small
    perceived = perceive(molecules)
    assert all(p.stable and p.connected for p in perceived)
    for molecule, p in zip(molecules, perceived, strict=True):
        assert Chem.MolToSmiles(Chem.RemoveHs(p.mol)) == molecule.name
    assert len({p.smiles for p in perceived}) == len(molecules)
    assert {"O", "N", "CO", "C=O", "C#N", "C1CC1"} <= {molecule.name for molecule in molecules}


def test_geometries_are_relaxed(small):
    assert strains(perceive(small[0])).max() < 0.01


def test_deterministic(small):
    again = list(build(2, 12, Counter()))
    for a, b in zip(small[0], again, strict=False):
        assert a.name == b.name
        np.testing.assert_array_equal(a.positions, b.positions)


def test_built_once(tmp_path, monkeypatch, capsys):
    first = load_embedded(2, 8, tmp_path, progress=True)
    assert "embedding molecules" in capsys.readouterr().err
    monkeypatch.setattr("graft_lightning.domains.molecules.embedded.build", lambda *_: pytest.fail("built again"))
    assert len(load_embedded(2, 8, tmp_path)) == len(first) > 10
    assert load_embedded(2, 8, tmp_path).manifest["max_heavy"] == 2


@pytest.mark.slow
def test_default_size(tmp_path):
    """Thousands of molecules of at most 12 atoms, all stable and all different."""
    molecules = load_embedded(cache=tmp_path, progress=False)
    assert 4500 < len(molecules) < 4800
    assert molecules.width == 12
    assert len(molecules.keys().unique()) == len(molecules)
    assert all(perceived.stable for perceived in perceive(molecules[:]))
    kept = len(molecules) / (len(molecules) + sum(molecules.manifest["left_out"].values()))
    assert 0.8 < kept < 0.9
    assert molecules.histogram() == EMBEDDED_HISTOGRAM
