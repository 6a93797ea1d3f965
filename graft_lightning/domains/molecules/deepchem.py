"""DeepChem's copy of QM9: ``gdb9.sdf``, and its properties in ``gdb9.sdf.csv`` beside it."""

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from graft_lightning.domains.base.text_files import decoded
from graft_lightning.domains.molecules.format_error import FormatError
from graft_lightning.domains.molecules.twins import Entry


def csv_beside(path: Path) -> Path:
    """Where the table of properties of an SD file stands."""
    return path.with_name(path.name + ".csv")


def with_table(entries: Iterable[Entry], table: Path) -> Iterator[Entry]:
    """Molecules with the SMILES and properties of their row of the table.

    Raises:
        FormatError: if a row belongs to another molecule, is missing or left over, or holds no numbers.
        SettingsError: if the table is in an older encoding.
    """
    with io.StringIO(decoded(table.read_bytes(), table)) as file:
        rows = csv.DictReader(file)
        if rows.fieldnames is None or not {"mol_id", "smiles"} <= set(rows.fieldnames):
            raise FormatError(table, 1, f"the columns {rows.fieldnames} should have mol_id and smiles among them")
        for entry in entries:
            row = next(rows, None)
            if isinstance(entry, FormatError):
                yield entry
                continue
            if row is None or row["mol_id"] != entry.name:
                found = "the end" if row is None else row["mol_id"]
                raise FormatError(table, rows.line_num, f"{found} stands where {entry.name} of the sdf should")
            try:
                numbers = {key: float(value) for key, value in row.items() if key not in ("mol_id", "smiles")}
            except (TypeError, ValueError) as error:
                raise FormatError(table, rows.line_num, f"a property should be a number: {error}") from None
            yield replace(entry, smiles=row["smiles"], properties=numbers)
        left = next(rows, None)
        if left is not None:
            raise FormatError(table, rows.line_num, f"{left['mol_id']} has no molecule in the sdf")
