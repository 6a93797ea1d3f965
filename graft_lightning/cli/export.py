"""``export``: a run's fine-tuned model for use without this package."""

import sys
from collections.abc import Sequence
from pathlib import Path

from graft_lightning.cli.command import Command
from graft_lightning.cli.verify import run_verify


def run_export(args: Sequence[str]) -> None:
    """Writes a run's fine-tuned model in its domain's own form, with hand-off and model card, and verifies it there.

    Raises:
        SystemExit: 1 if the model draws other samples there than in the run, 2 if nothing can be exported.
    """
    parser = Command("export", run_export)
    parser.add_argument("run", type=Path, help="folder of the run, with config.yaml and a checkpoint")
    parser.add_argument("--ckpt_path", type=Path, help="the checkpoint; the newest below the run by default")
    parser.add_argument("--out", type=Path, help="folder of the export; `export` in the run's folder by default")
    parser.add_argument("--samples", type=int, default=4, help="images that `verify` will draw again")
    parser.add_argument("--device", default="cpu", help="where those are drawn")
    parser.add_argument(
        "--no-verify", dest="verify", action="store_false", help="leave out `verify`, which takes as long as sampling"
    )
    merged = parser.add_mutually_exclusive_group()
    merged.add_argument("--merge", action="store_true", default=None, help="write a whole pipeline with merged weights")
    merged.add_argument("--no-merge", dest="merge", action="store_false", help="write none, even for GRAFT")
    options = parser.parse_args(list(args))
    from graft_lightning.cli.exporting import REFUSALS, export_run  # heavy, which --help need not wait for

    try:
        out = export_run(options.run, options.ckpt_path, options.out, options.samples, options.merge, options.device)
    except REFUSALS as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None
    print(f"export: {out}\nprove it again: python -m graft_lightning verify {out}", flush=True)
    if options.verify:
        run_verify([str(out), f"--device={options.device}"])
