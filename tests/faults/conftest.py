"""Prints at the end what was counted, and fails where the guide says otherwise."""

import pytest

from tests.faults.counting import COUNTS, untrue


def pytest_sessionfinish(session, exitstatus):
    alone = not hasattr(session.config, "workerinput")  # one of several processes has seen some of the cases
    if alone and exitstatus == pytest.ExitCode.OK and untrue():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter):
    for what, counts in COUNTS.items():
        listed = ", ".join(f"{number} {outcome}" for outcome, number in sorted(counts.items()))
        terminalreporter.write_line(f"{what}, {sum(counts.values())} cases: {listed}")
    for line in untrue():
        terminalreporter.write_line(line)
