import json
import os
import re
from collections import Counter

import numpy as np
import pytest
import torch

from graft_lightning.domains.molecules import dataset
from graft_lightning.domains.molecules.atoms import SYMBOLS
from graft_lightning.domains.molecules.dataset import MoleculeSet, known_keys, load_files, stored
from graft_lightning.domains.molecules.examples import MoleculeFiles
from graft_lightning.domains.molecules.files import read_molecules
from graft_lightning.domains.molecules.format_error import FormatError
from graft_lightning.domains.molecules.perception import UNPARSEABLE, perceive, smiles_key
from graft_lightning.domains.molecules.xyz import write_xyz
from tests.domains.molecules import official_files

NAMES = ["water", "methane", "methanium", "hydrogen_cyanide", "water"]


@pytest.fixture
def folder(tmp_path, molecule):
    (tmp_path / "data").mkdir()
    write_xyz(tmp_path / "data" / "some.xyz", [molecule(name) for name in NAMES])
    return tmp_path


@pytest.fixture
def load(folder):
    return lambda **arguments: load_files(folder / "data", folder / "cache", **arguments)


def test_what_is_read_is_what_was_stored(load, molecule):
    molecules = load()
    assert len(molecules) == len(NAMES)
    assert molecules.atom_counts.tolist() == [3, 5, 6, 3, 3]
    assert molecules.histogram() == {3: 3, 5: 1, 6: 1}
    everything = molecules[:]
    for row, name in enumerate(NAMES):
        expected = molecule(name)
        mask = everything["mask"][row]
        assert mask.sum() == len(expected.symbols)
        assert tuple(SYMBOLS[t] for t in everything["types"][row][mask]) == expected.symbols
        centred = torch.tensor(expected.positions - expected.positions.mean(0)).float()
        torch.testing.assert_close(everything["positions"][row][mask], centred, atol=1e-6, rtol=0)
        assert everything["positions"][row].sum(0).abs().max() < 1e-5
        assert everything["positions"][row][~mask].abs().sum() == 0


def test_batches_are_as_wide_as_the_set_or_as_asked(load):
    molecules = load()
    assert molecules[[0, 3]]["mask"].shape == (2, 6)
    assert molecules.read([0, 3], width=9)["mask"].shape == (2, 9)
    assert molecules[3]["types"].tolist() == [0, 1, 2]
    assert molecules[torch.tensor([4, 1])]["mask"].sum(-1).tolist() == [3, 5]
    with pytest.raises(ValueError, match="a molecule has 5 atoms, more than the width of 4"):
        molecules.read([1], width=4)


def test_subset(load):
    molecules = load()
    part = molecules.subset([3, 1, 0]).subset(np.array([0, 2]))
    assert part.indices.tolist() == [3, 0]
    assert part.atom_counts.tolist() == [3, 3]
    assert part.width == 3
    torch.testing.assert_close(part[1]["positions"], molecules[0]["positions"])
    torch.testing.assert_close(part.keys(), molecules.keys()[[3, 0]])


def test_arrays_are_mapped_and_batches_do_not_write_through(load):
    molecules = load()
    assert isinstance(molecules.arrays["positions"], np.memmap)
    batch = molecules[:]
    batch["positions"] += 1
    batch["types"] += 1
    assert molecules[:]["positions"].abs().max() < 2
    assert molecules[0]["types"].tolist() == [3, 0, 0]


def test_parsed_once(load, monkeypatch):
    first = load()
    monkeypatch.setattr(dataset, "read_molecules", lambda paths: pytest.fail("parsed again"))
    assert load().folder == first.folder


@pytest.mark.parametrize("change", ["content", "time", "another file", "argument"])
def test_a_change_makes_another_set(load, folder, molecule, change):
    first = load()
    source = folder / "data" / "some.xyz"
    if change == "content":
        write_xyz(source, [molecule("water")])
    elif change == "time":
        os.utime(source, ns=(0, 0))
    elif change == "another file":
        write_xyz(folder / "data" / "more.xyz", [molecule("water")])
    again = load(max_atoms=99) if change == "argument" else load()
    assert again.folder != first.folder
    assert len(again) == {"content": 1, "time": 5, "another file": 6, "argument": 5}[change]
    assert len(MoleculeSet(first.folder)) == 5


def test_what_is_left_out_is_counted_and_told(folder, load, caplog):
    with (folder / "data" / "some.xyz").open("a") as file:
        file.write("2\n\nH 0 0 0\nCl 0 0 1.27\n")
    molecules = load(max_atoms=5)
    assert len(molecules) == 4
    assert molecules.manifest["left_out"] == {"elements Cl": 1, "more than 5 atoms": 1}
    told = [
        f"1 x more than 5 atoms: left out; the first is {folder}/data/some.xyz:13 (methanium): 6",
        f"1 x elements Cl: left out; the first is {folder}/data/some.xyz:31",
    ]
    assert caplog.messages == told
    parts = [MoleculeFiles([str(folder / "data")], max_atoms=5, cache=str(folder / "cache"), part="all")] * 2
    assert [(len(part.molecules), part.width) for part in parts] == [(4, 5)] * 2
    assert caplog.messages == told * 2
    with pytest.raises(ValueError, match=r"no molecule is left of .*more than 2 atoms"):
        load(max_atoms=2)


def test_nothing_half_written_stays(folder, load):
    with (folder / "data" / "some.xyz").open("a") as file:
        file.write("2\n\nH 0 0 0\n")
    with pytest.raises(FormatError, match=r"some\.xyz:31: the file ends inside the frame"):
        load()
    assert [path.suffix for path in (folder / "cache").iterdir()] == [".lock"]


def test_a_folder_that_is_killed_while_written_is_not_taken_for_complete(tmp_path, molecule):
    """The rename is the last thing that happens: before it, a second attempt starts afresh."""
    attempts = []

    def make(left_out):
        attempts.append(1)
        yield molecule("water")
        if len(attempts) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stored(tmp_path, "some", {}, make)
    assert len(stored(tmp_path, "some", {}, make)) == 1
    assert len(stored(tmp_path, "some", {}, make)) == 1
    assert len(attempts) == 2


def test_keys_are_kept(load, monkeypatch):
    molecules = load()
    keys = molecules.keys()
    assert keys[0] == keys[4] == smiles_key("[H]O[H]")
    assert keys[2] == UNPARSEABLE
    assert known_keys(molecules).tolist() == sorted({int(key) for key in keys} - {UNPARSEABLE})
    monkeypatch.setattr(dataset, "perceive", lambda samples: pytest.fail("worked out again"))
    torch.testing.assert_close(load().keys(), keys)


def test_qm9_is_sorted_and_relieved_of_the_uncharacterised(tmp_path, molecule):
    """From the original archive, out of order, and from gdb9.sdf: the same set."""
    frames = {58: "methane", 21: "ammonia", 3: "water", 7: "ethylene", 133885: "methane", 5: "hydrogen_cyanide"}
    members = {f"{i:06d}.xyz": official_files.qm9_xyz(molecule(name), i) for i, name in frames.items()}
    archive = official_files.tar(tmp_path / "dsgdb9nsd.xyz.tar.bz2", members)
    records = [official_files.sdf_record(molecule(name), f"gdb_{i}") for i, name in sorted(frames.items())]
    (tmp_path / "gdb9.sdf").write_text("".join(records))
    exclusions = tmp_path / "uncharacterized.txt"
    exclusions.write_text(official_files.UNCHARACTERIZED)
    from_xyz, from_sdf = (load_files(path, tmp_path / "cache", exclusions) for path in (archive, tmp_path / "gdb9.sdf"))
    assert from_xyz.manifest["left_out"] == from_sdf.manifest["left_out"] == {"uncharacterised": 3}
    assert from_xyz.atom_counts.tolist() == [3, 3, 6]
    smiles = [perceived.smiles for perceived in perceive(from_xyz[:])]
    assert smiles == ["[H]O[H]", "[H]C#N", "[H]C([H])=C([H])[H]"]
    torch.testing.assert_close(from_xyz[:]["positions"], from_sdf[:]["positions"], atol=1e-4, rtol=0)


def test_a_number_of_qm9_that_is_there_twice_is_refused(tmp_path, molecule):
    """As where both the archive and what was unpacked of it are named; one would go without a word."""
    exclusions = tmp_path / "uncharacterized.txt"
    exclusions.write_text(official_files.UNCHARACTERIZED)
    (tmp_path / "part.xyz").write_text(official_files.qm9_xyz(molecule("water"), 3))
    (tmp_path / "other.xyz").write_text(official_files.qm9_xyz(molecule("methane"), 3))
    paths = [tmp_path / "part.xyz", tmp_path / "other.xyz"]
    with pytest.raises(
        ValueError, match=r"other\.xyz:1: gdb_3 is also in .*part\.xyz:1; give every molecule of QM9 once"
    ):
        load_files(paths, tmp_path / "cache", exclusions)


def test_exclusions_ask_for_identifiers(load, tmp_path):
    exclusions = tmp_path / "uncharacterized.txt"
    exclusions.write_text(official_files.UNCHARACTERIZED)
    with pytest.raises(ValueError, match=r"the name 'water' should be gdb_<number>"):
        load(exclusions=exclusions)


def test_qm7(test_data, tmp_path):
    molecules = load_files(test_data / "qm7_xyz" / "qm7_xyz.tar.gz", tmp_path, max_atoms=12)
    assert molecules.manifest["left_out"].keys() >= {"more than 12 atoms"}
    left_out = Counter(molecules.manifest["left_out"])
    assert len(molecules) + left_out.total() == 7101
    assert sum(count for reason, count in left_out.items() if "S" in reason.split()) == 298
    assert json.loads((molecules.folder / "manifest.json").read_text())["molecules"] == len(molecules) == 842
    stable = sum(molecule.stable for molecule in perceive(molecules[:]))
    assert round(100 * stable / len(molecules), 1) == 91.2


def test_sample_of_qm9(test_data, tmp_path):
    path = test_data / "qm9_sample" / "qm9_sample.xyz"
    molecules = load_files(path, tmp_path)
    assert len(molecules) == 100
    assert molecules.width == max(len(molecule.symbols) for molecule in read_molecules(path))
    assert sum(molecule.stable for molecule in perceive(molecules[:])) == 95


@pytest.mark.parametrize("what", ["flat", "heavy"])
def test_drawings_and_heavy_atoms_alone_are_told(tmp_path, what, caplog, molecule):
    from rdkit import Chem
    from rdkit.Chem import AllChem

    drawn = Chem.MolFromSmiles("CC(O)CC")
    if what == "flat":
        drawn = Chem.AddHs(drawn)
    AllChem.Compute2DCoords(drawn)
    if what == "heavy":
        AllChem.EmbedMolecule(drawn, randomSeed=0)
    (tmp_path / "a.sdf").write_text((Chem.MolToMolBlock(drawn) + "$$$$\n") * 2)
    load_files(tmp_path / "a.sdf", tmp_path / "cache")
    said = {"flat": "2 of 2 molecules with more than 3 atoms are flat", "heavy": "2 of 2 .* have no hydrogen"}
    assert re.search(said[what], caplog.text)
    caplog.clear()
    write_xyz(tmp_path / "b.xyz", [molecule("methane"), molecule("ethylene"), molecule("nitrogen")])
    load_files(tmp_path / "b.xyz", tmp_path / "cache")
    assert not caplog.text
