"""What the fault tests have seen, by kind, for the summary at the end of a session, and what the guide says of it."""

import re
from collections import Counter
from pathlib import Path

GUIDE = Path(__file__).parents[2] / "experiments/guides/runs.md"
KINDS = (
    "kill points",
    "damaged files",
    "mutated configurations",
    "mistaken command lines",
    "full disks",
    "failing processes",
)

COUNTS: dict[str, Counter[str]] = {}


def count(what: str, outcome: str) -> str:
    """Counts one case. Returns the outcome."""
    COUNTS.setdefault(what, Counter())[outcome] += 1
    return outcome


def told() -> dict[str, int]:
    """How many cases of each kind the guide speaks of."""
    text = " ".join(GUIDE.read_text(encoding="utf-8").split())
    found = ((kind, re.search(rf"(\d+) {kind}", text)) for kind in KINDS)
    return {kind: int(match[1]) for kind, match in found if match}


def untrue() -> list[str]:
    """In what the guide differs from what was seen, where everything was tried: one sentence a kind."""
    if set(COUNTS) != set(KINDS):
        return []
    seen = {kind: sum(counts.values()) for kind, counts in COUNTS.items()}
    return [
        f"{GUIDE.name} speaks of {told().get(kind)} {kind}, and there were {n}"
        for kind, n in seen.items()
        if told().get(kind) != n
    ]
