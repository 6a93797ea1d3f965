"""``sweep``: the cells of a comparison, each run once, in parallel chains; ends in a report."""

import sys
from collections.abc import Sequence
from pathlib import Path

from graft_lightning.cli.command import Command

LAUNCHERS = ("local", "submitit")


def run_sweep(args: Sequence[str]) -> None:
    """Runs the cells of a comparison that are not done yet, each once, and writes the report.

    Raises:
        SystemExit: 1 if a cell failed (the others are run all the same), 2 if the file is mistaken.
    """
    parser = Command(
        "sweep",
        run_sweep,
        "A cell is done where its folder says so, or its record, which is kept beside the file and outlives the folder "
        "of runs.",
        epilog="Stop it at any time: the same command goes on. Several machines may run it on one shared folder.",
    )
    parser.add_argument("file", type=Path, help="YAML with folder, chains, cells, report")
    parser.add_argument("--jobs", type=int, help="chains at a time; the file's own number by default")
    parser.add_argument("--folder", type=Path, help="where runs go; the file's own by default")
    parser.add_argument("--only", nargs="*", help="only chains whose name starts so")
    parser.add_argument("--records", type=Path, help="where records are kept; records/NAME beside the file by default")
    parser.add_argument("--no-records", action="store_true", help="neither read nor write records")
    parser.add_argument(
        "--launcher", choices=LAUNCHERS, default="local", help="chains as processes of this machine, or as SLURM jobs"
    )
    parser.add_argument(
        "--submitit",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help="settings of the jobs: timeout_min=600 slurm_partition=gpu gpus_per_node=1; cluster=local to try it out",
    )
    options = parser.parse_args(list(args))
    # heavy, which --help need not wait for
    from graft_lightning.cli.sweeping import REFUSALS, sweep

    try:
        failed = sweep(
            options.file,
            options.folder,
            options.jobs,
            options.only,
            False if options.no_records else options.records or True,
            options.submitit if options.launcher == "submitit" else None,
        )
    except REFUSALS as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None
    if failed:
        sys.stderr.write("failed: " + ", ".join(failed) + "; the last lines are in each cell's log.txt\n")
        raise SystemExit(1)
