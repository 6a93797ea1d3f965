"""``score``: anybody's samples, judged by the rules and metrics that runs of a domain are judged by."""

import json
import logging
import sys
from collections.abc import Sequence

from graft_lightning import domains
from graft_lightning.cli.command import Command


def run_score(args: Sequence[str]) -> None:
    """Prints the metrics of samples in files as JSON.

    Raises:
        SystemExit: 2 if there is no such domain, or a file is absent or malformed; the message names it.
    """
    parser = Command(
        "score",
        run_score,
        "What a domain reads and which options it has: python -m graft_lightning score DOMAIN --help.",
    )
    there = domains.offering("score")
    parser.add_argument("domain", choices=there, help=f"whose metrics: {', '.join(there) or 'no domain offers any'}")
    parser.add_argument("files", nargs="+", metavar="FILES", help="what is judged")
    place = next((place for place, text in enumerate(args) if text in there), None)
    if place is None:
        parser.parse_args(list(args))  # helps, or tells what is wrong
        return
    name = args[place]
    scorer = domains.offered(name, "score")
    own = Command(f"score {name}", run_score, scorer.__doc__ or "")
    scorer.add_arguments(own)
    options = own.parse_args([*args[:place], *args[place + 1 :]])
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        found = scorer.scores(options)
    except (FileNotFoundError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None
    print(json.dumps(found, indent=1))
