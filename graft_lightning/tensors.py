"""Files of tensors: written durably with a digest, and refused in one sentence where they are not what was written.

The format is safetensors; any reader opens the files. The digest stands in the metadata and covers the names, types,
shapes and bytes of the tensors and the other metadata. Files of others have none: of theirs, what cannot be parsed is
refused, and what does not fit the network.
"""

import hashlib
import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, TypeVar

import torch
from torch import Tensor, nn

from graft_lightning.durable import replacing
from graft_lightning.refusals import Refusal, damaged, first_line
from graft_lightning.sealed import fault
from graft_lightning.types import SettingsError

DIGEST = "digest"
REMEDY = "fetch or make the file again"
T = TypeVar("T")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Writes tensors as safetensors, durably, with a digest.

    Args:
        path: of the file; its folder is made if absent.
        tensors: by name.
        metadata: texts kept beside them.

    Raises:
        OSError: if they cannot be written; what was there before is untouched.
    """
    from safetensors.torch import save_file

    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    texts = dict(metadata or {})
    with replacing(path) as temporary:
        save_file(plain, str(temporary), {**texts, DIGEST: digest_of_tensors(plain, texts)})
        with open(temporary, "r+b") as opened:
            _sort_metadata(opened)


def _sort_metadata(opened: BinaryIO) -> None:
    """Puts the texts of a safetensors file in order: its writer has them in another one every time.

    The same tensors are then the same bytes, and a digest of the file says whether it is another one.
    """
    (length,) = struct.unpack("<Q", opened.read(8))
    header = json.loads(opened.read(length))
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    if len(text) <= length:  # as ever; the data begin where they did
        opened.seek(8)
        opened.write(text.ljust(length))


def read_tensors(path: Path, remedy: str = REMEDY) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Args:
        path: of the file.
        remedy: what to do where it is damaged, as an imperative.

    Raises:
        FileNotFoundError: if it is absent.
        DamagedFile: if it cannot be parsed, or does not have the digest that it names; names the file.
    """
    from safetensors import safe_open

    def read(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
        with safe_open(str(file), "pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}, dict(opened.metadata() or {})  # noqa: SIM118

    tensors, metadata = whole(read, path, remedy)
    known = metadata.pop(DIGEST, None)
    if known is not None and known != digest_of_tensors(tensors, metadata):
        raise damaged(path, "its bytes are not those that were written", remedy)
    return tensors, metadata


def read_torch(path: Path) -> dict[str, Tensor]:
    """The tensors of a file of `torch.save`; nothing but tensors and plain values is read of it.

    Raises:
        FileNotFoundError: if it is absent.
        DamagedFile: if it cannot be read, or its checksums are not those of its parts; names the file.
    """
    if path.is_file() and (wrong := fault(path)):
        with open(path, "rb") as file:
            if file.read(2) == b"PK" or not path.stat().st_size:  # older files are no archives, and have no checksums
                raise damaged(path, wrong, REMEDY)
    return whole(lambda file: dict(torch.load(file, map_location="cpu", weights_only=True)), path)


def whole(read: Callable[[Path], T], path: Path, remedy: str = REMEDY) -> T:
    """``read(path)``, where whatever a reader raises over a file that is there means that it is damaged.

    Raises:
        FileNotFoundError: if it is absent.
        DamagedFile: naming the file, what is wrong, and what to do.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is absent; {remedy}")
    try:
        return read(path)
    except (Refusal, MemoryError, PermissionError):
        raise
    except Exception as error:  # readers raise nearly anything over bytes that are not theirs
        raise damaged(path, f"it cannot be read ({type(error).__name__}: {first_line(error)})", remedy) from error


def digest_of_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """A digest of tensors on the CPU, by name, and of texts: 32 hexadecimal digits."""
    hasher = hashlib.blake2b(json.dumps(dict(metadata), sort_keys=True).encode(), digest_size=16)
    for name in sorted(tensors):
        value = tensors[name]
        hasher.update(f"\0{name}\0{value.dtype}{tuple(value.shape)}\0".encode())
        hasher.update(value.reshape(-1).view(torch.uint8).numpy().data if value.numel() else b"")
    return hasher.hexdigest()


def load_into(network: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Gives a network its weights, all of them.

    Args:
        network: takes them.
        tensors: its state.
        source: says whose they are, for the error: ``weights=FILE``.

    Raises:
        SettingsError: if some are missing, unexpected, of another shape, or not finite; names the first.
    """
    refuse_misfit(network.state_dict(), tensors, source, type(network).__name__)
    refuse_not_finite({name for name, _ in network.named_parameters()}, tensors, source)
    network.load_state_dict(dict(tensors))


def refuse_misfit(own: Mapping[str, Tensor], given: Mapping[str, Tensor], source: str, kind: str) -> None:
    """Compares the names and shapes of weights with those of a network.

    Raises:
        SettingsError: names the first that is missing, unexpected or of another shape, and how many there are.
    """
    missing, unexpected = sorted(own.keys() - given.keys()), sorted(given.keys() - own.keys())
    misshapen = [name for name in own.keys() & given.keys() if own[name].shape != given[name].shape]
    wrong = []
    if missing:
        wrong.append(f"{_some(missing)} missing")
    if unexpected:
        wrong.append(f"{_some(unexpected)} unexpected")
    if misshapen:
        name = min(misshapen)
        shapes = f"{tuple(given[name].shape)} in place of {tuple(own[name].shape)}"
        wrong.append(f"{name} of shape {shapes}" + (f", and {len(misshapen) - 1} more" if misshapen[1:] else ""))
    if wrong:
        raise SettingsError(
            f"{source} does not fit this {kind}: {'; '.join(wrong)}; weights of this very network are needed"
        )


def refuse_not_finite(names: set[str], given: Mapping[str, Tensor], source: str) -> None:
    """Refuses parameters that hold NaN or infinite numbers.

    Args:
        names: of the parameters; a buffer may hold an infinite number (a mask).
        given: tensors by name.
        source: says whose they are, for the error.

    Raises:
        SettingsError: names the first of them.
    """
    for name in sorted(names & given.keys()):
        value = given[name]
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise SettingsError(
                f"{source} holds weights that are not finite ({name}): what trained them diverged; take earlier ones"
            )


def _some(names: list[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if names[1:] else "")
