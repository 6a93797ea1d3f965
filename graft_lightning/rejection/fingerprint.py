"""Fingerprints: plain dictionaries that say what made a pool, so that a foreign one is never used in silence."""

import functools
import hashlib
import types
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import torch
from torch import Tensor, nn


def describe(value: Any) -> Any:
    """A plain (JSON-able) description of an object: its class and its public attributes, recursively.

    Tensors are described by their digest. Attributes that start with an underscore are state, not identity.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Tensor):
        return digest([value])
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [describe(item) for item in value]
    if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, nn.Module):
        return {"class": _name(value), "weights": digest(value.state_dict().values())}
    if isinstance(value, functools.partial):
        return {"partial": describe(value.func), "arguments": describe([*value.args, value.keywords])}
    attributes = getattr(value, "__dict__", None)
    if attributes is None:
        return str(value)
    # Where something is computed is not what it is.
    public = {k: v for k, v in attributes.items() if not k.startswith("_") and not isinstance(v, torch.device)}
    return {"class": _name(value), **{key: describe(item) for key, item in sorted(public.items())}}


def digest(tensors: Any) -> str:
    """A digest of the values, shapes and types of tensors, 16 hexadecimal digits.

    Sharded tensors are gathered one by one, which all their processes must do together.
    """
    hasher = hashlib.blake2b(digest_size=8)
    for tensor in tensors:
        whole = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
        # A copy: NumPy would fix the size of a storage that sharding wants to free.
        flat = whole.detach().to("cpu", copy=True).contiguous()
        hasher.update(f"{tuple(flat.shape)}{flat.dtype}".encode())
        hasher.update(flat.reshape(-1).view(torch.uint8).numpy())
    return hasher.hexdigest()


def _name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
