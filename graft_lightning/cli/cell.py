"""``cell``: one cell of a sweep, in this process; `sweep` calls it, and so may who wants to see one fail."""

import datetime
import json
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from graft_lightning import __version__
from graft_lightning.cli.command import Command
from graft_lightning.cli.main import main
from graft_lightning.cli.telling import DEBUG
from graft_lightning.durable import write_text
from graft_lightning.runs import CHOSEN, mark_done


def run_cell(args: Sequence[str]) -> None:
    """Runs the commands of a cell, one after the other, and marks it as done.

    Raises:
        SystemExit: 1 if one of them failed, 2 if the folder is no cell's.
    """
    parser = Command("cell", run_cell)
    parser.add_argument("folder", type=Path, help="of the cell, in the folder of a sweep")
    parser.add_argument("--watch", type=int, help="descriptor of a pipe; this process ends when it closes")
    options = parser.parse_args(list(args))
    if options.watch is not None:
        end_with(options.watch)
    # heavy, which --help need not wait for
    from graft_lightning.cli.chain import arguments, keep_record, read_recipe
    from graft_lightning.cli.choosing import settled
    from graft_lightning.identity import digest_of
    from graft_lightning.reports.document import machine

    try:
        chain, cell, identity = read_recipe(options.folder)
    except FileNotFoundError as error:
        parser.error(str(error))
    os.environ.setdefault(DEBUG, "1")  # its log is where a failure is looked into
    start = time.monotonic()
    run, choice = settled(chain, cell)
    if choice:
        print(f"chosen: {choice['chosen']} of {choice['tried']}", flush=True)
        write_text(options.folder / CHOSEN, json.dumps(choice) + "\n")
    for command in run.commands:
        if not _succeeds([command, *arguments(chain, run, options.folder, command)]):
            raise SystemExit(1)
    facts: dict[str, Any] = {
        "seed": chain.seed,
        "seconds": round(time.monotonic() - start, 1),
        "core_seconds": round(_core_seconds(), 1),
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "versions": {"graft_lightning": __version__, **{name: version(name) for name in ("torch", "lightning")}},
    }
    mark_done(options.folder, digest_of(identity), **facts)
    keep_record(chain, cell, identity)


def _core_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    spent = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(found.ru_utime + found.ru_stime for found in spent)


def end_with(pipe: int) -> None:
    """Ends this process, and all of its process group, as soon as nobody holds the other end of a pipe.

    Holds also where that process was killed without a chance to say so, and on systems that do not tell children of it.
    """

    def watch() -> None:
        while os.read(pipe, 1):
            pass
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)  # where the group is another's

    threading.Thread(target=watch, daemon=True, name="watch the sweep").start()


def _succeeds(line: Sequence[str]) -> bool:
    """Runs one command line as if it were this process's own, and leaves the process as it was before."""
    before = dict(os.environ)
    own = sys.argv
    try:
        # Lightning starts further processes with the command line of this one.
        sys.argv = [own[0], *line]
        main()
    except SystemExit as end:
        return not end.code
    except Exception:
        traceback.print_exc()
        return False
    finally:
        sys.argv = own
        os.environ.clear()
        os.environ.update(before)  # without rank and port, which would make the next command wait for other processes
        _leave_process_group()
    return True


def _leave_process_group() -> None:
    import torch.distributed as dist  # heavy, and loaded by the command

    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
