"""What is refused: bad input and damaged files, told in one sentence, without a traceback. Imports nothing."""


class Refusal(Exception):
    """Whatever a user can put right; the message names what is wrong, its value, and what would be right.

    The command line prints the message alone and exits with 2.
    """


class SettingsError(Refusal, ValueError):
    """Settings that contradict each other; the message names the key, the value and what would be right."""


class DamagedFile(SettingsError):
    """A file that is truncated, or whose bytes are not those that were written; the message says what to do."""


def damaged(path: object, what: str, remedy: str) -> DamagedFile:
    """The error for a file that cannot be used as it is.

    Args:
        path: of the file.
        what: is wrong with it.
        remedy: what to do, as an imperative.
    """
    return DamagedFile(f"{path} is damaged: {what.rstrip('.')}; {remedy}")


def first_line(error: BaseException) -> str:
    """What an error says, on one line: its first, with the next where that ends in a colon; its class for nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = 1 + next((place for place, line in enumerate(lines) if not line.endswith(":")), len(lines))
    return " ".join(lines[:said]) or type(error).__name__
