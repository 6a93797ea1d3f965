"""A pool, by its own folder or that of a run, and the reference that its samples are decoded with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graft_lightning.cli.exporting import cli_of
from graft_lightning.cli.lightning import GraftCLI
from graft_lightning.cli.written import layered, put, read_yaml
from graft_lightning.rejection.collected import CONFIGURATION
from graft_lightning.rejection.pool.manifest import FILE
from graft_lightning.runs import CONFIG
from graft_lightning.types import SettingsError


def pool_in(folder: Path) -> Path:
    """The folder of a pool: it itself, or the pool of the run that it is.

    Raises:
        FileNotFoundError: if it is neither.
    """
    if (folder / FILE).is_file():
        return folder
    config = folder / CONFIG
    if not config.is_file():
        raise FileNotFoundError(f"{folder} is neither a pool (with {FILE}) nor a run (with {CONFIG})")
    data = (read_yaml(config) or {}).get("data") or {}
    pool = (data.get("init_args") or {}).get("pool")
    if pool is None:
        raise FileNotFoundError(f"{folder} is a run without a pool: data.pool is not set in its {CONFIG}")
    if not (Path(pool) / FILE).is_file():
        raise FileNotFoundError(f"{folder} has its pool in {pool}, where there is none (seen from {Path.cwd()})")
    return Path(pool)


def built_for(folder: Path, config: Sequence[Path], collect: dict[str, Any], **trainer: Any) -> GraftCLI:
    """Module, data and trainer for a pool.

    Classes that the configuration names are imported: of pools that you trust.

    Args:
        folder: as it was asked for, of the pool or of a run.
        config: files of another configuration than the one that lies there, if any.
        collect: settings of the collection.
        **trainer: arguments of the trainer.

    Raises:
        SettingsError: if there is no configuration.
    """
    pool = pool_in(folder)
    files = config or [f for f in (folder / CONFIG, pool / CONFIGURATION) if f.is_file()][:1]
    if not files:
        raise SettingsError(
            f"{pool / CONFIGURATION} is absent: it says which reference decodes the samples. Name a run's folder, or "
            "the configuration that filled the pool: --config FILE"
        )
    found = layered(files)
    if not {"model", "data"} <= found.keys():
        raise SettingsError(f"{_named(files)} describes no run (model, data)")
    found = put(found, ["data", "pool"], str(pool))
    found["collect"] = {"reward": None, **collect}
    found.pop("evaluate", None)
    cli = cli_of(found, **trainer)
    if not getattr(cli.model, "collects", False):
        raise SettingsError(
            f"{_named(files)} is of a {type(cli.model).__name__}; a pool is decoded by a PGraft's or a Graft's"
        )
    return cli


def _named(files: Sequence[Path]) -> str:
    return " with ".join(map(str, files))
