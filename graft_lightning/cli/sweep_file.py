"""The file of a sweep: folder, chains, cells, and which cell reads what another one has written."""

import fnmatch
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from graft_lightning.cli.chain import Cell, CellChain, identity
from graft_lightning.cli.choosing import CHOOSING, with_choices
from graft_lightning.cli.written import read_yaml
from graft_lightning.identity import digest_of
from graft_lightning.shipped import config_file

KEYS = {"folder", "jobs", "threads", "settings", "cells", "chains", "report", "records", "submitit", CHOOSING}
REFILLED = "pool"
"""A key whose files are made by whichever cell finds them missing: no cell needs another one for them."""

PLACE = re.compile(r"\{(chain|root)\}/([^\s\"'{}]+)")


@dataclass(frozen=True)
class Plan:
    """A sweep file, read.

    Attributes:
        folder: of the runs.
        jobs: chains at a time.
        chains: in order; one comes after those whose files it needs.
        report: how the report reads.
        records: where the records of its cells are kept; None where they are not.
        submitit: settings of the cluster's jobs, as submitit takes them.
    """

    folder: Path
    jobs: int
    chains: list[CellChain]
    report: dict[str, Any]
    records: Path | None = None
    submitit: dict[str, Any] | None = None


def read_plan(file: Path, folder: Path | None = None, records: Path | bool = True) -> Plan:
    """Reads a sweep file.

    Args:
        file: YAML.
        folder: of the runs; the file's own by default.
        records: where records are kept, or whether where the file says: ``records`` beside it by default.

    Raises:
        ValueError: naming the key, if a chain asks for a cell that is not there, or a key is unknown.
    """
    text = read_yaml(config_file(file))
    if not isinstance(text, dict):
        raise ValueError(f"{file} is no sweep, but a {type(text).__name__}; keys are {', '.join(sorted(KEYS))}")
    unknown = set(text) - KEYS
    if unknown:
        hint = "; this is the configuration of one run, for `fit`" if {"data", "model"} & set(text) else ""
        raise ValueError(f"{file}: unknown keys {sorted(unknown)}{hint}")
    for key, kind in (("folder", str), ("cells", dict), ("chains", list)):
        if not isinstance(text.get(key), kind) and not (key == "folder" and folder):
            raise ValueError(f"{file}: {key}={text.get(key)!r}; a sweep needs a {kind.__name__} there")
    root, kept = folder or Path(text["folder"]), _records(file, text.get("records", True), records)
    cells, choices = {}, {}
    for name, cell in text["cells"].items():
        wrong = set(cell) - {"commands", "config", "settings", "each", "choose"}
        if wrong:
            raise ValueError(f"{file}: cell {name} has unknown keys {sorted(wrong)}")
        settings = {**text.get("settings", {}), **cell.get("settings", {})}
        for filled, filled_settings in each(name, settings, cell.get("each", {})):
            cells[filled] = Cell(
                filled, cell["commands"], [str(config_file(f)) for f in cell["config"]], filled_settings
            )
            if "choose" in cell:
                choices[filled] = cells[filled], cell["choose"]
    chains = []
    for chain in text["chains"]:
        asked = {name: fnmatch.filter(cells, name) for name in chain["cells"]}
        missing = [name for name, found in asked.items() if not found]
        if missing:
            raise ValueError(f"{file}: chain {chain['name']} asks for cells {missing}; there are {sorted(cells)}")
        extra = chain.get("settings", {})
        names = dict.fromkeys(name for found in asked.values() for name in found)  # two patterns may fit one cell
        own = [replace(cells[name], settings={**cells[name].settings, **extra}) for name in names]
        chains.append(CellChain(chain["name"], chain["seed"], own, root / chain["name"], text.get("threads", 1), kept))
    chains = with_choices(chains, choices, text.get(CHOOSING, {}))
    return Plan(root, text.get("jobs", 1), with_needs(chains), text.get("report", {}), kept, text.get("submitit"))


def _records(file: Path, own: Path | str | bool, asked: Path | bool) -> Path | None:
    chosen = own if asked is True else asked
    if chosen is True:
        return file.parent / "records" / file.stem
    return Path(chosen) if chosen else None


def each(name: str, settings: dict[str, Any], values: dict[str, list[Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Names and settings of a cell that stands for several: every ``{key}`` in them takes each of its values.

    Args:
        name: of the cell.
        settings: of the cell.
        values: by key; all combinations are made.
    """
    found = []
    for chosen in itertools.product(*values.values()):
        filled, own = name, json.dumps(settings)
        for key, value in zip(values, chosen, strict=True):
            filled, own = (text.replace("{" + key + "}", str(value)) for text in (filled, own))
        found.append((filled, json.loads(own)))
    return found


def with_needs(chains: Sequence[CellChain]) -> list[CellChain]:
    """The same chains, whose cells know which others they need; each after those that it needs.

    A cell needs another one where a setting of it names a place in the folder of that cell, or a file that a cell
    before it, or one of another chain, is the first to name: that one writes it.

    Raises:
        ValueError: if two chains need one another.
    """
    by_name = {chain.name: chain for chain in chains}
    needs = {(chain.name, cell.name): set(_needed(by_name, chain, cell)) for chain in chains for cell in chain.cells}
    order: list[str] = []
    waiting = [chain.name for chain in chains]
    while waiting:
        free = [
            name
            for name in waiting
            if all(other in (name, *order) for cell in by_name[name].cells for other, _ in needs[name, cell.name])
        ]
        if not free:
            raise ValueError(f"chains {waiting} need files of one another; none can be the first")
        order.append(free[0])
        waiting.remove(free[0])
    found: dict[tuple[str, str], Cell] = {}
    for name in order:
        for cell in by_name[name].cells:
            digests = {
                "/".join(needed): digest_of(identity(by_name[needed[0]], found[needed]))
                for needed in sorted(needs[name, cell.name])
                if needed in found
            }
            found[name, cell.name] = replace(cell, needs=digests)
    return [replace(by_name[name], cells=[found[name, cell.name] for cell in by_name[name].cells]) for name in order]


def _needed(chains: Mapping[str, CellChain], chain: CellChain, cell: Cell) -> Iterator[tuple[str, str]]:
    yield from ((owner, name) for owner, _, name in (key.partition("/") for key in cell.choose))
    for owner, place in set(_places(chain, cell)):
        if owner not in chains:
            continue
        names = [other.name for other in chains[owner].cells]
        maker = place.split("/")[0] if place.split("/")[0] in names else _first(chains[owner], place)
        if maker is not None and (owner, maker) != (chain.name, cell.name):
            yield owner, maker


def _first(chain: CellChain, place: str) -> str | None:
    """The first cell of a chain that names a file."""
    return next((cell.name for cell in chain.cells if (chain.name, place) in set(_places(chain, cell))), None)


def _places(chain: CellChain, cell: Cell) -> Iterator[tuple[str, str]]:
    """Chain and path of each file of the sweep's folder that the settings of a cell name."""
    for key, text in _leaves(cell.settings):
        if key.rpartition(".")[2] != REFILLED:
            for where, path in PLACE.findall(text):
                owner, _, rest = (chain.name, "", path) if where == "chain" else path.partition("/")
                if rest:
                    yield owner, rest


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(item, str(name))
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item, key)
