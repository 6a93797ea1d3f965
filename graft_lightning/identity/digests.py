"""Digests of tensors, texts and plain descriptions: 16 hexadecimal digits each."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import torch

BYTES = 8


def digest(tensors: Iterable[Any]) -> str:
    """A digest of the values, shapes and types of tensors.

    Sharded tensors are gathered one by one, which all their processes must do together.
    """
    hasher = hashlib.blake2b(digest_size=BYTES)
    for tensor in tensors:
        whole = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
        # A copy: NumPy would fix the size of a storage that sharding wants to free.
        flat = whole.detach().to("cpu", copy=True).contiguous()
        hasher.update(f"{tuple(flat.shape)}{flat.dtype}".encode())
        hasher.update(flat.reshape(-1).view(torch.uint8).numpy())
    return hasher.hexdigest()


def text_digest(text: str | bytes) -> str:
    """A digest of a text, by its UTF-8 bytes."""
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return hashlib.blake2b(data, digest_size=BYTES).hexdigest()


def digest_of(description: Any) -> str:
    """A digest of a plain description, whatever the order of its keys."""
    return text_digest(json.dumps(description, sort_keys=True))
