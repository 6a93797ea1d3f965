"""CLIP-FlanT5: a CLIP image encoder, a two-layer projector and a T5 that reads image tokens between two texts.

Kept by hand because transformers has no class for it, and the published one needs an old version of it.

References:
    Lin et al., Evaluating Text-to-Visual Generation with Image-to-Text Generation (2024), arXiv 2404.01291;
    github.com/linzhiqiu/t2v_metrics, version 3.0 (the last with this model).
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from graft_lightning.domains.base.loading import loaded
from graft_lightning.domains.base.pretrained import HARMLESS, loaded_network, refuse_not_whole
from graft_lightning.tensors import load_into, whole
from graft_lightning.types import SettingsError

_PROJECTOR = "mm_projector."
_VISION = "vision_tower.vision_tower."
_ALIASES = ("embed_tokens.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
_WEIGHTS = (
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
)


class CLIPFlanT5(nn.Module):
    """The network.

    Args:
        vision: a CLIPVisionModel.
        projector: from its width to T5's.
        t5: a T5ForConditionalGeneration.
        layer: whose hidden states are the image tokens; -2 is the last but one.
    """

    def __init__(self, vision: Any, projector: nn.Sequential, t5: Any, layer: int = -2) -> None:
        super().__init__()
        self.vision = vision
        self.projector = projector
        self.t5 = t5
        self.layer = layer

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.t5.dtype

    def image_tokens(self, pixels: Tensor) -> Tensor:
        """One token a patch, ``(batch, patches, width of T5)``; the class token is left out."""
        hidden = self.vision(pixels, output_hidden_states=True).hidden_states[self.layer]
        return self.projector(hidden[:, 1:])

    def forward(self, pixels: Tensor, before: Sequence[Tensor], after: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Logits ``(batch, labels, vocabulary)`` of the labels.

        Args:
            pixels: preprocessed images.
            before: token ids of the text before each image.
            after: token ids of the text after it.
            labels: token ids of the answer, ``(batch, labels)``.
        """
        embed = self.t5.get_input_embeddings()
        rows = [
            torch.cat([embed(b), image, embed(a)])
            for b, image, a in zip(before, self.image_tokens(pixels), after, strict=True)
        ]
        mask = pad_sequence([row.new_ones(len(row), dtype=torch.long) for row in rows], batch_first=True)
        return self.t5(
            inputs_embeds=pad_sequence(rows, batch_first=True),
            attention_mask=mask,
            decoder_input_ids=self.t5.prepare_decoder_input_ids_from_labels(labels),
        ).logits


def projector(kind: str, before: int, after: int) -> nn.Sequential:
    """The projector of a configuration, named as in LLaVA: "mlp2x_gelu" is linear, GELU, linear.

    Raises:
        ValueError: if ``kind`` is not of that form.
    """
    found = re.fullmatch(r"mlp(\d+)x_gelu", kind)
    if not found:
        raise ValueError(f"mm_projector_type: {kind!r} is not of the form mlp2x_gelu")
    layers: list[nn.Module] = [nn.Linear(before, after)]
    for _ in range(int(found[1]) - 1):
        layers += [nn.GELU(), nn.Linear(after, after)]
    return nn.Sequential(*layers)


def load_network(model: str, dtype: torch.dtype) -> CLIPFlanT5:
    """Reads a checkpoint in the published layout, see `split_weights`.

    ``config.json`` is a T5 configuration with ``mm_vision_tower`` (where the image encoder's configuration, and its
    weights if the checkpoint has none, come from), ``mm_projector_type``, ``mm_hidden_size`` and
    ``mm_vision_select_layer``.

    Args:
        model: a folder or an id on the Hugging Face hub.
        dtype: of the weights.

    Raises:
        ModelUnavailableError: if a part cannot be had.
        SettingsError: if the checkpoint has other weights than the configuration asks for, or some that are not finite.
        DamagedFile: if a file of it cannot be read.
    """
    from transformers import AutoConfig, CLIPVisionConfig, CLIPVisionModel, T5Config, T5ForConditionalGeneration

    config = read_config(model)
    t5, mlp, tower = split_weights(dict(_tensors(model)))
    source = vision_source(model, config)
    what = "image encoder (mm_vision_tower)"
    if tower:
        clip = loaded(AutoConfig.from_pretrained, source, what)
        clip = getattr(clip, "vision_config", clip)
        vision = CLIPVisionConfig.from_dict(clip.to_dict())
        encoder = _assembled(CLIPVisionModel, vision, tower, dtype, f"CLIP-FlanT5, setting `model`: {model}")
    else:
        encoder = loaded_network(CLIPVisionModel.from_pretrained, source, what, shared=True, dtype=dtype)
    t5_config = T5Config.from_dict({**config, "model_type": "t5"})
    language = _assembled(T5ForConditionalGeneration, t5_config, t5, dtype, f"CLIP-FlanT5, setting `model`: {model}")
    bridge = projector(config["mm_projector_type"], config["mm_hidden_size"], config["d_model"])
    load_into(bridge, mlp, f"CLIP-FlanT5, setting `model`: {model}, projector")
    network = CLIPFlanT5(encoder, bridge, language, config.get("mm_vision_select_layer", -2))
    return network.to(dtype)  # all of it, as the authors do: transformers would keep some layers of T5 in float32


def read_config(model: str) -> dict[str, Any]:
    """The configuration of a checkpoint.

    Raises:
        ModelUnavailableError: if it cannot be had.
        SettingsError: if it is not that of a CLIP-FlanT5.
    """
    config = _json(_file(model, "config.json"))
    if "mm_vision_tower" not in config:
        raise SettingsError(f"model: {model!r} is no CLIP-FlanT5, its config.json has no mm_vision_tower")
    return config


def vision_source(model: str, config: dict[str, Any]) -> str:
    """Where the image encoder comes from: a folder inside the model's, or what the configuration names."""
    inside = Path(model).expanduser() / config["mm_vision_tower"]
    return str(inside) if inside.is_dir() else config["mm_vision_tower"]


def split_weights(weights: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """A published checkpoint's weights by part: those of T5, of the projector, of the image encoder.

    ==========================================  ================================================================
    published name                              part
    ==========================================  ================================================================
    shared.*, encoder.*, decoder.*, lm_head.*   T5, under the same names
    embed_tokens.weight and its namesakes in    other names of shared.weight; left out
    encoder and decoder
    mm_projector.N.*                            projector, N.*
    vision_tower.vision_tower.vision_model.*    CLIPVisionModel, vision_model.* (may be absent: it was frozen)
    ==========================================  ================================================================

    Raises:
        ValueError: if a name belongs to none of them.
    """
    t5: dict[str, Tensor] = {}
    mlp: dict[str, Tensor] = {}
    tower: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if name in _ALIASES:
            continue
        if name.startswith(_PROJECTOR):
            mlp[name.removeprefix(_PROJECTOR)] = tensor
        elif name.startswith(_VISION):
            tower[name.removeprefix(_VISION)] = tensor
        elif name.startswith(("shared.", "encoder.", "decoder.", "lm_head.")):
            t5[name] = tensor
        else:
            raise ValueError(f"weight {name!r} belongs to no part of CLIP-FlanT5; is this its checkpoint?")
    return t5, mlp, tower


def save_network(network: CLIPFlanT5, folder: str) -> None:
    """Writes the published layout, complete, but for tokenizer and image processor.

    The image encoder's weights are in the checkpoint, its configuration is in the folder ``vision_tower``.
    """
    from huggingface_hub import save_torch_state_dict

    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    t5 = {name: tensor for name, tensor in network.t5.state_dict().items() if name not in _ALIASES}
    tower = {
        f"{_VISION}vision_model.{name.removeprefix('vision_model.')}": tensor
        for name, tensor in network.vision.state_dict().items()
    }
    mlp = {f"{_PROJECTOR}{name}": tensor for name, tensor in network.projector.state_dict().items()}
    save_torch_state_dict({**t5, **mlp, **tower}, path)
    config = {
        **network.t5.config.to_dict(),
        # transformers writes true here whatever the weights are, and reads it as "scale the output" in its older sense
        "tie_word_embeddings": network.t5.config.scale_decoder_outputs,
        "model_type": "clip_t5",
        "mm_vision_tower": "vision_tower",
        "mm_hidden_size": network.vision.config.hidden_size,
        "mm_projector_type": f"mlp{sum(isinstance(m, nn.Linear) for m in network.projector)}x_gelu",
        "mm_vision_select_layer": network.layer,
        "mm_vision_select_feature": "patch",
    }
    (path / "config.json").write_text(json.dumps(config, indent=2, default=str), encoding="utf-8")
    network.vision.config.save_pretrained(path / "vision_tower")


def _assembled(kind: Any, config: Any, weights: dict[str, Tensor], dtype: torch.dtype, source: str) -> Any:
    network, report = kind.from_pretrained(
        None, config=config, state_dict=weights, dtype=dtype, output_loading_info=True
    )
    keys = ("missing_keys", "mismatched_keys", "unexpected_keys")
    told = {key: sorted(name for name in report[key] if not HARMLESS.search(str(name))) for key in keys}
    if wrong := {key: names for key, names in told.items() if names}:
        raise SettingsError(f"{source}: checkpoint and configuration of {kind.__name__} disagree: {wrong}")
    refuse_not_whole(network, source)
    return network


def _file(model: str, name: str) -> Path:
    from transformers.utils import cached_file

    return Path(loaded(lambda source: cached_file(source, name), model, "CLIP-FlanT5, setting `model`"))


def _tensors(model: str) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a checkpoint, sharded or not, safetensors or torch; mapped, not read."""
    from safetensors import safe_open
    from transformers.utils import cached_file

    def found(name: str) -> str | None:
        return loaded(
            lambda source: cached_file(source, name, _raise_exceptions_for_missing_entries=False), model, "CLIP-FlanT5"
        )

    name = next((name for name in _WEIGHTS if found(name)), None)
    if name is None:
        raise FileNotFoundError(f"model: {model!r} holds no weights; expected one of {', '.join(_WEIGHTS)}")
    shards = [name]
    if name.endswith(".index.json"):
        shards = sorted(set(_json(_file(model, name))["weight_map"].values()))
    for shard in shards:
        path = _file(model, shard)
        if path.suffix == ".safetensors":
            with whole(lambda file: safe_open(file, framework="pt"), path) as tensors:
                for key in tensors.keys():  # noqa: SIM118 - no dictionary
                    yield key, tensors.get_tensor(key)
        else:
            yield from whole(
                lambda file: torch.load(file, map_location="cpu", mmap=True, weights_only=True), path
            ).items()


def _json(file: Path) -> Any:
    return whole(lambda path: json.loads(path.read_text(encoding="utf-8")), file)
