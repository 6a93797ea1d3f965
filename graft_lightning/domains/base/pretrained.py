"""Pre-trained networks: whole, fitting and finite, or refused with the name of their file.

The libraries that load them leave what a file lacks as it was made, which is random or uninitialised memory, leave out
what they do not know, and say so in a log.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from graft_lightning.domains.base.loading import ModelUnavailableError, loaded
from graft_lightning.domains.base.weights import variants
from graft_lightning.refusals import Refusal, damaged
from graft_lightning.tensors import REMEDY, refuse_not_finite, whole

WEIGHTS = (".safetensors", ".bin")
"""How files of weights end."""
HARMLESS = re.compile(r"position_ids$|num_batches_tracked$")
"""Buffers that older versions of the libraries wrote; nothing depends on them."""


def loaded_network(
    load: Callable[..., Any], source: str, what: str, part: str = "", shared: bool = False, **options: Any
) -> Any:
    """A network with all of its weights from a folder or an id on the Hugging Face hub.

    Args:
        load: ``from_pretrained`` of a class of diffusers or transformers.
        source: the folder or id.
        what: who loads it, and the setting that names it, for the error.
        part: the folder in ``source`` that the network is in; ``source`` itself by default.
        shared: the file may hold other networks' weights as well.
        **options: passed on.

    Raises:
        ModelUnavailableError: if it cannot be had, or weights are missing, unexpected or of another shape; names the
            first of them and the file.
        DamagedFile: if a file cannot be read.
        SettingsError: if weights are not finite.
    """
    if part:
        options["subfolder"] = part
    if getattr(load, "__module__", "").startswith("transformers"):
        options["ignore_mismatched_sizes"] = True  # it then names them, and we refuse
    where = place(source, part, options.get("variant"))
    try:
        network, report = loaded(load, source, what, output_loading_info=True, **options)
    except (Refusal, MemoryError, ImportError):
        _refuse_damaged(source, part)
        there = variants(Path(source).expanduser() / part)
        if options.get("variant") is None and there and None not in there:
            names = " and ".join(sorted(name for name in there if name))
            raise ModelUnavailableError(
                f"{what}: {source!r} holds its weights as {names} alone; load them with that variant, and save them "
                "with save_pretrained without one"
            ) from None
        raise
    except Exception as error:  # readers raise nearly anything over files that are not theirs
        if "OutOfMemory" in type(error).__name__:
            raise
        _refuse_damaged(source, part)
        said = " ".join(str(error).split())[:300]
        raise ModelUnavailableError(f"{what}: {source!r} does not fit ({said}); {where} is of another model") from error
    unexpected = [] if shared else [name for name in report["unexpected_keys"] if not HARMLESS.search(name)]
    wrong = []
    if missing := sorted(report["missing_keys"]):
        wrong.append(f"has no weights for {missing[0]} and {len(missing) - 1} more")
    if unexpected:
        wrong.append(f"has weights for {min(unexpected)} and {len(unexpected) - 1} more, which it lacks")
    if misshapen := sorted(report.get("mismatched_keys", ())):
        name, there, here = misshapen[0]
        wrong.append(f"has {name} of shape {tuple(there)} in place of {tuple(here)}")
    if any(".lora_" in name for name in unexpected):
        raise ModelUnavailableError(
            f"{what}: {source!r} was saved with LoRA adapters in place; {where} has weights for {min(unexpected)} and "
            f"{len(unexpected) - 1} more. Call fuse_lora and unload_lora_weights of the pipeline before save_pretrained"
        )
    if wrong:
        raise ModelUnavailableError(
            f"{what}: {source!r} {' and '.join(wrong)} of {type(network).__name__}; {where} is incomplete, or was "
            "saved from another kind of model"
        )
    refuse_not_whole(network, f"{what}: {where}")
    return network


def refuse_not_whole(network: nn.Module, source: str) -> None:
    """Refuses a network of which weights were not loaded, or are not finite.

    Args:
        network: as loaded.
        source: says whose weights they are, for the error.

    Raises:
        ModelUnavailableError: if the first weight without values is one that no file had.
        SettingsError: if weights hold NaN or infinite numbers.
    """
    parameters = dict(network.named_parameters())
    if empty := sorted(name for name, value in parameters.items() if value.is_meta):
        raise ModelUnavailableError(f"{source} has no weights for {empty[0]} and {len(empty) - 1} more")
    refuse_not_finite(set(parameters), parameters, source)


def place(source: str, part: str = "", variant: str | None = None) -> str:
    """The file that weights are in; their folder where there are several, or none; the id where it is no folder."""
    files = [file for file in weight_files(source, part) if variant is None or f".{variant}" in file.name]
    if len(files) == 1:
        return str(files[0])
    return str(Path(source) / part) if part else source


def weight_files(source: str, part: str = "") -> list[Path]:
    """The files of weights in a local folder."""
    folder = Path(source).expanduser() / part
    return sorted(file for file in folder.iterdir() if file.suffix in WEIGHTS) if folder.is_dir() else []


def _refuse_damaged(source: str, part: str) -> None:
    """Names the first file of weights that cannot be read at all."""
    from safetensors import safe_open

    for file in weight_files(source, part):
        if not file.stat().st_size:
            raise damaged(file, "it is empty", REMEDY)
        if file.suffix == ".safetensors":
            with whole(lambda path: safe_open(str(path), "pt"), file):
                continue
