import numpy as np
import pytest

from graft_lightning.domains.molecules.format_error import FormatError
from graft_lightning.domains.molecules.sdf import read_sdf, write_sdf
from tests.domains.molecules.official_files import sdf_record, sdf_record_v3000


def read(text: str):
    return list(read_sdf(text.splitlines(keepends=True), "some.sdf"))


@pytest.mark.parametrize("record", [sdf_record, sdf_record_v3000])
def test_records(molecule, record):
    names = ["methane", "water", "hydrogen_cyanide"]
    found = read("".join(record(molecule(name), f"gdb_{i}") for i, name in enumerate(names)))
    assert [m.name for m in found] == ["gdb_0", "gdb_1", "gdb_2"]
    for name, got in zip(names, found, strict=True):
        assert got.symbols == molecule(name).symbols
        np.testing.assert_allclose(got.positions, molecule(name).positions, atol=5e-5)
    assert found[1].source == "some.sdf:" + str(1 + record(molecule("methane"), "").count("\n"))


def test_mol_file_without_end_of_record(molecule):
    (found,) = read(sdf_record(molecule("water"), "w").replace("$$$$\n", ""))
    assert found.symbols == ("O", "H", "H")


def test_numbers_that_touch():
    """Columns are fixed; -100.1234 fills its ten columns with no blank before it."""
    row = f"{1.5:10.4f}{-1000.1234:10.4f}{-2000.25:10.4f} C   0  0"
    assert "-1000.1234-2000.2500" in row
    (found,) = read("\n".join(["", "", "", "  1  0  0  0  0  0  0  0  0  0999 V2000", row, "M  END"]))
    np.testing.assert_allclose(found.positions, [[1.5, -1000.1234, -2000.25]])


COUNTS = "  2  0  0  0  0  0  0  0  0  0999 V2000"
ATOM = "    0.0000    0.0000    0.0000 O   0  0"


@pytest.mark.parametrize(
    ("lines", "line", "problem"),
    [
        (["title", "", "$$$$"], 1, "it should have a counts line as its fourth"),
        (["t", "", "", "many atoms", "$$$$"], 4, "should begin with the number of atoms"),
        (["t", "", "", COUNTS, ATOM, "$$$$"], 4, "2 atoms are announced, 1 lines follow"),
        (["t", "", "", COUNTS, ATOM, "M  END", "$$$$"], 6, "should be an element's symbol"),
        (["t", "", "", COUNTS, ATOM, ATOM.replace(" O ", " Xx"), "$$$$"], 6, "'Xx' in"),
        (["t", "", "", COUNTS, ATOM, ATOM.replace("0.0000 O", "   nan O"), "$$$$"], 6, "should be finite"),
        (["t", "", "", COUNTS, ATOM, ATOM.replace("0.0000 O", "0.o000 O"), "$$$$"], 6, "three coordinates"),
        (["t", "", "", COUNTS.replace("2", "0", 1), "M  END", "$$$$"], 4, "a record without atoms"),
        (["t", "", "", "  0  0  0     0  0            999 V3000", "M  END"], 4, "'M  V30 BEGIN ATOM'"),
        (["t", "", "", "999 V3000", "M  V30 BEGIN ATOM", "M  V30 1 C 0 0", "M  V30 END ATOM"], 6, "should be 'M  V30"),
    ],
)
def test_malformed(molecule, lines, line, problem):
    good = sdf_record(molecule("water"), "before")
    with pytest.raises(FormatError) as caught:
        read(good + "\n".join(lines) + "\n")
    assert str(caught.value).startswith(f"some.sdf:{line + good.count(chr(10))}: ")
    assert problem in str(caught.value)


def test_what_is_written_rdkit_reads(tmp_path, molecule):
    """Bonds and geometry survive: RDKit, given the file, names the same molecule."""
    from rdkit import Chem

    path = tmp_path / "out.sdf"
    names = ["methane", "ethylene", "hydrogen_cyanide", "water_and_methane"]
    write_sdf(path, [molecule(name) for name in names])
    read_by_rdkit = list(Chem.SDMolSupplier(str(path), removeHs=False))
    assert [mol.GetProp("_Name") for mol in read_by_rdkit] == names
    smiles = ["C", "C=C", "C#N", "C.O"]
    assert [Chem.MolToSmiles(Chem.RemoveHs(mol)) for mol in read_by_rdkit] == smiles
    np.testing.assert_allclose(
        read_by_rdkit[1].GetConformer().GetPositions(), molecule("ethylene").positions, atol=5e-5
    )
    with path.open() as file:
        assert [m.symbols for m in read_sdf(file, path)] == [molecule(name).symbols for name in names]


def test_properties_are_written_as_data_items(tmp_path, molecule):
    from dataclasses import replace

    from rdkit import Chem

    path = tmp_path / "out.sdf"
    write_sdf(path, [replace(molecule("water"), properties={"reward": 0.25})])
    (mol,) = Chem.SDMolSupplier(str(path), removeHs=False)
    assert float(mol.GetProp("reward")) == 0.25
