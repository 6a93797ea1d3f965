"""A pool, scored by further rewards on all processes of a trainer that trains nothing."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from graft_lightning.callbacks.ranks import on_all_processes, ranks_of, ready
from graft_lightning.cli.exporting import REFUSALS
from graft_lightning.cli.pool_reference import built_for
from graft_lightning.cli.written import of_text, read_yaml
from graft_lightning.rejection.collected import add_filling
from graft_lightning.rejection.pool import TrajectoryPool
from graft_lightning.rejection.rewards.function import UnknownFunction, imported
from graft_lightning.rejection.scoring import rescore
from graft_lightning.reports.pool_facts import told_of_pool
from graft_lightning.shipped import importable
from graft_lightning.types import SettingsError

__all__ = ["REFUSALS", "rescore_pool"]


def rescore_pool(
    folder: Path, rewards: Sequence[str], config: Sequence[Path], anew: bool, batch_size: int, trainer: dict[str, Any]
) -> None:
    """Scores what a pool holds, and says where the scores are.

    Args:
        folder: of the pool, or of a run.
        rewards: as `reward_named` reads them.
        config: files of the one that filled the pool; found where there are none.
        anew: put the scores of a reward that has changed aside.
        batch_size: samples at a time.
        trainer: its arguments.

    Raises:
        SettingsError: if a reward cannot be built, or returns no number a sample.
        PoolError: if the pool is damaged, of another reference, or a column has the scores of another reward.
    """
    if batch_size < 1:
        raise SettingsError(f"batch_size={batch_size}; it must be at least 1")
    first, *others = [reward_named(text) for text in rewards]
    cli = built_for(folder, config, {"reward": first, "also": others}, **trainer)
    trained: Any = cli.trainer
    named = trained.collector.rewards
    pool_folder = Path(cli.datamodule.pool)

    def work() -> None:
        ready(cli.trainer, cli.model)
        ranks = ranks_of(cli.trainer)
        expected = cli.model.reference_fingerprint()
        pool = TrajectoryPool.open(pool_folder, expected, verify=ranks.rank == 0)
        for opened in pool.rounds():
            rescore(
                pool, cli.model.reference, named.values(), cli.model.device, batch_size, ranks, opened.index, anew=anew
            )
        if ranks.rank == 0:
            add_filling(pool_folder, {"drawn": 0, "scored": list(named)})
            print(told_of_pool(pool_folder))
            print(f"next: accept by one of them: fit --config FILE --data.reward {next(iter(named))}")

    on_all_processes(cli.trainer, work)


def _of_function(path: str) -> dict[str, Any] | None:
    """The configuration of a reward that is a function; None of a class, and of what cannot be imported."""
    importable()
    with contextlib.suppress(UnknownFunction):
        if not isinstance(imported(path), type):
            return {"class_path": "FunctionReward", "init_args": {"function": path}}
    return None


def reward_named(text: str) -> Any:
    """What a reward's name on a command line stands for, as a configuration writes it.

    Raises:
        SettingsError: if it is none of a name, a YAML file, a mapping.
    """
    file = Path(text)
    if file.suffix in (".yaml", ".yml"):
        if not file.is_file():
            raise SettingsError(f"--reward {text}: there is no such file")
        found = read_yaml(file)
    else:
        try:
            found = of_text(text)
        except yaml.YAMLError as error:
            raise SettingsError(f"--reward {text}: {error}") from None
    if isinstance(found, str):
        return _of_function(found) or {"class_path": found}
    if isinstance(found, dict) and "class_path" in found:
        return found
    raise SettingsError(f"--reward {text}: it names no class; write its name, or {{class_path: …, init_args: …}}")
