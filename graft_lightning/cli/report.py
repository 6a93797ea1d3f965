"""``report``: report.md, images and report.json from run folders."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from graft_lightning.reports.document import write_report


def run_report(args: Sequence[str]) -> None:
    """Compares the runs in the given folders: method by metric, means with 95 % intervals."""
    parser = argparse.ArgumentParser(prog="python -m graft_lightning report", description=run_report.__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="run folders, or folders that hold some")
    parser.add_argument("--out", type=Path, help="folder of the report; the first run folder by default")
    parser.add_argument("--title", default="Comparison", help="heading of the report")
    parser.add_argument("--stage", default="test", choices=["test", "validate"], help="which held-out conditions")
    options = parser.parse_args(list(args))
    section = {"title": options.title, "stage": options.stage}
    try:
        print(f"report: {write_report(options.folders, options.out or options.folders[0], section)}")
    except FileNotFoundError as error:
        parser.error(str(error))
