"""Settings of a sweep's cell that are chosen: each is tried by a run of its own, and the best validation reward wins.

A cell with ``choose`` stands for one run with the settings that were best on the conditions of ``data.validation``: all
methods of a comparison may try as many, and none has seen what is reported. The runs that try them are the cells of a
chain of their own, with a seed of its own, and are done once for all seeds.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from graft_lightning.cli.cell_record import read_record
from graft_lightning.cli.chain import OWN_FOLDER, Cell, CellChain
from graft_lightning.cli.written import read_yaml
from graft_lightning.runs import done, read_records
from graft_lightning.statistics import over_conditions
from graft_lightning.types import SettingsError

CHOOSING = "choosing"
"""The chain of the runs that try settings, and the key of the sweep's file that says how."""

COMMANDS = ("fit", "validate")
DEFAULT = {"seed": 0, "settings": {}}

POOLS = ("data.pool", "data.init_args.pool")

BASE = "base"
"""What evaluations call the model before fine-tuning."""


def tried_for(cell: Cell, values: Mapping[str, Sequence[Any]], settings: Mapping[str, Any]) -> list[Cell]:
    """The runs that try the settings of a cell: one for each combination, named after it.

    Args:
        cell: as it would be without a choice.
        values: by key of the configuration.
        settings: of these runs alone.

    Raises:
        ValueError: if a key has no values, or if these runs would draw later rounds into one pool.
    """
    for key, found in values.items():
        if not isinstance(found, list) or not found:
            raise ValueError(f"cell {cell.name}: choose.{key}={found!r}; it must be a list of values")
    runs = []
    for combination in itertools.product(*values.values()):
        own = dict(zip(values, combination, strict=True))
        named = ",".join(f"{key.rpartition('.')[2]}={value}" for key, value in own.items())
        runs.append(Cell(f"{cell.name}@{named}", COMMANDS, cell.config, {**cell.settings, **settings, **own}))
        if pool := _pool_of_rounds(runs[-1]):
            raise ValueError(
                f"cell {cell.name}: each of the runs that try {', '.join(values)} draws later rounds by its own model, "
                f'and {pool} is one pool for all of them; let each have its own: data.pool: "{OWN_FOLDER}/pool"'
            )
    return runs


def _pool_of_rounds(run: Cell) -> str:
    """The pool of a run that draws several rounds, where other runs have it too; "" where none is shared."""
    rounds, pool = 1, ""
    for layer in run.config:
        found = read_yaml(Path(layer)) or {}
        collect, data = found.get("collect") or {}, found.get("data") or {}
        rounds = collect.get("rounds", rounds)
        pool = data.get("pool") or data.get("init_args", {}).get("pool") or pool
    rounds = run.settings.get("collect.rounds") or rounds
    pool = next((run.settings[key] for key in POOLS if run.settings.get(key)), pool)
    return pool if int(rounds) > 1 and OWN_FOLDER not in pool else ""


def with_choices(
    chains: Sequence[CellChain], choices: Mapping[str, tuple[Cell, Mapping[str, Any]]], how: Mapping[str, Any]
) -> list[CellChain]:
    """Chains whose cells know what to choose from, after the chain that tries it.

    Args:
        chains: as they would be without a choice.
        choices: by name, a cell without what single chains set, and its values by key of the configuration.
        how: what the sweep's file says in place of `DEFAULT`.

    Raises:
        ValueError: if a chain has the name of the one that tries, or a key of ``how`` is unknown.
    """
    asked = {cell.name for chain in chains for cell in chain.cells}
    choices = {name: choice for name, choice in choices.items() if name in asked}
    if not choices:
        return list(chains)
    if wrong := set(how) - set(DEFAULT):
        raise ValueError(f"{CHOOSING} has unknown keys {sorted(wrong)}; it has {sorted(DEFAULT)}")
    if any(chain.name == CHOOSING for chain in chains):
        raise ValueError(f"a chain is called {CHOOSING}, as is the one in which settings are tried; name it otherwise")
    own, some = {**DEFAULT, **how}, chains[0]
    tried = {name: tried_for(cell, values, own["settings"]) for name, (cell, values) in choices.items()}
    runs = [run for found in tried.values() for run in found]
    trying = CellChain(CHOOSING, own["seed"], runs, some.folder.parent / CHOOSING, some.threads, some.records)
    choose = {
        name: {f"{CHOOSING}/{run.name}": {key: run.settings[key] for key in choices[name][1]} for run in found}
        for name, found in tried.items()
    }
    return [
        trying,
        *(
            replace(chain, cells=[replace(cell, choose=choose.get(cell.name, {})) for cell in chain.cells])
            for chain in chains
        ),
    ]


def settled(chain: CellChain, cell: Cell) -> tuple[Cell, dict[str, Any]]:
    """A cell with the settings that were best, and what is written down of the choice; itself where nothing is chosen.

    Raises:
        SettingsError: if none of the runs that try them has been validated.
    """
    if not cell.choose:
        return cell, {}
    rewards = {name: validated(chain, name) for name in cell.choose}
    found = {name: reward for name, reward in rewards.items() if math.isfinite(reward)}
    if not found:
        raise SettingsError(
            f"{chain.name}/{cell.name} is to use the best of {', '.join(cell.choose)}, and none of them has been "
            f"validated; see their logs in {chain.folder.parent / CHOOSING}"
        )
    best = max(found, key=lambda name: found[name])
    tried = [{**cell.choose[name], "reward": reward if name in found else None} for name, reward in rewards.items()]
    chosen = {"chosen": cell.choose[best], "tried": tried}
    return replace(cell, settings={**cell.settings, **cell.choose[best]}), chosen


def validated(chain: CellChain, name: str) -> float:
    """The mean reward on the tuning conditions of a run that tries settings; NaN where it has not come to its end.

    Args:
        chain: of the cell that chooses.
        name: chain and cell, ``choosing/...``.
    """
    own = [found for found in _evaluations(chain, name) if found["method"] != BASE]
    evaluations = [found for found in own if found["stage"] == "validate"]
    if not evaluations:
        return math.nan
    rows = next(iter(evaluations[-1]["scores"].values()))  # the reward that is trained leads
    return float(over_conditions([[math.nan if score is None else score for score in row] for row in rows])["mean"])


def _evaluations(chain: CellChain, name: str) -> Iterator[Mapping[str, Any]]:
    folder = chain.folder.parent / name
    if done(folder) is not None:
        yield from read_records(folder)
    elif chain.records is not None and (record := read_record(Path(chain.records) / f"{name}.json")):
        yield from record["evaluations"]
