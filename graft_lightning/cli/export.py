"""``export``: a run's fine-tuned model for use without this package."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def run_export(args: Sequence[str]) -> None:
    """Writes a run's fine-tuned model in its domain's own form, with the hand-off, a model card and its proof."""
    parser = argparse.ArgumentParser(prog="python -m graft_lightning export", description=run_export.__doc__)
    parser.add_argument("run", type=Path, help="folder of the run, with config.yaml and a checkpoint")
    parser.add_argument("--ckpt_path", type=Path, help="the checkpoint; the newest below the run by default")
    parser.add_argument("--out", type=Path, help="folder of the export; `export` in the run's folder by default")
    parser.add_argument("--samples", type=int, default=4, help="images that `verify` will draw again")
    parser.add_argument("--device", default="cpu", help="where those are drawn")
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
    print(f"export: {out}\nprove it: python -m graft_lightning verify {out}")
