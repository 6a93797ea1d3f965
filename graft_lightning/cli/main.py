"""The entry point. It imports nothing heavy, so that ``--help`` answers at once; each command imports what it needs."""

import sys
from collections.abc import Sequence

HELP = """\
usage: python -m graft_lightning COMMAND [options]

Fine-tune diffusion and flow models on any reward by rejection sampling: GRAFT, P-GRAFT, inverse noise correction.

A run, described by one YAML file (data, collect, model, trainer):
  fit        sample the reference, accept by reward, fine-tune on the accepted
  validate   evaluate on the held-out conditions for choosing settings
  test       evaluate on the held-out conditions for reporting
  predict    write samples to files
  plan       what a configuration will cost, before anything runs
  diagnose   at which noise level the reward is decided, and where to hand off

Many runs:
  sweep      run the cells of a comparison, each once, resumable; ends in a report
  report     make report.md, pictures and report.json from run folders

Others' samples:
  score      the metrics of molecules in xyz or SD files, as JSON

A fine-tuned diffusers pipeline, for use without this package:
  export     LoRA or network, hand-off as metadata and as callback, model card
  verify     draw an export's samples again with plain diffusers and compare

  python -m graft_lightning fit --config experiments/digits/pgraft.yaml
  python -m graft_lightning fit --config experiments/digits/pgraft.yaml --model.handoff 0.5 --trainer.max_steps 800
  python -m graft_lightning fit --help               every option of fit
  python -m graft_lightning fit --config FILE --print_config
  tensorboard --logdir runs
"""


def main(args: Sequence[str] | None = None) -> None:
    """Runs one command.

    Args:
        args: the command line without the program's name; the process's own by default.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP)
        return
    if arguments[0] == "--version":
        from graft_lightning import __version__

        print(__version__)
        return
    command, rest = arguments[0], arguments[1:]
    if command == "report":
        from graft_lightning.cli.report import run_report

        run_report(rest)
    elif command == "score":
        from graft_lightning.cli.score import run_score

        run_score(rest)
    elif command == "export":
        from graft_lightning.cli.export import run_export

        run_export(rest)
    elif command == "verify":
        from graft_lightning.cli.verify import run_verify

        run_verify(rest)
    elif command == "sweep":
        from graft_lightning.cli.sweep import run_sweep

        run_sweep(rest)
    else:
        from graft_lightning.cli.lightning import run_lightning

        run_lightning(args)
