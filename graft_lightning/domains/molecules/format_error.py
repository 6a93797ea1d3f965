"""What readers raise."""

from graft_lightning.types import SettingsError


class FormatError(SettingsError):
    """A file does not hold what its format promises.

    Args:
        path: the file, or archive and member.
        line: counted from 1.
        problem: what is there, and what would be right.
        atoms: of the molecule that cannot be read, where their number is known.
    """

    def __init__(self, path: object, line: int, problem: str, atoms: int = 0) -> None:
        super().__init__(f"{path}:{line}: {problem}")
        self.atoms = atoms
