"""Codecs: finished states as samples that rewards, people and files can take, and what "the same" means for them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graft_lightning.tensors import write_tensors
from graft_lightning.types import MASK, SettingsError, as_state, concatenate, take


class WrongSize(SettingsError):
    """A sample in a file is of another size than those of the model."""


class Codec:
    """From finished states to samples, and all that is done with samples. Every method has a default.

    Samples are whatever `decode` returns: a tensor ``(batch, *shape)`` (images: ``(batch, C, H, W)`` in [0, 1]), a
    mapping of such tensors, or anything else of a length; the defaults below know the first two.

    Attributes:
        same_within: two samples are the same if their `numbers` differ by no more than this share of their length.
    """

    same_within: float = 1e-6

    def decode(self, x_0: Any) -> Any:
        """Finished states as samples; the states themselves by default.

        Args:
            x_0: ``(batch, *shape)``, or a mapping of fields where the process has several.
        """
        return x_0

    def keys(self, samples: Any) -> Tensor | None:
        """De-duplication keys of samples, int64 ``(batch,)``, -1 for "equal to nothing"; None where there is none."""
        return None

    def numbers(self, samples: Any) -> Tensor | None:
        """Coordinates ``(batch, d)`` in which samples are compared: diversity, repetitions, effect of fine-tuning.

        By default all numbers that a sample has, padding at zero; None where they are not tensors.
        """
        return all_numbers(samples)

    def degenerate(self, samples: Any) -> Tensor | None:
        """Which samples show nothing, bool ``(batch,)``.

        By default those of whose numbers one is not finite, and those that a mask leaves without any element.
        """
        numbers = self.numbers(samples)
        if numbers is None:
            return None
        broken = ~numbers.isfinite().all(1)
        mask = mask_in(samples)
        return broken if mask is None else broken | ~mask.any(1).to(broken.device)

    def sharpness(self, samples: Any) -> Tensor | None:
        """How sharp samples are, ``(batch,)``, NaN where undefined; None, the default, where there is no such notion.

        A blurred sample must have a smaller value than the sample itself.
        """
        return None

    def draw(self, samples: Any, captions: Sequence[str] | None = None) -> Tensor | None:
        """A sheet of samples for people, uint8 ``(3, height, width)``; None, the default, draws nothing.

        Args:
            samples: as `decode` returns them.
            captions: one text a sample, or none.
        """
        return None

    def compare(self, before: Any, after: Any, captions: Sequence[str]) -> Tensor | None:
        """A sheet of samples of the same seeds before and after fine-tuning, by default `draw` of them in pairs.

        Args:
            before: as `decode` returns them.
            after: as many, of the same seeds.
            captions: one text a pair.
        """
        rows = range(len(captions))
        pairs = [take(samples, slice(row, row + 1)) for row in rows for samples in (before, after)]
        return self.draw(concatenate(pairs), [f"{when}: {text}" for text in captions for when in ("base", "now")])

    def write(self, samples: Any, names: Sequence[str], folder: Path) -> list[Path]:
        """Writes one file a sample, by default a safetensors file of its fields.

        Args:
            samples: as `decode` returns them.
            names: of the files, without suffix, one a sample.
            folder: an existing folder.

        Returns:
            The paths.

        Raises:
            TypeError: if samples are not tensors and the codec does not say how to write them.
        """
        if not isinstance(samples, Tensor | Mapping):
            name = type(self).__name__
            raise TypeError(f"samples are {type(samples).__name__}: {name}.write() must say how to write them")
        fields, paths = as_state(samples), []
        for row, name in enumerate(names):
            paths.append(folder / f"{name}.safetensors")
            write_tensors(paths[-1], {field: values[row] for field, values in fields.items()})
        return paths

    def read(self, path: Path, condition: str) -> Any:
        """One sample in a file, as `decode` returns samples: a batch of one. What others have drawn is imported by it.

        Args:
            path: of the file.
            condition: that it was drawn for.

        Raises:
            WrongSize: if it is of another size than the model's samples.
            SettingsError: if it is damaged; or where the codec does not say how a file becomes a sample, the default.
        """
        raise SettingsError(f"{path}: a {type(self).__name__} does not say how a file becomes a sample (its `read`)")

    def state_of(self, samples: Any, conditions: Sequence[str]) -> Any:
        """The finished states x_0 of samples: what `decode` makes them of, or of what is as near as an encoder gets.

        The samples themselves by default, where `decode` is the default too.

        Args:
            samples: as `decode` returns them.
            conditions: one a sample.

        Raises:
            SettingsError: if the codec decodes, and does not say how to encode.
        """
        if type(self).decode is Codec.decode:
            return samples
        raise SettingsError(f"a {type(self).__name__} does not say which states its samples have (its `state_of`)")


def all_numbers(samples: Any) -> Tensor | None:
    """Every number of a sample, fields in the order of their names, float64 ``(batch, d)``.

    What a mask calls padding is zero, whatever is written there; the mask itself counts, as 0 and 1.

    Args:
        samples: a tensor, or a mapping of such; anything else has no numbers, and None is returned.
    """
    if not isinstance(samples, Tensor | Mapping):
        return None
    fields, mask = as_state(samples), mask_in(samples)
    return torch.cat([_flat(_without_padding(fields[name].detach(), mask)) for name in sorted(fields)], 1)


def mask_in(samples: Any) -> Tensor | None:
    """Which elements of samples are real, bool ``(batch, n)``; None where samples have no field that says so."""
    mask = as_state(samples).get(MASK) if isinstance(samples, Mapping) else None
    return None if mask is None or mask.ndim != 2 else mask.detach().bool()


def _without_padding(values: Tensor, mask: Tensor | None) -> Tensor:
    """Values ``(batch, n, *shape)`` with zero for padding; those of the whole sample, not of elements, as they are."""
    if mask is None or values.shape[:2] != mask.shape:
        return values
    return values.masked_fill(~mask.reshape(*mask.shape, *[1] * (values.ndim - 2)), 0)


def _flat(values: Tensor) -> Tensor:
    """``(batch, *shape)`` as float64 ``(batch, d)``; one number a sample is a column."""
    return (values if values.ndim > 1 else values.unsqueeze(1)).flatten(1).double()
