"""``pool``: what a pool holds, its samples as files, and what a person says of them."""

import sys
from collections.abc import Sequence
from pathlib import Path

from graft_lightning.cli.command import Command
from graft_lightning.cli.words import add_layers


def run_pool(args: Sequence[str]) -> None:
    """Says what a pool holds, writes its samples as files, or takes a person's verdicts on them as a reward.

    Raises:
        SystemExit: 2 if there is no pool, or what a person gives cannot be read; names the file and the row.
    """
    parser = Command(
        "pool",
        run_pool,
        epilog="To choose by eye: --export LOOK, delete what is bad, --verdicts LOOK; then fit --data.reward human.",
    )
    parser.add_argument("folder", type=Path, help="of the pool, or of a run that uses it")
    parser.add_argument("--table", type=Path, metavar="FILE", help="write a CSV table: id, condition, seed, scores")
    parser.add_argument("--export", type=Path, metavar="FOLDER", help="write a file a sample, and that table")
    parser.add_argument("--round", type=int, help="of which round; all by default")
    parser.add_argument("--draws", type=int, help="at most so many samples of each condition, the first ones")
    add_layers(parser, "that filled the pool; by default the run's or its own")
    parser.add_argument(
        "--verdicts",
        type=Path,
        metavar="PATH",
        help="an exported folder, from which bad samples were deleted; or a CSV of id and score",
    )
    parser.add_argument("--score", metavar="COLUMN", help="column of that CSV; score by default")
    parser.add_argument("--name", default="human", help="of the reward that verdicts become")
    parser.add_argument("--replace", action="store_true", help="where it has other verdicts, put these aside")
    options = parser.parse_args(list(args))
    if options.draws is not None and options.draws < 1:
        parser.error(f"--draws {options.draws}: it must be at least 1")
    from graft_lightning.cli.pooling import REFUSALS, work_on_pool  # heavy, which --help need not wait for

    try:
        work_on_pool(options)
    except REFUSALS as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None
