"""Processes that wait for one another: of work taken by whoever is free, nothing is left for one that starts late."""

import time
from pathlib import Path


def wait_for(file: Path, seconds: float = 30) -> None:
    """Until another process has written the file; at most so long, for it may have failed earlier than it should."""
    end = time.monotonic() + seconds
    while not file.exists() and time.monotonic() < end:
        time.sleep(0.01)
