"""``rescore``: further rewards on what a pool holds."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graft_lightning.cli.command import Command
from graft_lightning.cli.words import add_layers


def run_rescore(args: Sequence[str]) -> None:
    """Scores the samples that a pool holds by further rewards; nothing is drawn. Resumable, by several processes too.

    Raises:
        SystemExit: 2 if the pool or a reward cannot be used.
    """
    parser = Command("rescore", run_rescore)
    parser.add_argument("folder", type=Path, help="of the pool, or of a run that uses it")
    parser.add_argument(
        "--reward",
        action="append",
        required=True,
        metavar="REWARD",
        help="a class by its name or dotted path, a function (samples, conditions) -> scores by its path, a YAML file, "
        "or {class_path: …, init_args: …}; may be given again",
    )
    parser.add_argument("--anew", action="store_true", help="put the scores of a reward that has changed aside")
    add_layers(parser, "that filled the pool; by default the run's or its own")
    parser.add_argument("--batch_size", type=int, default=256, help="samples scored at a time")
    parser.add_argument("--accelerator", default="auto", help="cpu, gpu; what there is by default")
    parser.add_argument("--devices", default="1", help="processes or GPUs of one machine")
    parser.add_argument("--num_nodes", type=int, default=1, help="machines")
    parser.add_argument("--strategy", help="how processes share; ddp for several by default")
    options = parser.parse_args(list(args))
    from graft_lightning.cli.rescoring import REFUSALS, rescore_pool  # heavy, which --help need not wait for

    several = options.devices not in ("1", "auto") or options.num_nodes > 1
    trainer: dict[str, Any] = {
        "accelerator": options.accelerator,
        "devices": int(options.devices) if options.devices.lstrip("-").isdecimal() else options.devices,
        "num_nodes": options.num_nodes,
        "strategy": options.strategy or ("ddp" if several else "auto"),
    }
    try:
        rescore_pool(options.folder, options.reward, options.config, options.anew, options.batch_size, trainer)
    except REFUSALS as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None
