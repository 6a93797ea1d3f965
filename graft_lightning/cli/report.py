"""``report``: report.md, images and report.json from run folders."""

import sys
from collections.abc import Sequence
from pathlib import Path

from graft_lightning.cli.command import Command
from graft_lightning.reports.comparison import NoRuns
from graft_lightning.reports.document import write_report


def run_report(args: Sequence[str]) -> None:
    """Compares the runs in the given folders: method by metric, means with 95 % intervals.

    Raises:
        SystemExit: 1 if no run was evaluated in the stage, 2 if a folder is absent.
    """
    parser = Command("report", run_report)
    parser.add_argument("folders", nargs="+", type=Path, help="run folders, or folders that hold some")
    parser.add_argument("--out", type=Path, help="folder of the report; the first run folder by default")
    parser.add_argument("--title", default="Comparison", help="heading of the report")
    parser.add_argument("--stage", default="test", choices=["test", "validate"], help="which held-out conditions")
    options = parser.parse_args(list(args))
    section = {"title": options.title, "stage": options.stage, "apart": True}
    if absent := [str(folder) for folder in options.folders if not folder.is_dir()]:
        parser.error(f"there is no folder {', '.join(absent)}: has a run been evaluated?")
    try:
        print(f"report: {write_report(options.folders, options.out or options.folders[0], section)}")
    except NoRuns as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from None
    print(f"its figures lie beside it; curves and images: tensorboard --logdir {options.folders[0]}")
