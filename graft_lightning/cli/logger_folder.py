"""The folder that the loggers of a configuration write to, read and set before they are built."""

from pathlib import Path
from typing import Any

FILES = ("TensorBoardLogger", "CSVLogger")
"""Loggers that write to ``save_dir/name/version``."""


def logger_folder(config: Any) -> Path | None:
    """The folder of a run; None where it cannot be known before the logger is built, or is a new one each time.

    Args:
        config: of a command of Lightning's, with ``trainer``.
    """
    found = _loggers(config)
    if not found:
        return None
    settings = found[0]
    if settings.get("version") is None:
        return None
    name = settings.get("name")
    folder = Path(settings.get("save_dir") or ".") / ("lightning_logs" if name is None else name)
    version = settings["version"]
    return folder / (version if isinstance(version, str) else f"version_{version}")


def set_logger_folder(config: Any, folder: Path) -> bool:
    """Has the loggers of a configuration write to a folder. Returns whether there was one whose folder can be set."""
    found = _loggers(config)
    for settings in found:
        settings["save_dir"], settings["name"], settings["version"] = str(folder.parent), folder.name, ""
    return bool(found)


def _loggers(config: Any) -> list[Any]:
    """The arguments of the loggers that write to a folder of files."""
    logger = (config.get("trainer") or {}).get("logger")
    listed = logger if isinstance(logger, list) else [logger]
    named: list[Any] = [one for one in listed if hasattr(one, "get")]
    return [
        one["init_args"]
        for one in named
        if str(one.get("class_path", "")).rpartition(".")[2] in FILES and one.get("init_args")
    ]
