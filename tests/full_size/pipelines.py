"""Pipelines of diffusers with random weights, saved as a user would find them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from graft_lightning.domains.text_to_image.architectures import ARCHITECTURES
from tests.domains.text_to_image.tiny_pipelines import clip_tokenizer
from tests.full_size import sizes


@contextmanager
def made_in(dtype: torch.dtype, seed: int = 0) -> Iterator[None]:
    """What is built inside has weights of this type from the start: half the memory of building first, converting then.

    The same seed gives the same weights.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_default_dtype(before)


def save_pipeline(name: str, folder: Path, dtype: torch.dtype = torch.float32, tiny: bool = False) -> None:
    """Writes a whole pipeline, part by part, so that no more than one is in memory.

    Args:
        name: of `sizes.IDS`.
        folder: of the pipeline.
        dtype: of all weights.
        tiny: cut down.
    """
    import diffusers

    index = ARCHITECTURES[sizes.IDS[name]]["index"]
    kind = getattr(diffusers, index["_class_name"])
    tokenizer = clip_tokenizer(folder / "tokenizer")
    parts: dict[str, Any] = {"scheduler": _scheduler(name)}
    for number, (class_name, config) in enumerate(sizes.text_encoders(name, tiny)):
        suffix = f"_{number + 1}" if number else ""
        parts[f"tokenizer{suffix}"] = tokenizer
        with made_in(dtype, number + 2):
            parts[f"text_encoder{suffix}"] = text_encoder(class_name, config, tokenizer, tiny)
        _to_disk(parts, f"text_encoder{suffix}", folder)
    with made_in(dtype, 1):
        parts["vae"] = diffusers.AutoencoderKL(**sizes.vae(name, tiny))
    _to_disk(parts, "vae", folder)
    network = "transformer" if name == "sd3" else "unet"
    parts[network] = build_network(name, dtype, tiny)
    _to_disk(parts, network, folder)
    _write_index(kind, parts, folder, index)


def build_network(name: str, dtype: torch.dtype = torch.float32, tiny: bool = False) -> Any:
    """The U-Net or transformer alone."""
    import diffusers

    kind = diffusers.SD3Transformer2DModel if name == "sd3" else diffusers.UNet2DConditionModel
    with made_in(dtype):
        return kind(**sizes.network(name, tiny)).eval()


def text_encoder(class_name: str, config: dict[str, Any], tokenizer: Any, tiny: bool = False) -> Any:
    """A text encoder with the published vocabulary, of which the tokenizer uses its own part."""
    import transformers

    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    vocabulary = len(tokenizer) if tiny else sizes.VOCABULARY
    return getattr(transformers, class_name)(transformers.CLIPTextConfig(**config, **ids, vocab_size=vocabulary)).eval()


def _scheduler(name: str) -> Any:
    import diffusers

    config = ARCHITECTURES[sizes.IDS[name]]["scheduler"]
    kind = getattr(diffusers, config["_class_name"])
    return kind(**{key: value for key, value in config.items() if key[0] != "_"})


def _to_disk(parts: dict[str, Any], part: str, folder: Path) -> None:
    """Writes a part and leaves its class behind, by which the index names it."""
    parts[part].save_pretrained(folder / part)
    parts[part] = type(parts[part])


def _write_index(kind: Any, parts: dict[str, Any], folder: Path, index: dict[str, Any]) -> None:
    """``model_index.json``, and the parts that are not written yet."""
    import inspect
    import json

    import diffusers

    listed: dict[str, Any] = {**index, "_diffusers_version": diffusers.__version__}
    for name in inspect.signature(kind.__init__).parameters:
        if name in ("self", "force_zeros_for_empty_prompt", "add_watermarker", "requires_safety_checker"):
            continue
        part = parts.get(name)
        if part is None:
            listed[name] = [None, None]
            continue
        if not isinstance(part, type):
            part.save_pretrained(folder / name)
            part = type(part)
        listed[name] = [part.__module__.partition(".")[0], part.__name__]
    if "requires_safety_checker" in inspect.signature(kind.__init__).parameters:
        listed["requires_safety_checker"] = False
    (folder / "model_index.json").write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")
