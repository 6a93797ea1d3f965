"""``picture``: samples before and after fine-tuning, of the same seeds, in one PNG."""

import sys
from collections.abc import Sequence
from pathlib import Path

from graft_lightning.cli.command import Command


def run_picture(args: Sequence[str]) -> None:
    """Draws held-out samples of runs from the same seeds, before fine-tuning and after, side by side in one PNG.

    Raises:
        SystemExit: 2 if a run cannot be opened, or its samples not be drawn.
    """
    parser = Command("picture", run_picture)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of runs, or TITLE=FOLDER; a row of images each")
    parser.add_argument("--out", type=Path, help="the file; `picture.png` in the first run's folder by default")
    parser.add_argument("--samples", type=int, default=24, help="samples of each run, before and after")
    parser.add_argument("--columns", type=int, default=6, help="samples side by side")
    parser.add_argument("--device", default="cpu", help="where they are drawn")
    options = parser.parse_args(list(args))
    from graft_lightning.cli.exporting import REFUSALS  # heavy, which --help need not wait for
    from graft_lightning.cli.picturing import draw_picture, titled

    rows = [titled(text) for text in options.runs]
    out = options.out or rows[0][1] / "picture.png"
    try:
        lines = draw_picture(rows, out, options.samples, options.columns, options.device)
    except REFUSALS as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None
    print("\n".join(lines))
    print(
        f"picture: {out} ({out.stat().st_size / 1000:.0f} kB)\nall figures with intervals: "
        f"python -m graft_lightning report {rows[0][1]} --stage validate"
    )
