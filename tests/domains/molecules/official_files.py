"""Files as QM9's authors and DeepChem publish them, made from hand-written molecules."""

import io
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from graft_lightning.domains.molecules.atoms import Molecule
from graft_lightning.domains.molecules.xyz import QM9_PROPERTIES

PROPERTIES = "A B C mu alpha homo lumo gap r2 zpve u0 u298 h298 g298 cv u0_atom u298_atom h298_atom g298_atom"
CSV_COLUMNS = ("mol_id", "smiles", *PROPERTIES.split())


def qm9_xyz(molecule: Molecule, identifier: int, smiles: str = "C") -> str:
    """A frame of ``dsgdb9nsd.xyz``, with the exponents that Fortran left in it."""
    properties = [str(float(value)) for value in range(1, len(QM9_PROPERTIES) + 1)]
    lines = [str(len(molecule.symbols)), f"gdb {identifier}\t" + "\t".join(properties)]
    for symbol, position in zip(molecule.symbols, molecule.positions, strict=True):
        numbers = [f"{value:.10f}" if abs(value) > 1e-3 else f"{value * 1e6:.4f}*^-6" for value in position]
        lines.append("\t".join([symbol, *numbers, "-0.5*^-1"]))
    lines.append("1341.307\t1341.3284\t1.2*^3")
    lines.append(f"{smiles}\t{smiles}")
    lines.append("InChI=1S/CH4/h1H4\tInChI=1S/CH4/h1H4")
    return "\n".join(lines) + "\n"


def sdf_record(molecule: Molecule, title: str) -> str:
    """A V2000 record as in ``gdb9.sdf``."""
    lines = [title, " -OEChem-03231823243D", "", f"{len(molecule.symbols):3d}  0  0     0  0  0  0  0  0999 V2000"]
    for symbol, (x, y, z) in zip(molecule.symbols, molecule.positions, strict=True):
        lines.append(f"{x:10.4f}{y:10.4f}{z:10.4f} {symbol:<3} 0  0  0  0  0  0  0  0  0  0  0  0")
    return "\n".join([*lines, "M  END", "$$$$", ""])


def sdf_record_v3000(molecule: Molecule, title: str) -> str:
    lines = [title, "  made by hand", "", "  0  0  0     0  0            999 V3000", "M  V30 BEGIN CTAB"]
    lines += [f"M  V30 COUNTS {len(molecule.symbols)} 0 0 0 0", "M  V30 BEGIN ATOM"]
    for i, (symbol, (x, y, z)) in enumerate(zip(molecule.symbols, molecule.positions, strict=True), start=1):
        lines.append(f"M  V30 {i} {symbol} {x:.4f} {y:.4f} {z:.4f} 0")
    return "\n".join([*lines, "M  V30 END ATOM", "M  V30 END CTAB", "M  END", "$$$$", ""])


def csv_table(rows: Sequence[tuple[str, str]]) -> str:
    """``gdb9.sdf.csv``: names and SMILES given, numbers made up."""
    numbers = ",".join(str(0.5 * i) for i in range(len(CSV_COLUMNS) - 2))
    return "\n".join([",".join(CSV_COLUMNS), *(f"{name},{smiles},{numbers}" for name, smiles in rows), ""])


def tar(path: Path, members: dict[str, str]) -> Path:
    """An archive, compressed as its name says."""
    with tarfile.open(path, "w:" + path.suffix.removeprefix(".").replace("tgz", "gz")) as archive:
        for name, text in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return path


def zipped(path: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


UNCHARACTERIZED = """\
Molecules whose geometry did not survive the check

 Index    SMILES of GDB9     SMILES of the relaxed geometry
----------------------------------------------------------
     21   CC(C)C             CCC
  58   C#N
 133885  N1CC1  C
----------------------------------------------------------
"""
"""The layout of QM9's list of uncharacterised molecules: numbers first, prose around them."""
