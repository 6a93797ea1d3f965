"""``cell``: one cell of a sweep, in this process; `sweep` calls it, and so may who wants to see one fail."""

import argparse
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from graft_lightning.cli.chain import Cell, CellChain, arguments, read_recipe
from graft_lightning.cli.main import main
from graft_lightning.runs import mark_done


def run_cell(args: Sequence[str]) -> None:
    """Runs the commands of a cell, one after the other, and marks it as done.

    Raises:
        SystemExit: 1 if one of them failed, 2 if the folder is no cell's.
    """
    parser = argparse.ArgumentParser(prog="python -m graft_lightning cell", description=run_cell.__doc__)
    parser.add_argument("folder", type=Path, help="of the cell, in the folder of a sweep")
    parser.add_argument("--watch", type=int, help="descriptor of a pipe; this process ends when it closes")
    options = parser.parse_args(list(args))
    if options.watch is not None:
        end_with(options.watch)
    try:
        chain, cell, identity = read_recipe(options.folder)
    except FileNotFoundError as error:
        parser.error(str(error))
    start = time.monotonic()
    for command in cell.commands:
        if not _succeeds(chain, cell, options.folder, command):
            raise SystemExit(1)
    mark_done(options.folder, identity, seconds=time.monotonic() - start, seed=chain.seed)


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


def _succeeds(chain: CellChain, cell: Cell, folder: Path, command: str) -> bool:
    """Runs one command as if it were this process's own, and leaves the process as it was before."""
    before = dict(os.environ)
    own = sys.argv
    try:
        # Lightning starts further processes with the command line of this one.
        sys.argv = [own[0], command, *arguments(chain, cell, folder, command)]
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
