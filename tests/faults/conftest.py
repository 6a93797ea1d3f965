"""Prints at the end what was counted."""

from tests.faults.counting import COUNTS


def pytest_terminal_summary(terminalreporter):
    for what, counts in COUNTS.items():
        listed = ", ".join(f"{number} {outcome}" for outcome, number in sorted(counts.items()))
        terminalreporter.write_line(f"{what}, {sum(counts.values())} cases: {listed}")
