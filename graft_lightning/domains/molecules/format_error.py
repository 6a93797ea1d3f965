"""What readers raise."""


class FormatError(ValueError):
    """A file does not hold what its format promises.

    Args:
        path: the file, or archive and member.
        line: counted from 1.
        problem: what is there, and what would be right.
    """

    def __init__(self, path: object, line: int, problem: str) -> None:
        super().__init__(f"{path}:{line}: {problem}")
