"""Which folder a command works in, decided before anything is built: a run never shares the folder of another.

A `fit` whose folder holds the checkpoints of other settings goes to a folder of its own beside it (``pgraft-2``); with
the same settings it goes on. `test`, `predict` and the others work where the run of their checkpoint is. Everything is
decided from files alone, so that all processes of a run decide the same.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graft_lightning.cli.logger_folder import logger_folder, set_logger_folder
from graft_lightning.cli.secrets import unresolved
from graft_lightning.cli.written import read_yaml
from graft_lightning.identity import differences
from graft_lightning.runs import CONFIG, checkpoints, folder_of, newest_checkpoint, newest_intact
from graft_lightning.types import SettingsError

log = logging.getLogger(__name__)

ELSEWHERE = (
    "trainer.logger",
    "trainer.default_root_dir",
    "trainer.enable_progress_bar",
    "trainer.enable_model_summary",
    "data.init_args.rescore",
    "ckpt_path",
    "config",
    "steer",
)
"""Settings that make no other run."""
HELD_OUT = ("validation", "test", "predict", "eval_draws", "eval_batch_size", "predict_draws")
"""Arguments of the data that say what is evaluated, not what is trained."""
TRAINED = ("seed_everything", "data", "collect", "model")
"""Settings that decide which weights a run has after so many steps, with those of the trainer."""
WHEN = ("FunctionReward", "apart")
"""A reward, and the argument of it that decides when it is asked, and not what it says."""
BEST = "best.ckpt"
"""The weights that a fit has chosen to end with."""
WEIGHTS = ("validate", "test", "predict")
"""Commands that draw from a fine-tuned model."""
SHOWN = 4
"""Differences that a message lists."""


def place_fit(config: Any, plain: Mapping[str, Any]) -> None:
    """Gives a fit its folder, and the checkpoint it goes on from where it is there already.

    Args:
        config: of the command; changed in place.
        plain: the same in plain values.

    Raises:
        SettingsError: if a folder that is used cannot be left, or the run that is to go on has other settings.
    """
    folder = logger_folder(config)
    if folder is None:
        return
    asked = plain.get("ckpt_path")
    if asked not in (None, "last"):
        _place_further_fit(config, plain, folder, Path(str(asked)))
        return
    used = _used_folders(folder)
    same = [place for place in used if not _changed(place, plain)]
    if asked is None and ((plain.get("data") or {}).get("init_args") or {}).get("rescore"):
        same = []  # by another reward, though of the same name
    if asked == "last" and not same:
        same = [place for place in used if not _changed(place, plain, trained_only=True)]
        if used and not same:
            raise SettingsError(
                f"ckpt_path=last: {used[-1]} was begun with other settings, and a run goes on as it was begun:\n"
                f"{_listed(_changed(used[-1], plain, trained_only=True))}\n"
                "Leave ckpt_path out for a run of its own, or name the checkpoint that it is to go on from"
            )
    if same:
        _go_on(config, same[-1], folder)
        return
    _own_folder(config, folder, used, plain)


def place_use(config: Any, plain: Mapping[str, Any], command: str) -> None:
    """Has a command that trains nothing work in the folder of the run whose weights it uses.

    Without a checkpoint it says that there are some, and that none is used.

    Args:
        config: of the command; changed in place.
        plain: the same in plain values.
        command: its name.

    Raises:
        SettingsError: if the last checkpoint is asked for, and no run of these settings has left one.
    """
    asked, folder = plain.get("ckpt_path"), logger_folder(config)
    if asked not in (None, "last", "best", "hpc", "registry"):
        owner = folder_of(Path(str(asked)))
        if owner is not None:
            if told := _changed(owner, plain, trained_only=True):
                log.warning("%s was fitted with other settings than %s now has:\n%s", owner, command, _listed(told))
            _move(config, folder, owner)
        return
    used = _used_folders(folder) if folder is not None else []
    if folder is None or not used:
        return
    same = [place for place in used if not _changed(place, plain, trained_only=True)]
    if same:
        place = min(reversed(same), key=lambda run: len(_changed(run, plain)))  # in what does not count here too
        _move(config, folder, place)
        if asked == "last":
            config["ckpt_path"] = str(newest_checkpoint(place))
        elif command in WEIGHTS and (plain.get("evaluate") or {}).get("method") != "base":
            log.warning(
                "%s of the reference as it is: %s holds checkpoints, and --ckpt_path last takes the newest",
                command,
                place,
            )
    elif asked == "last":
        raise SettingsError(
            f"ckpt_path=last: {used[-1]} holds the checkpoints of other settings than {command} now has:\n"
            f"{_listed(_changed(used[-1], plain, trained_only=True))}\n"
            "Give the settings of the run (its config.yaml has them), or name the checkpoint"
        )
    else:
        _own_folder(config, folder, used, plain, trained_only=True)


def placed(plain: Mapping[str, Any], config: Any) -> dict[str, Any]:
    """A configuration in plain values, with the folder and the checkpoint that a command was given.

    Args:
        plain: of before.
        config: of the command, as it was changed since.
    """
    found: dict[str, Any] = _copied(plain)
    folder = logger_folder(config)
    if folder is not None and folder != logger_folder(found):
        set_logger_folder(found, folder)
    if (checkpoint := config.get("ckpt_path")) is not None:
        found["ckpt_path"] = str(checkpoint)
    return found


def require_last(config: Any) -> None:
    """Refuses what would be an evaluation of no checkpoint under the name of one.

    Raises:
        FileNotFoundError: if ``last`` is asked for, and no run has left one in the folder that the logger names.
    """
    folder = logger_folder(config)
    if config["ckpt_path"] == "last" and folder is not None:
        raise FileNotFoundError(f"ckpt_path=last: {folder} holds no checkpoint; `fit` leaves some there")


def _place_further_fit(config: Any, plain: Mapping[str, Any], folder: Path, checkpoint: Path) -> None:
    """A fit that goes on from a checkpoint by name: in its own run's folder, or in a new one for other settings."""
    owner, used = folder_of(checkpoint), _used_folders(folder)
    if owner is None or not checkpoint.exists():
        return
    known = {place.resolve(): place for place in used}
    if owner.resolve() in known and not _changed(owner, plain, trained_only=True):
        _move(config, folder, known[owner.resolve()])
    else:
        _own_folder(config, folder, used, plain)


def _go_on(config: Any, place: Path, folder: Path) -> None:
    checkpoint = resumable(place)
    told = config.get("ckpt_path") == "last"
    _move(config, folder, place)
    config["ckpt_path"] = str(checkpoint)
    if not told:
        log.info(
            "%s holds a run of these very settings: it goes on from %s. For a fresh one name another folder "
            "(--trainer.logger.init_args.name=NAME), or delete this one",
            place,
            checkpoint.relative_to(place),
        )


def resumable(place: Path) -> Path:
    """Where a fit goes on: its newest intact checkpoint, not the weights that it has chosen to end with."""
    found = checkpoints(path for path in place.rglob("*.ckpt") if path.name != BEST)
    return newest_intact(found) or newest_checkpoint(place)


def _own_folder(
    config: Any, folder: Path, used: list[Path], plain: Mapping[str, Any], trained_only: bool = False
) -> None:
    free = next(place for place in _numbered(folder) if place not in used)
    if free == folder:
        return
    told = _listed(_changed(used[-1], plain, trained_only))
    _move(config, folder, free)
    log.warning("%s holds another run; this goes to %s. It differs in\n%s", used[-1], free, told)


def _move(config: Any, folder: Path | None, to: Path) -> None:
    """Points the loggers at a folder.

    Raises:
        SettingsError: if there is none whose folder can be set.
    """
    if folder is not None and to.resolve() == folder.resolve():
        return
    if not set_logger_folder(config, to) and folder is not None:
        raise SettingsError(
            f"{folder} holds another run, and this logger's folder cannot be set to {to}: give it another folder "
            "(trainer.logger, trainer.default_root_dir), or delete that one"
        )


def _numbered(folder: Path) -> Any:
    yield folder
    number = 2
    while True:
        yield folder.with_name(f"{folder.name}-{number}")
        number += 1


def _used_folders(folder: Path) -> list[Path]:
    """Of a folder and those that were numbered after it, the ones that hold a configuration and checkpoints."""
    found: list[Path] = []
    for place in _numbered(folder):
        if not place.is_dir():
            if place != folder:
                return found
        elif (place / CONFIG).is_file() and any(place.rglob("*.ckpt")):
            found.append(place)
    return found


def _changed(place: Path, plain: Mapping[str, Any], trained_only: bool = False) -> list[str]:
    """What differs between a run's own settings and others, line by line."""
    try:
        stored = read_yaml(place / CONFIG)
    except (OSError, SettingsError) as error:
        return [f"{place / CONFIG} cannot be read: {error}"]
    stored, wanted = (_settings(unresolved(found or {}), trained_only) for found in (stored, plain))
    return differences(stored, wanted, "there", "here")


def _settings(config: Mapping[str, Any], trained_only: bool) -> dict[str, Any]:
    kept = {key: value for key, value in config.items() if not trained_only or key in TRAINED}
    found: dict[str, Any] = _copied(kept)
    for part in ("collect", "evaluate"):
        _drop(found.get(part), *WHEN)
    for key in ELSEWHERE:
        *above, last = key.split(".")
        node = found
        for part in above:
            node = node.get(part) or {}
        node.pop(last, None)
    if trained_only:
        ((found.get("data") or {}).get("init_args") or {}).pop("pool", None)  # a place: what it holds is checked there
        (found.get("collect") or {}).pop("batch_size", None)
        for name in HELD_OUT:
            ((found.get("data") or {}).get("init_args") or {}).pop(name, None)
        arguments = (found.get("data") or {}).get("init_args") or {}
        if isinstance(size := arguments.get("batch_size"), int):  # of one process: two of 8 do what one of 16 does
            arguments["batch_size"] = size * _processes(config.get("trainer") or {})
    return found


def _copied(value: Any) -> Any:
    """Settings of their own, of the types that a file gives back."""
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list | tuple) else value


def _drop(value: Any, kind: str, name: str) -> None:
    """Takes an argument out of all objects of a class in some settings, in place."""
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _drop(item, kind, name)
    if isinstance(value, dict) and str(value.get("class_path")).rpartition(".")[2] == kind:
        (value.get("init_args") or {}).pop(name, None)


def _processes(trainer: Mapping[str, Any]) -> int:
    """How many a trainer's settings name; 1 where they leave it to the machine."""
    devices, nodes = trainer.get("devices"), trainer.get("num_nodes")
    count = len(devices) if isinstance(devices, list) else int(str(devices)) if str(devices).isdigit() else 1
    return max(1, count) * (nodes if isinstance(nodes, int) else 1)


def _listed(lines: list[str]) -> str:
    more = [f"  and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return os.linesep.join([*(f"  {line}" for line in lines[:SHOWN]), *more])
