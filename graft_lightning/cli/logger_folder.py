"""The folder of a run, which its first logger decides on, read and set before the loggers are built."""

from pathlib import Path
from typing import Any

FILES = ("TensorBoardLogger", "CSVLogger")
"""Loggers that write to ``save_dir/name/version``; of others (W&B, MLflow) the run's folder is ``save_dir`` itself."""


def logger_folder(config: Any) -> Path | None:
    """The folder of a run; None where it cannot be known before the logger is built, or is a new one each time.

    Args:
        config: of a command of Lightning's, with ``trainer``.
    """
    listed = _loggers(config)
    if not listed or (settings := _settings(listed[0])) is None:
        return None
    if not _of_files(listed[0]):
        return Path(settings["save_dir"])
    if settings.get("version") is None:
        return None
    name = settings.get("name")
    folder = Path(settings.get("save_dir") or ".") / ("lightning_logs" if name is None else name)
    version = settings["version"]
    return folder / (version if isinstance(version, str) else f"version_{version}")


def set_logger_folder(config: Any, folder: Path) -> bool:
    """Has the loggers of a configuration write to a folder. Returns whether there was one whose folder can be set."""
    found = [(one, settings) for one in _loggers(config) if (settings := _settings(one)) is not None]
    for one, settings in found:
        if _of_files(one):
            settings["save_dir"], settings["name"], settings["version"] = str(folder.parent), folder.name, ""
        else:
            settings["save_dir"] = str(folder)
    return bool(found)


def _loggers(config: Any) -> list[Any]:
    logger = (config.get("trainer") or {}).get("logger")
    return [one for one in (logger if isinstance(logger, list) else [logger]) if hasattr(one, "get")]


def _of_files(logger: Any) -> bool:
    return str(logger.get("class_path", "")).rpartition(".")[2] in FILES


def _settings(logger: Any) -> Any:
    """The arguments of a logger that writes to a folder of its own; None of another."""
    settings = logger.get("init_args")
    return settings if settings and (_of_files(logger) or settings.get("save_dir") not in (None, "", ".")) else None
