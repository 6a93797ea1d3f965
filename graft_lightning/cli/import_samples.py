"""``import``: samples that somebody has drawn and scored, as a pool."""

import sys
from collections.abc import Sequence
from pathlib import Path

from graft_lightning.cli.command import Command
from graft_lightning.cli.words import add_layers


def run_import(args: Sequence[str]) -> None:
    """Makes a pool of samples that are there, with what they were drawn for and their scores; nothing is drawn.

    Raises:
        SystemExit: 2 if table, samples or configuration cannot be used; names the file, and the line.
    """
    parser = Command(
        "import",
        run_import,
        epilog="Further options are those of fit, such as --data.pool FOLDER. The samples are x_0 alone: train on them "
        "by Graft (hand-off 0), and accept by a reward of the table: fit --data.reward NAME.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "table",
        type=Path,
        help="CSV, TSV or JSON lines: a row a sample, with its file, what it was drawn for, and scores; or a folder "
        "with one (table.csv, metadata.csv, metadata.jsonl, …)",
    )
    add_layers(parser, "of the run it is for", required=True)
    parser.add_argument(
        "--reward",
        action="append",
        required=True,
        metavar="COLUMN[=NAME]",
        help="a column of scores, the larger the better, and the reward's name, by default the column's; may be given "
        "again",
    )
    parser.add_argument("--file", metavar="COLUMN", help="of files; file, file_name, path or image by default")
    parser.add_argument(
        "--condition", metavar="COLUMN", help="of prompts; condition, prompt, text or caption by default"
    )
    parser.add_argument(
        "--draws", type=int, help="samples a condition; by default as many as the condition with the fewest has"
    )
    parser.add_argument("--device", default="cpu", help="where samples are encoded")
    options, overrides = parser.parse_known_args(list(args))
    if options.draws is not None and options.draws < 1:
        parser.error(f"--draws {options.draws}: it must be at least 1")
    from graft_lightning.cli.importing import REFUSALS, import_table  # heavy, which --help need not wait for

    try:
        import_table(options, overrides)
    except REFUSALS as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None
