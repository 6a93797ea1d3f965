"""``new``: a folder to start from, with an experiment and a reward of one's own."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from graft_lightning.cli.command import Command
from graft_lightning.shipped import config_file


def run_new(args: Sequence[str]) -> None:
    """Writes a folder with an experiment to change, begun from another, and its reward as a function of your own.

    Raises:
        FileExistsError: if the folder is there already.
        SettingsError: if the experiment has no reward.
    """
    parser = Command("new", run_new)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="that is made; one that is there is refused")
    parser.add_argument(
        "--from",
        dest="source",
        metavar="FILE",
        default="experiments/digits/pgraft.yaml",
        help="the YAML of a run that draws and scores samples; %(default)s by default",
    )
    options = parser.parse_args(list(args))
    from graft_lightning.cli.beginning import EXPERIMENT, REWARDS, begin  # heavy, which --help need not wait for

    begin(options.folder, config_file(options.source), options.source)
    print(f"experiment: {options.folder / EXPERIMENT}, begun from {options.source}")
    print(f"reward: {options.folder / REWARDS}, the function `score`")
    print(f"next: cd {shlex.quote(str(options.folder))}; python -m graft_lightning plan --config {EXPERIMENT}")
