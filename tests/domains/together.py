"""Several processes of one group, forked: what each of them gives."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing import start_processes


def together(work: Callable[[int], Any], folder: Path, world: int = 2) -> list[Any]:
    """``work(rank)`` of every process; a collective that the others do not enter is an error after a minute."""
    start_processes(_enter, (work, folder, world), nprocs=world, start_method="fork")
    return [torch.load(folder / f"{rank}.pt") for rank in range(world)]


def _enter(rank: int, work: Callable[[int], Any], folder: Path, world: int) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{folder / 'meeting'}"
    dist.init_process_group("gloo", meeting, timedelta(minutes=1), world_size=world, rank=rank)
    torch.save(work(rank), folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
