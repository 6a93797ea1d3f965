"""Lines with their numbers, that can be looked at before they are taken."""

from collections import deque
from collections.abc import Iterable


class NumberedLines:
    """The lines of a file from the first on, counted from 1.

    Args:
        lines: of the file.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self._rest = enumerate(lines, start=1)
        self._ahead: deque[tuple[int, str]] = deque()

    def peek(self, ahead: int = 0) -> tuple[int, str] | None:
        """The line that comes next, or that many after it; None beyond the end."""
        while len(self._ahead) <= ahead:
            item = next(self._rest, None)
            if item is None:
                return None
            self._ahead.append(item)
        return self._ahead[ahead]

    def take(self) -> tuple[int, str]:
        """The next line, which `peek` has shown."""
        return self._ahead.popleft()

    def skip_blank(self) -> tuple[int, str] | None:
        """Takes blank lines; shows what comes after them."""
        while (item := self.peek()) is not None and not item[1].strip():
            self.take()
        return item
