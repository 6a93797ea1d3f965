"""Chains of a sweep as jobs of a cluster, by submitit: SLURM, or processes of this machine to try it out."""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from graft_lightning.cli.chain import Cell, CellChain, is_present, run_chain

DEFAULTS = {"name": "graft-sweep", "timeout_min": 24 * 60}


class ChainJob:
    """What a job does: the cells of a chain, one after the other. One that was pre-empted goes on where it stopped.

    Args:
        chain: of which they are.
        cells: that are run.
    """

    def __init__(self, chain: CellChain, cells: Sequence[Cell]) -> None:
        self.chain, self.cells = chain, list(cells)

    def __call__(self) -> list[str]:
        """Runs the cells that have not ended yet. Returns the names of those that failed."""
        run_chain(self.chain, [cell for cell in self.cells if not is_present(self.chain, cell)])
        return [cell.name for cell in self.cells if not is_present(self.chain, cell)]

    def checkpoint(self) -> Any:
        """What submitit puts into the queue again when the job is about to be ended."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


class SubmittedChain:
    """A chain that waits in the queue of a cluster, or is run by it.

    Args:
        executor: of submitit.
        chain: what is run.
        cells: which of its cells, in order.
        ready: whether the first of them may begin.

    Attributes:
        blocked: empty: a job waits for a lock itself.
    """

    def __init__(
        self, executor: Any, chain: CellChain, cells: Sequence[Cell], ready: Callable[[Cell], bool] = lambda cell: True
    ) -> None:
        self.chain, self.blocked = chain, ""
        self._executor, self._cells, self._ready = executor, list(cells), ready
        self._job: Any = None

    def step(self) -> bool:
        """Submits the job once what it needs is there, and looks after it. False when it has ended."""
        if self._job is None:
            if all(self._ready(cell) for cell in self._cells):
                self._job = self._executor.submit(ChainJob(self.chain, self._cells))
                print(f"{self.chain.name}: job {self._job.job_id}", flush=True)
            return True
        if not self._job.done():
            return True
        if self._job.exception() is not None:
            sys.stderr.write(f"{self.chain.name}: job {self._job.job_id} failed, see {self._job.paths.stderr}\n")
        return False

    def stop(self) -> None:
        """Takes the job out of the queue, or ends it."""
        if self._job is not None:
            self._job.cancel()


def jobs_of_a_cluster(folder: Path, settings: Mapping[str, Any]) -> Callable[..., SubmittedChain]:
    """What begins a chain as a job.

    Args:
        folder: where jobs leave what they print.
        settings: as submitit takes them: timeout_min, slurm_partition, gpus_per_node, cpus_per_task, mem_gb, ...; and
            ``cluster``: slurm, local, or what is found here by default.

    Raises:
        ValueError: if submitit is absent, or a setting is none of its own.
    """
    try:
        import submitit
    except ImportError:
        raise ValueError("--launcher submitit needs a package: pip install 'graft_lightning[slurm]'") from None
    own = {**DEFAULTS, **settings}
    cluster = own.pop("cluster", None)
    if cluster not in (None, "slurm", "local"):
        raise ValueError(f"submitit: cluster={cluster}; it is slurm, or local to try it out on this machine")
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(**own)
    except (RuntimeError, NameError, TypeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"submitit: {error}") from None
    if executor.cluster == "local" and cluster is None:
        raise ValueError("--launcher submitit finds no SLURM here; --submitit cluster=local tries it out")
    return partial(SubmittedChain, executor)
