"""The reference of any text-to-image pipeline of diffusers that `pipelines` knows."""

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from graft_lightning.domains.base import ImageReference, contact_sheet
from graft_lightning.domains.base.scheduler import as_loaded, refused
from graft_lightning.domains.text_to_image.embeddings import EmbeddingStore
from graft_lightning.domains.text_to_image.pipelines import Family, family_of
from graft_lightning.domains.text_to_image.pipelines.base import Condition
from graft_lightning.domains.text_to_image.source import Source
from graft_lightning.identity import describe
from graft_lightning.processes.noise import Noise, hashed_seed
from graft_lightning.processes.outputs import Output
from graft_lightning.processes.process import Process, Shape
from graft_lightning.processes.samplers import DDIM, Sampler
from graft_lightning.types import SettingsError, sent

log = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
UNASKED = ("feature_extractor", "image_encoder")
"""Parts that no text-to-image call needs: for a safety checker, and for images as prompts."""
SHEET_SIDE = 192
"""Largest width of one image on a contact sheet."""


class DiffusersReference(ImageReference):
    """Stable Diffusion 1.x, 2.x, XL, 3.x and what was fine-tuned from them.

    States are latents of the pipeline's VAE. Process, grid and output type come from the pipeline's own scheduler
    configuration. Text embeddings are computed once, and kept; text encoders and VAE are on the device only while they
    work.

    Args:
        model: a folder written by ``save_pretrained``, an id on huggingface.co, or a single ``.safetensors`` file.
        sampler: 50 steps of DDIM by default (of Euler's method, for a flow); without a grid of its own it visits the
            levels of the pipeline's scheduler.
        guidance_scale: classifier-free guidance; 1 is none, and so is whatever is below, as in every pipeline.
        dtype: of all weights. Adapters are trained in float32 whatever it is; for full fine-tuning choose "fp32".
        height: of the images, in pixels; the model's own by default.
        width: likewise.
        gradient_checkpointing: recompute activations in the backward pass: less memory, about a third more time.
        attention_slicing: compute attention in slices: less memory, slower; for U-Nets without fused attention.
        text_cache: folder of text embeddings, shared by all runs of a model; in memory alone by default.
        offload: keep text encoders and VAE on the CPU between their turns.
        vae_batch_size: images decoded at a time.
        without: parts that are left out, e.g. text_encoder_3 and tokenizer_3 (T5) of Stable Diffusion 3.
        config: for a single file, the folder or id of a pipeline of the same architecture.
        variant: of the weight files, e.g. "fp16".
        compile: compile the network (``torch.compile``): minutes at first, then faster steps, equal up to rounding.
        channels_last: keep the weights of convolutions with their channels last, which GPUs with tensor cores prefer.
    """

    def __init__(
        self,
        model: str,
        sampler: Sampler | None = None,
        guidance_scale: float = 7.5,
        dtype: Literal["fp32", "fp16", "bf16"] = "fp32",
        height: int | None = None,
        width: int | None = None,
        gradient_checkpointing: bool = False,
        attention_slicing: bool = False,
        text_cache: str | None = None,
        offload: bool = True,
        vae_batch_size: int = 4,
        without: list[str] | None = None,
        config: str | None = None,
        variant: str | None = None,
        compile: bool = False,  # noqa: A002 - the word that users of torch look for
        channels_last: bool = False,
    ) -> None:
        if not math.isfinite(guidance_scale):
            raise SettingsError(f"guidance_scale={guidance_scale}; it must be a number, 1 for no guidance")
        if guidance_scale < 1:
            log.warning("guidance_scale=%g: pipelines of diffusers do not guide at or below 1; it is 1", guidance_scale)
        super().__init__(sampler or DDIM(), max(float(guidance_scale), 1.0))
        if dtype not in DTYPES:
            raise SettingsError(f"dtype={dtype!r}; it must be one of {', '.join(DTYPES)}")
        for name, side in (("height", height), ("width", width)):
            if side is not None and side < 1:
                raise SettingsError(f"{name}={side}; it must be a number of pixels, or left out for the model's own")
        if vae_batch_size < 1:
            raise SettingsError(f"vae_batch_size={vae_batch_size}; it must be at least 1")
        self.model, self.dtype, self.height, self.width = model, dtype, height, width
        self.gradient_checkpointing, self.attention_slicing = gradient_checkpointing, attention_slicing
        self.compile, self.channels_last = compile, channels_last
        self.text_cache, self.offload, self.vae_batch_size = text_cache, offload, vae_batch_size
        self.without = list(without or [])
        self._source = Source(model, config, variant)
        self._parts: dict[str, Any] = {}

    beside = ("VAE", "text encoders")

    def beside_bytes(self) -> int | None:
        """Of the files of text encoders and VAE, where they are local."""
        parts = ["vae", *(part for part in self._text_parts if "encoder" in part)]
        found = [self._source.elements(part) for part in parts]
        return None if None in found else sum(count or 0 for count in found) * DTYPES[self.dtype].itemsize

    # ---- what the pipeline's configuration says

    @cached_property
    def family(self) -> Family:
        """The kind of pipeline.

        Raises:
            SettingsError: if it is not supported; names those that are.
            ModelUnavailableError: if its configuration cannot be had; says what to do.
        """
        index = self._source.index()
        kind = family_of(str(index.get("_class_name", "model without _class_name")), self.model)
        family = kind(index, as_loaded(self._source.config("scheduler"), index.get("scheduler")))
        if unknown := sorted(set(self.without) - set(family.optional)):
            optional = ", ".join(family.optional) or "none"
            raise SettingsError(f"without names {unknown[0]}; parts that {family.pipeline} may lack: {optional}")
        family.check(self._source.complete(family.network, family.network_class), self._vae_config)
        return family

    @property
    def output(self) -> Output:  # type: ignore[override]
        """The network's output type."""
        return self.family.output

    @property
    def lora_targets(self) -> tuple[str, ...]:  # type: ignore[override]
        """The attention projections."""
        return self.family.lora_targets

    @cached_property
    def process(self) -> Process:
        return self.family.process()

    @cached_property
    def size(self) -> tuple[int, int]:
        """Height and width of the images, in pixels.

        Raises:
            SettingsError: if the VAE cannot make such images.
        """
        factor, side = self.vae_factor, self.family.sample_size(self._network_config)
        if side is None and not (self.height and self.width):
            raise SettingsError(f"model={self.model} says nothing of the size of its images; set height and width")
        sides = side if isinstance(side, list | tuple) else (side or 0, side or 0)
        if len(sides) != 2 or not all(isinstance(one, int) for one in sides):
            raise refused("sample_size", side, "it is the side of its latents, or height and width")
        size = (self.height or sides[0] * factor, self.width or sides[1] * factor)
        multiple = factor * self._network_config.get("patch_size", 1)
        if size[0] % multiple or size[1] % multiple:
            raise SettingsError(f"height={size[0]} and width={size[1]} must be multiples of {multiple}")
        known = self._network_config.get("pos_embed_max_size")
        if known and max(size) > known * multiple:
            raise SettingsError(
                f"height={size[0]} and width={size[1]}: the {self.family.network} knows places up to "
                f"{known * multiple} pixels (its pos_embed_max_size={known})"
            )
        return size

    @property
    def vae_factor(self) -> int:
        """Pixels per latent pixel."""
        return 2 ** (len(self._vae_config["block_out_channels"]) - 1)

    @property
    def _network_config(self) -> dict[str, Any]:
        return self._source.complete(self.family.network, self.family.network_class)

    @property
    def _vae_config(self) -> dict[str, Any]:
        return self._source.complete("vae", "AutoencoderKL")

    def shape(self, conditions: Sequence[str]) -> Shape:
        height, width = self.size
        return (self._network_config["in_channels"], height // self.vae_factor, width // self.vae_factor)

    def prepare(self, conditions: Sequence[str]) -> None:
        """Reads embeddings that are on disk alone; what has to be computed is left to `encode`."""
        for text in dict.fromkeys(conditions):
            self._store.get(text)

    # ---- the network

    def build(self, pretrained: bool = True) -> nn.Module:
        """The U-Net or transformer, in evaluation mode.

        Raises:
            ModelUnavailableError: if the weights cannot be had; says what to do.
        """
        network = self._pretrained() if pretrained else self._fresh()
        if self.gradient_checkpointing:
            network.enable_gradient_checkpointing()
        if self.attention_slicing:
            if not self.family.sliced:
                raise SettingsError(f"attention_slicing: {self.family.network_class} has none; set it to false")
            network.set_attention_slice("auto")
        if self.channels_last:
            layout: dict[str, Any] = {"memory_format": torch.channels_last}
            network.to(**layout)
        return network.eval()

    def _pretrained(self) -> Any:
        return self._source.load(self.family.network, self.family.network_class, torch_dtype=DTYPES[self.dtype])

    def _fresh(self) -> Any:
        import diffusers

        kind = getattr(diffusers, self.family.network_class)
        network = kind.from_config(self._source.config(self.family.network))  # which leaves out what it does not know
        return nn.Module.to(network, DTYPES[self.dtype])  # diffusers' own `to` warns of nothing

    def denoise(self, network: nn.Module, x_t: Tensor, t: Tensor, condition: Any) -> Tensor:
        assert isinstance(x_t, Tensor)
        return self.family.denoise(network, x_t, t, condition)

    def blocks(self, network: nn.Module) -> list[nn.Module]:
        """What diffusers itself keeps together when it splits a model, the innermost alone."""
        names = set(getattr(network, "_no_split_modules", None) or [])
        found = [module for module in network.modules() if type(module).__name__ in names]
        return [module for module in found if not any(inner in found for inner in list(module.modules())[1:])]

    # ---- text and images

    def encode(self, conditions: Sequence[str], device: torch.device | str) -> Condition:
        """Encoded prompts, "" as any other; `null` is what guidance starts from."""
        unique = list(dict.fromkeys(conditions))
        embeddings = {text: self._store.get(text) for text in unique}
        missing = [text for text, embedding in embeddings.items() if embedding is None]
        embeddings |= self._embed(missing, device) if missing else {}
        first: Any = embeddings[unique[0]]
        rows = {name: torch.stack([embeddings[text][name] for text in conditions]) for name in first}  # type: ignore[index]
        pinned = torch.device(device).type == "cuda"  # the host then does not wait for the copy
        stacked = {name: sent(row.pin_memory() if pinned else row, device) for name, row in rows.items()}
        return self.family.condition(stacked, *self.size)

    def null(self, device: torch.device | str) -> Condition:
        return self.encode([self.family.null], device)

    def blank(self, conditions: Sequence[str]) -> Condition:
        return self.family.condition(self.family.blank(self._network_config, len(conditions)), *self.size)

    @cached_property
    def _store(self) -> EmbeddingStore:
        parts = [self._source.fingerprint(part) for part in self._text_parts]
        model = "-".join([self.family.pipeline, self.dtype, *self.absent, *parts])
        key = f"{hashed_seed('text encoders', model):016x}"
        return EmbeddingStore(Path(self.text_cache) if self.text_cache else None, key)

    @property
    def _text_parts(self) -> list[str]:
        """The parts that make embeddings, without those left out by setting or saved as none.

        Raises:
            SettingsError: if one is absent that the pipeline cannot do without, or an encoder lacks its tokenizer.
        """
        index = self._source.index()
        # an index that names no part says nothing of them, and the family's own are counted on
        tells = any(part in index for part in self.family.text)
        saved = [part for part in self.family.text if not tells or index.get(part) not in (None, [None, None])]
        needed = [part for part in self.family.text if part not in self.family.optional]
        if absent := [part for part in needed if part not in saved]:
            raise SettingsError(f"model={self.model}: its model_index.json has no {absent[0]}, which texts need")
        found = [part for part in saved if part not in self.without]
        if gone := [part for part in found if part in self.family.optional and self._source.lacks(part)]:
            raise SettingsError(
                f"model={self.model}: its model_index.json names {gone[0]}, which is not here; name "
                f"{' and '.join(self.family.optional)} in without, or fetch it"
            )
        for encoder in (part for part in found if "encoder" in part):
            tokenizer = encoder.replace("text_encoder", "tokenizer")
            if tokenizer not in found:
                raise SettingsError(f"model={self.model}: {encoder} has no {tokenizer}; name {encoder} in without too")
        return found

    @property
    def absent(self) -> list[str]:
        """The parts for texts that are left out: by `without`, or because the model was saved so."""
        return [part for part in self.family.text if part not in self._text_parts]

    @property
    def left_out(self) -> list[str]:
        """The parts without which a pipeline is put together: `absent`, and what nothing needs and is not here."""
        return [*self.absent, *(part for part in UNASKED if self._source.lacks(part))]

    def _embed(self, texts: list[str], device: torch.device | str) -> dict[str, Any]:
        with self._text_encoders(device) as pipeline:
            for low in range(0, len(texts), 32):
                part = texts[low : low + 32]
                embedded = self.family.embed(pipeline, part, device)
                for row, text in enumerate(part):
                    self._store.put(text, {name: values[row] for name, values in embedded.items()})
        return {text: self._store.get(text) for text in texts}

    @contextmanager
    def _text_encoders(self, device: torch.device | str) -> Iterator[Any]:
        if "text" not in self._parts:
            index = self._source.index()
            absent = [name for name in index if name[0] != "_" and isinstance(index[name], list)]
            absent = [name for name in absent if name not in self._text_parts] + self.absent
            pipeline = self._source.load_pipeline(
                self.family.pipeline, absent, torch_dtype=DTYPES[self.dtype], **self._stand_ins()
            )
            self._parts["text"] = pipeline
        pipeline = self._parts["text"]
        encoders = [getattr(pipeline, name) for name in self._text_parts if "encoder" in name]
        with working(encoders, device, self.offload):
            yield pipeline

    def _stand_ins(self) -> dict[str, Any]:
        """Where T5 is left out, the pipeline asks its transformer for the dimension of the zeros that replace it."""
        return {self.family.network: self.meta_network()} if self.absent else {}

    def decode(self, x_0: Tensor) -> Tensor:
        """Images ``(batch, 3, height, width)`` in [0, 1], float32, clamped as the pipeline clamps them."""
        vae = self._vae
        images = []
        with working([vae], x_0.device, self.offload):
            for part in x_0.split(self.vae_batch_size):
                z = self.family.unscaled(part.float(), vae.config)
                images.append(vae.decode(z.to(vae.dtype), return_dict=False)[0].float())
        return (torch.cat(images) / 2 + 0.5).clamp(0, 1)

    def sample_shape(self, conditions: Sequence[str]) -> Sequence[int]:
        return (3, *self.size)

    def state_of(self, samples: Tensor, conditions: Sequence[str]) -> Tensor:
        """Latents ``(batch, channels, height, width)`` of images in [0, 1]: the mean of the VAE's encoder, no draw."""
        vae = self._vae
        with working([vae], samples.device, self.offload):
            parts = [2 * part.to(vae.dtype) - 1 for part in samples.split(self.vae_batch_size)]
            means = [vae.encode(part).latent_dist.mode().float() for part in parts]
        return self.family.scaled(torch.cat(means), vae.config)

    @property
    def _vae(self) -> Any:
        if "vae" not in self._parts:
            upcast = self.family.upcast_vae and self._vae_config["force_upcast"]
            dtype = torch.float32 if self.dtype == "fp16" and upcast else DTYPES[self.dtype]
            self._parts["vae"] = self._source.load("vae", "AutoencoderKL", torch_dtype=dtype).requires_grad_(False)
        return self._parts["vae"]

    def draw(self, samples: Tensor, captions: Sequence[str] | None = None, columns: int = 8) -> Tensor:
        side = max(samples.shape[-2:])
        if side > SHEET_SIDE:
            samples = nn.functional.interpolate(samples.float(), scale_factor=SHEET_SIDE / side, mode="area")
        return contact_sheet(samples, captions, columns)

    # ---- identity

    def fingerprint(self, network: nn.Module) -> dict[str, Any]:
        """By the files that the weights come from, so that sharded weights need not be put together."""
        return {
            "reference": f"{type(self).__module__}.{type(self).__qualname__}",
            "weights": self._source.fingerprint(self.family.network),
            "vae": self._source.fingerprint("vae"),
            "text": self._store.model,
            "dtype": self.dtype,
            "size": list(self.size),
            "process": describe(self.process),
            "sampler": describe(self.sampler),
            "noise": Noise.STREAM,
            "guidance_scale": self.guidance_scale,
            **self.own_code(network),
        }


@contextmanager
def working(modules: list[nn.Module], device: torch.device | str, offload: bool) -> Iterator[None]:
    """Modules on a device while they work, without gradients, in their own precision; afterwards on the CPU again."""
    kind = torch.device(device).type
    for module in modules:
        module.to(device)
    try:
        with torch.no_grad(), torch.autocast(kind, enabled=False):
            yield
    finally:
        if offload and kind != "cpu":
            for module in modules:
                module.to("cpu")
