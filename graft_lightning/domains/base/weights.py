"""Weights as safetensors, with the configuration that they belong to: neither is loaded without the other."""

import json
import math
from pathlib import Path
from typing import Any

from torch import nn

from graft_lightning.refusals import damaged
from graft_lightning.shipped import shipped
from graft_lightning.tensors import load_into, read_tensors, write_tensors
from graft_lightning.types import SettingsError

DATA = shipped("data")
"""The folder of small files that ship with the package."""


def save_weights(network: nn.Module, path: Path, config: dict[str, Any], provenance: dict[str, Any]) -> None:
    """Writes the weights of a network, with its constructor's arguments and where they come from, durably."""
    metadata = {"config": json.dumps(config, sort_keys=True), "provenance": json.dumps(provenance, sort_keys=True)}
    write_tensors(path, network.state_dict(), metadata)


def stored_elements(folder: Path, variant: str | None = None) -> int | None:
    """Numbers in the safetensors files of a folder, read from their headers; None if there is none.

    Args:
        folder: as ``save_pretrained`` writes it.
        variant: whose files count, as in ``model.fp16.safetensors``; those without one by default.
    """
    from safetensors import safe_open

    files = [file for file in sorted(folder.glob("*.safetensors")) if (f".{variant}" in file.name) == bool(variant)]
    total = 0
    for file in files:
        with safe_open(str(file), "pt") as opened:
            total += sum(math.prod(opened.get_slice(name).get_shape()) for name in opened.keys())  # noqa: SIM118
    return total if files else None


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
