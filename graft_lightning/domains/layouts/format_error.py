"""What readers raise."""

from graft_lightning.types import SettingsError

SHOWN = 240
"""Characters of a problem, which may quote a line."""


class FormatError(SettingsError):
    """A file does not hold what its format promises.

    Args:
        path: the file, or archive and member.
        problem: what is there, and what would be right.
    """

    def __init__(self, path: object, problem: str) -> None:
        if len(problem) > SHOWN:  # a line of a file that is no text has no end
            problem = f"{problem[: SHOWN // 2]} ... {problem[-SHOWN // 2 :]}"
        super().__init__(f"{path}: {problem}")
