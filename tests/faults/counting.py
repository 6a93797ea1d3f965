"""What the fault tests have seen, by kind, for the summary at the end of a session."""

from collections import Counter

COUNTS: dict[str, Counter[str]] = {}


def count(what: str, outcome: str) -> str:
    """Counts one case. Returns the outcome."""
    COUNTS.setdefault(what, Counter())[outcome] += 1
    return outcome
