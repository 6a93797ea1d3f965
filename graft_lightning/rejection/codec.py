"""Codecs: finished states as samples that rewards, people and files can take, and what "the same" means for them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graft_lightning.types import as_state


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

        By default all numbers that a sample has; None where they are not tensors.
        """
        if not isinstance(samples, Tensor | Mapping):
            return None
        fields = as_state(samples)
        return torch.cat([fields[name].detach().flatten(1).double() for name in sorted(fields)], 1)

    def degenerate(self, samples: Any) -> Tensor | None:
        """Which samples show nothing, bool ``(batch,)``: by default those with a value that is not finite."""
        numbers = self.numbers(samples)
        return None if numbers is None else ~numbers.isfinite().all(1)

    def draw(self, samples: Any, captions: Sequence[str] | None = None) -> Tensor | None:
        """A sheet of samples for people, uint8 ``(3, height, width)``; None, the default, draws nothing.

        Args:
            samples: as `decode` returns them.
            captions: one text a sample, or none.
        """
        return None

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
        from safetensors.torch import save_file

        if not isinstance(samples, Tensor | Mapping):
            name = type(self).__name__
            raise TypeError(f"samples are {type(samples).__name__}: {name}.write() must say how to write them")
        fields, paths = as_state(samples), []
        for row, name in enumerate(names):
            paths.append(folder / f"{name}.safetensors")
            save_file({field: values[row].detach().cpu().contiguous() for field, values in fields.items()}, paths[-1])
        return paths
