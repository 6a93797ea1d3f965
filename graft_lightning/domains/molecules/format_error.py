"""What readers raise."""

from graft_lightning.types import SettingsError

SHOWN = 240
"""Characters of a problem, which may quote a line."""


class FormatError(SettingsError):
    """A file does not hold what its format promises.

    Args:
        path: the file, or archive and member.
        line: counted from 1.
        problem: what is there, and what would be right.

    Attributes:
        atoms: of the molecule that cannot be read, 0 where their number is unknown.
    """

    def __init__(self, path: object, line: int, problem: str) -> None:
        if len(problem) > SHOWN:  # a line of a file that is no text has no end
            problem = f"{problem[: SHOWN // 2]} ... {problem[-SHOWN // 2 :]}"
        super().__init__(f"{path}:{line}: {problem}")
        self.atoms = 0


class EmptyFileError(FormatError):
    """A file holds nothing where a molecule should be.

    Args:
        path: the file, or archive and member.
    """

    def __init__(self, path: object) -> None:
        super().__init__(path, 1, "the file is empty; it should hold a molecule")
