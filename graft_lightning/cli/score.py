"""``score``: anybody's molecules, judged by the rules and metrics that runs are judged by."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence


def run_score(args: Sequence[str]) -> None:
    """Prints the metrics of molecules in files as JSON: fractions, counts, and the median strain in kcal/mol.

    Raises:
        SystemExit: 2 if a file is absent, cut short or damaged, or no molecule of all files can be read; the message
            names the file. One molecule that cannot be read counts as invalid, and is warned of.
    """
    parser = argparse.ArgumentParser(
        prog="python -m graft_lightning score",
        description="Prints the metrics of molecules as JSON: atom_stability, molecule_stability, validity, "
        "uniqueness, valid_unique, connectivity, and novelty where --train is given (fractions); strain (median of "
        "MMFF94, kcal/mol) and strain_judged.",
    )
    parser.add_argument("kind", choices=["molecules"], help="what is judged")
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILES",
        help="xyz (one or many frames; also extended, or EDM's .txt), SDF, folders, or archives of such",
    )
    parser.add_argument("--train", nargs="+", metavar="FILES", help="training molecules, for novelty")
    parser.add_argument("--cache", help="folder in which the training set's keys are kept for the next time")
    parser.add_argument("--no-strain", action="store_true", help="leave strain out, which takes most of the time")
    options = parser.parse_args(list(args))
    # Heavy: RDKit and torch, which --help must not wait for.
    from graft_lightning.domains.molecules.format_error import FormatError
    from graft_lightning.domains.molecules.score import score

    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        found = score(options.files, options.train, options.cache, not options.no_strain, progress=True)
    except (FileNotFoundError, FormatError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None
    print(json.dumps(found, indent=1))
