"""The entry point: a table of commands. It imports nothing heavy, so that ``--help`` answers at once."""

import difflib
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

from graft_lightning import __version__
from graft_lightning.cli.pages import page
from graft_lightning.cli.pipes import while_read

LIGHTNING = "graft_lightning.cli.lightning:run_lightning"
"""Takes the command's own name too; the others take what follows it."""


class Command(NamedTuple):
    """What runs a command, as ``module:function``, and one line of help."""

    target: str
    help: str


START = {
    "new": Command("graft_lightning.cli.new:run_new", "a folder with an experiment and a reward of your own"),
}
RUN = {
    "fit": Command(LIGHTNING, "sample the reference, accept by reward, fine-tune on the accepted"),
    "validate": Command(LIGHTNING, "evaluate on the held-out conditions for choosing settings"),
    "test": Command(LIGHTNING, "evaluate on the held-out conditions for reporting"),
    "predict": Command(LIGHTNING, "write samples to files"),
    "plan": Command(LIGHTNING, "what a configuration will cost, before anything runs"),
    "diagnose": Command(LIGHTNING, "at which noise level the reward is decided, and where to hand off"),
    "placebo": Command(LIGHTNING, "what the same fine-tuning does to unselected samples"),
    "tune": Command(LIGHTNING, "learning rate, weighting, average and steps, within a budget of gradient steps"),
}
POOLS = {
    "collect": Command(LIGHTNING, "fill or complete a pool, and train nothing"),
    "import": Command(
        "graft_lightning.cli.import_samples:run_import", "a pool of samples that are there, with their scores"
    ),
    "rescore": Command(
        "graft_lightning.cli.rescore:run_rescore", "score what a pool holds by further rewards; nothing is drawn"
    ),
    "pool": Command(
        "graft_lightning.cli.pool:run_pool", "what a pool holds; its samples as files; a person's verdicts on them"
    ),
}
MANY = {
    "sweep": Command(
        "graft_lightning.cli.sweep:run_sweep", "run the cells of a comparison, each once, resumable; ends in a report"
    ),
    "report": Command("graft_lightning.cli.report:run_report", "report.md, figures and report.json from run folders"),
    "picture": Command(
        "graft_lightning.cli.picture:run_picture", "samples before and after, of the same seeds, as a PNG"
    ),
}
OTHERS = {
    "serve": Command("graft_lightning.cli.serve:run_serve", "a reward in its own environment, for RemoteReward"),
    "score": Command("graft_lightning.cli.score:run_score", "metrics of samples in files, as JSON: score DOMAIN FILES"),
}
WITHOUT = {
    "export": Command(
        "graft_lightning.cli.export:run_export", "LoRA or network, hand-off as metadata and as callback, model card"
    ),
    "verify": Command("graft_lightning.cli.verify:run_verify", "draw an export's samples without us, and compare"),
}
HIDDEN = {"cell": Command("graft_lightning.cli.cell:run_cell", "one cell of a sweep, which calls it")}

GROUPS = {
    "To start from:": START,
    "A run, described by one YAML file (data, collect, model, trainer):": RUN,
    "A pool of samples, which runs share:": POOLS,
    "Many runs:": MANY,
    "Others' samples and rewards:": OTHERS,
    "A fine-tuned model, for use without this package:": WITHOUT,
}
COMMANDS = START | RUN | POOLS | MANY | OTHERS | WITHOUT | HIDDEN

HELP = f"""\
usage: python -m graft_lightning COMMAND [options]

Fine-tune diffusion and flow models on any reward by rejection sampling: GRAFT, P-GRAFT, inverse noise correction.

{
    chr(10).join(
        title + chr(10) + "".join(f"  {name:<11}{command.help}{chr(10)}" for name, command in group.items())
        for title, group in GROUPS.items()
    )
}
  python -m graft_lightning new mine --from experiments/digits/pgraft.yaml
  python -m graft_lightning fit --config experiments/digits/pgraft.yaml
  python -m graft_lightning fit --config experiments/digits/pgraft.yaml --model.handoff 0.5 --trainer.max_steps 800
  python -m graft_lightning fit --help               the options of fit that people change; --help_all for all
  python -m graft_lightning fit --config FILE --print_config
  python -m graft_lightning COMMAND ... --debug      with the traceback of whatever goes wrong (or GRAFT_DEBUG=1)
  tensorboard --logdir runs
"""


def main(args: Sequence[str] | None = None) -> None:
    """Runs one command.

    Args:
        args: the command line without the program's name; the process's own by default.

    Raises:
        SystemExit: 2 if there is no such command, or on bad input; 1 if something else goes wrong; 141 if nobody reads
            its output any more.
        KeyboardInterrupt: if it is interrupted.
    """
    if args is not None:
        with while_read():
            _run(args)
        return
    try:
        with while_read():
            _run(args)
        leave_group()
    except KeyboardInterrupt:
        _interrupted()
    except SystemExit as leave:
        if isinstance(leave.__context__, KeyboardInterrupt):  # which Lightning turns into an exit
            _interrupted()
        leave_calls(leave.code if isinstance(leave.code, int) else int(leave.code is not None))
        raise
    leave_calls(0)


def _interrupted() -> NoReturn:
    """Ends a process as its interruption does, so that a loop of a shell ends too; in one line, without a traceback."""
    if importlib.import_module("graft_lightning.cli.telling").debugging():
        traceback.print_exc()
    else:
        sys.stderr.write("\ninterrupted\n")
    leave_calls(None)
    sys.excepthook = lambda *error: None  # it is told
    raise KeyboardInterrupt


def leave_calls(code: int | None) -> None:
    """Ends a process in which a reward is still at work for a collection that has ended otherwise.

    Its thread would end the process by SIGABRT as soon as it came back from PyTorch to an interpreter that is gone.

    Args:
        code: of its exit; None where it was interrupted.
    """
    judging: Any = sys.modules.get("graft_lightning.rejection.judging")
    if judging is None or not judging.at_work():
        return
    for process in importlib.import_module("multiprocessing").active_children():
        process.terminate()  # those of a reward, which would outlive this one
    sys.stdout.flush()
    sys.stderr.flush()
    if code is not None:
        os._exit(code)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)


def leave_group() -> None:
    """Ends the process group of a process that is done, if it was in one.

    Lightning leaves one of gloo to the end of the interpreter, where a thread of it that still runs ends the process by
    SIGABRT: now and then, and then `torchrun` takes a run for failed that has done everything.
    """
    distributed: Any = sys.modules.get("torch.distributed")  # not imported for commands that do without
    if distributed and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _run(args: Sequence[str] | None) -> None:
    arguments = list(sys.argv[1:] if args is None else args)
    if "--debug" in arguments:
        os.environ["GRAFT_DEBUG"] = "1"  # in the environment, for the processes that are started too
        arguments = [text for text in arguments if text != "--debug"]
        if args is None:
            sys.argv[1:] = arguments  # which Lightning starts its processes with
        else:
            args = arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP)
        return
    name = arguments[0]
    if name == "--version":
        print(__version__)
        return
    # options may stand before a command of Lightning's
    target = LIGHTNING if name.startswith("-") else COMMANDS[name].target if name in COMMANDS else _unknown(name)
    if target == LIGHTNING and {"-h", "--help"} & set(arguments):
        asked = next((word for word in arguments if word in COMMANDS and COMMANDS[word].target == LIGHTNING), None)
        print(page(asked, COMMANDS[asked].help) if asked else HELP)
        return
    if "--help_all" in arguments:
        arguments = args = ["--help" if word == "--help_all" else word for word in arguments]
    module, _, function = target.partition(":")
    telling = importlib.import_module("graft_lightning.cli.telling").telling  # which pages of help need not wait for
    with telling():
        run = getattr(importlib.import_module(module), function)
        if target == LIGHTNING:
            run(args)
        else:
            run(arguments[1:])


def _unknown(name: str) -> str:
    known = [command for command in COMMANDS if command not in HIDDEN]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    sys.stderr.write(f"error: there is no command '{name}'; {hint}There are {', '.join(known)}\n")
    raise SystemExit(2)
