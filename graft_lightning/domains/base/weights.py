"""Weights as safetensors, with the configuration that they belong to: neither is loaded without the other."""

import json
import math
import re
from pathlib import Path
from typing import Any

from torch import nn

from graft_lightning.refusals import damaged
from graft_lightning.shipped import shipped
from graft_lightning.tensors import load_into, read_tensors, write_tensors
from graft_lightning.types import SettingsError

DATA = shipped("data")
"""The folder of small files that ship with the package."""
_NAME = re.compile(
    r"(?:(?:diffusion_)?pytorch_)?model(?:\.(\w+))?(?P<shard>-\d+-of-\d+)?(?:\.(\w+))?\.(?:safetensors|bin)"
)
"""What diffusers and transformers read, the variant before or after the number of a shard; beside it there may be
adapters, and weights for other programs."""


def save_weights(network: nn.Module, path: Path, config: dict[str, Any], provenance: dict[str, Any]) -> None:
    """Writes the weights of a network, with its constructor's arguments and where they come from, durably."""
    metadata = {"config": json.dumps(config, sort_keys=True), "provenance": json.dumps(provenance, sort_keys=True)}
    write_tensors(path, network.state_dict(), metadata)


def variants(folder: Path) -> set[str | None]:
    """The variants of the weights in a folder, as in ``model.fp16.safetensors``; None stands for those without one."""
    return {match[1] or match[3] for _, match in _named(folder)}


def stored_elements(folder: Path, variant: str | None = None) -> int | None:
    """Numbers in the safetensors files that are read of a folder, from their headers; None if there is none.

    Args:
        folder: as ``save_pretrained`` writes it.
        variant: whose files count; those without one by default. Where all are in one file, shards beside it are not.
    """
    from safetensors import safe_open

    named = [(file, match) for file, match in _named(folder) if (match[1] or match[3]) == variant]
    named = [(file, match) for file, match in named if file.suffix == ".safetensors"]
    files = [file for file, match in named if not match["shard"]] or [file for file, _ in named]
    total = 0
    for file in files:
        with safe_open(str(file), "pt") as opened:
            total += sum(math.prod(opened.get_slice(name).get_shape()) for name in opened.keys())  # noqa: SIM118
    return total if files else None


def _named(folder: Path) -> list[tuple[Path, re.Match[str]]]:
    """The files of weights in a folder, with their names taken apart."""
    found = [(file, _NAME.fullmatch(file.name)) for file in sorted(folder.iterdir())] if folder.is_dir() else []
    return [(file, match) for file, match in found if match]


def load_weights(network: nn.Module, path: Path, config: dict[str, Any], remake: str) -> None:
    """Reads weights into a network.

    Args:
        network: takes the weights.
        path: of the safetensors file.
        config: the network's constructor arguments; they must be those in the file.
        remake: the command that makes the file, for the error message.

    Raises:
        FileNotFoundError: naming the file and the command.
        DamagedFile: if its bytes are not those that were written.
        SettingsError: if the file belongs to another configuration, or does not hold this network's weights; names the
            keys.
    """
    if not path.is_file():
        raise FileNotFoundError(f"weights={path}: there is no such file; `{remake}` makes it")
    remedy = f"`{remake}` makes it again"
    tensors, metadata = read_tensors(path, remedy)
    try:
        stored = dict(json.loads(metadata.get("config", "{}")))
    except (ValueError, TypeError) as error:
        raise damaged(path, f"its configuration cannot be read ({error})", remedy) from None
    different = {k: (stored.get(k), config.get(k)) for k in {*stored, *config} if stored.get(k) != config.get(k)}
    if different:
        listed = ", ".join(
            f"{key}: file {ours!r}, configuration {theirs!r}" for key, (ours, theirs) in different.items()
        )
        raise SettingsError(f"weights={path} belong to another network ({listed})")
    load_into(network, tensors, f"weights={path}")
