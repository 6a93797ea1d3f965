"""The network of a model of images: any of diffusers that takes an image and a time."""

import inspect
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from graft_lightning.domains.base import UnconditionalImages
from graft_lightning.domains.base.loading import loaded
from graft_lightning.domains.base.merging import merged_state
from graft_lightning.domains.base.pretrained import loaded_network
from graft_lightning.domains.base.scheduler import defaults_of
from graft_lightning.domains.base.sums import check_sums, write_sums
from graft_lightning.domains.images.architectures import Architecture, Config
from graft_lightning.durable import replacing_folder, write_text
from graft_lightning.processes.process import Shape
from graft_lightning.types import SettingsError

PROVENANCE = "training.json"
"""Beside the weights: where they come from."""


class DiffusersImages(UnconditionalImages):
    """A model of images whose network is one of diffusers: where it lies, what it is asked for.

    Attributes:
        weights: a folder written by ``save_pretrained``, or an id on the Hugging Face hub.
        network: what is trained; None takes the network that belongs to the weights.
        side: height and width; None for the network's own ``sample_size``.
        label: the class that a class-conditional network is asked for.
        subfolder: where in ``weights`` the network is.
    """

    lora_targets = ("to_q", "to_k", "to_v", "to_out.0")

    weights: str | None = None
    network: Architecture | None = None
    side: int | None = None
    label: int | None = None
    subfolder: str | None = None

    _unsized = "size is not set"
    """What is said where neither a setting nor the network tells the size of the images."""

    @property
    def _what(self) -> str:
        """Who loads, and by which setting, for errors."""
        return f"{type(self).__name__}, setting `weights`"

    @property
    def weights_file(self) -> Path:
        """The folder of the weights.

        Raises:
            SettingsError: if none is named.
        """
        return Path(self._source()).expanduser()

    def _source(self) -> str:
        if self.weights is None:
            raise SettingsError(
                "weights is not set; name the folder of a trained network, as save_pretrained writes it, or an id on "
                "huggingface.co"
            )
        return self.weights

    @cached_property
    def config(self) -> Config:
        """The network's configuration, the architecture's or that beside the weights, with the defaults of its class.

        Raises:
            ModelUnavailableError: if it is beside weights that cannot be had.
            SettingsError: if the network is not one of images of some size.
        """
        found = complete(self.network.config() if self.network else self._stored())
        size = found.get("sample_size")
        if not (self.side or isinstance(size, int) or (isinstance(size, list | tuple) and len(size) == 2)):
            raise SettingsError(f"{self._unsized}, and the network's sample_size is {size!r}")
        channels = found.get("in_channels")
        if found.get("out_channels") not in (None, channels):
            raise SettingsError(
                f"the network makes {found['out_channels']} channels of {channels}; what it predicts has as many as an "
                "image"
            )
        return found

    def _stored(self) -> Config:
        from diffusers import UNet2DModel  # any class reads any configuration

        return dict(loaded(UNet2DModel.load_config, self._source(), self._what, subfolder=self.subfolder))

    def build(self, pretrained: bool = True) -> nn.Module:
        kind = self._kind()
        if not pretrained:
            network: nn.Module = kind.from_config(self.config)
            if self.network:
                self.network.initialise(network)
            return network
        if self.network:
            self._compare(self._stored())
        part = self.subfolder or ""
        check_sums(self.weights_file / part)
        return loaded_network(kind.from_pretrained, self._source(), self._what, part, low_cpu_mem_usage=False)

    def _kind(self) -> Any:
        """The network's class.

        Raises:
            SettingsError: if diffusers has none of that name, or it needs other than an image and a time.
        """
        import diffusers

        name = self.config.get("_class_name")
        kind = getattr(diffusers, str(name), None)
        if kind is None:
            raise SettingsError(f"network: diffusers has no {name!r}, e.g. 'UNet2DModel' or 'DiTTransformer2DModel'")
        if (embedded := self.config.get("class_embed_type")) == "identity":
            raise SettingsError(f"network: its class_embed_type is {embedded!r}; a label is a number, and no embedding")
        known = {"self", "sample", "hidden_states", "timestep", "class_labels"}
        parameters = inspect.signature(kind.forward).parameters.values()
        needed = [p.name for p in parameters if p.default is p.empty and p.name not in known]
        if needed:
            raise SettingsError(f"network: {name} needs {', '.join(needed)}; a model of images takes image and time")
        seen = type(self).decode is UnconditionalImages.decode  # what a class of one's own decodes may be no picture
        if seen and (channels := self.config.get("in_channels")) not in (1, 3):
            raise SettingsError(f"the network's in_channels is {channels}; images are grey (1) or have colours (3)")
        return kind

    def _compare(self, stored: Config) -> None:
        """Refuses weights of another network."""
        stored, ours = (json.loads(json.dumps(complete(config))) for config in (stored, self.config))
        different = {key: (stored.get(key), value) for key, value in ours.items() if stored.get(key) != value}
        if different:
            listed = ", ".join(f"{key}: file {a!r}, configuration {b!r}" for key, (a, b) in different.items())
            raise SettingsError(f"weights={self.weights} belong to another network ({listed})")

    def save(self, network: nn.Module, path: Path, provenance: dict[str, Any]) -> None:
        """Writes a folder that `build`, and ``from_pretrained`` of diffusers, reads; all of it or nothing.

        What was in the network's own folder is replaced, and nothing beside it: with ``subfolder`` the rest of a
        pipeline stays. Adapters are folded into the weights.

        Raises:
            SettingsError: if the folder holds something else, which stays; says where the network is instead.
        """
        if any(".lora_" in name for name in network.state_dict()):
            plain = self._kind().from_config(self.config)
            plain.load_state_dict(merged_state(network))
            network = plain
        target = path / self.subfolder if self.subfolder else path
        partial = target.with_name(target.name + ".partial")
        with replacing_folder(partial) as temporary:
            network.save_pretrained(temporary)  # type: ignore[operator]
            write_text(temporary / PROVENANCE, json.dumps(provenance, indent=1) + "\n")
            write_sums(temporary)
        if target.is_dir() and not any(target.iterdir()):
            target.rmdir()
        elif target.exists() and not (target / "config.json").is_file():
            raise SettingsError(
                f"weights: {target} is there, and holds no network (no config.json), so it is not replaced; the "
                f"network is in {partial}; name another folder"
            )
        with replacing_folder(target) as temporary:
            partial.rename(temporary)

    def encode(self, conditions: Sequence[str], device: torch.device | str) -> Tensor:
        """The label, int64 ``(batch,)``, for class-conditional networks; else an empty row a sample.

        Raises:
            ValueError: if a condition says something.
            SettingsError: if the network is class-conditional and no label is set.
        """
        nothing = super().encode(conditions, device)
        label = self._label()
        if label is not None:
            return torch.full((len(conditions),), label, device=device)
        if any(self.config.get(key) is not None for key in ("num_class_embeds", "class_embed_type")):
            raise SettingsError(f"label is not set, and {self.config['_class_name']} is asked for one of its classes")
        return nothing

    def _label(self) -> int | None:
        """The class that is asked for; None where there are no classes, or none is chosen.

        Raises:
            SettingsError: if the network has no such class.
        """
        null, classes = self.config.get("num_embeds_ada_norm"), self.config.get("num_class_embeds")
        if self.label is None:
            return null
        name = self.config["_class_name"]
        if null is None and classes is None and self.config.get("class_embed_type") is None:
            raise SettingsError(f"label={self.label}, but {name} has no classes; leave label out")
        if null is not None:
            last, whole = null, f"0 to {null - 1}, and {null} for none"
        elif classes is not None:
            last, whole = classes - 1, f"0 to {classes - 1}"
        else:
            return self.label  # not looked up in a table
        if not 0 <= self.label <= last:
            raise SettingsError(f"label={self.label}, but the classes of {name} are {whole}")
        return self.label

    def shape(self, conditions: Sequence[str]) -> Shape:
        return (self.config["in_channels"], *self._sides())

    def _sides(self) -> tuple[int, int]:
        """Height and width."""
        size = self.side or self.config["sample_size"]
        return (size, size) if isinstance(size, int) else (size[0], size[1])


def complete(config: Config) -> Config:
    """A configuration with the defaults of its class for what it leaves out, where diffusers has that class."""
    import diffusers

    kind = getattr(diffusers, str(config.get("_class_name")), None)
    return ({} if kind is None else defaults_of(kind)) | config
