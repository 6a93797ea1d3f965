"""Pipelines of `tiny_pipelines` as single files in their original layouts, as other programs distribute them."""

import re
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "down_blocks.0.resnets.0": "input_blocks.1.0",
    "down_blocks.0.attentions.0": "input_blocks.1.1",
    "down_blocks.0.downsamplers.0.conv": "input_blocks.2.0.op",
    "down_blocks.1.resnets.0": "input_blocks.3.0",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
    "up_blocks.0.resnets.0": "output_blocks.0.0",
    "up_blocks.0.resnets.1": "output_blocks.1.0",
    "up_blocks.0.upsamplers.0.conv": "output_blocks.1.1.conv",
    "up_blocks.1.resnets.0": "output_blocks.2.0",
    "up_blocks.1.attentions.0": "output_blocks.2.1",
    "up_blocks.1.resnets.1": "output_blocks.3.0",
    "up_blocks.1.attentions.1": "output_blocks.3.1",
}
"""For two levels of one layer each, the second without attention."""
VAE = {
    r"(en|de)coder\.mid_block\.resnets\.0": r"\1coder.mid.block_1",
    r"(en|de)coder\.mid_block\.resnets\.1": r"\1coder.mid.block_2",
    r"(en|de)coder\.mid_block\.attentions\.0": r"\1coder.mid.attn_1",
    r"encoder\.down_blocks\.(\d)\.resnets": r"encoder.down.\1.block",
    r"encoder\.down_blocks\.(\d)\.downsamplers\.0": r"encoder.down.\1.downsample",
    r"decoder\.up_blocks\.0\.resnets": "decoder.up.1.block",
    r"decoder\.up_blocks\.1\.resnets": "decoder.up.0.block",
    r"decoder\.up_blocks\.0\.upsamplers\.0": "decoder.up.1.upsample",
    "conv_norm_out": "norm_out",
    "conv_shortcut": "nin_shortcut",
    r"attn_1\.group_norm": "attn_1.norm",
    r"attn_1\.to_([qkv])": r"attn_1.\1",
    r"attn_1\.to_out\.0": "attn_1.proj_out",
}

OPEN_CLIP = {
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.embeddings.token_embedding": "token_embedding",
    "text_model.final_layer_norm": "ln_final",
    "text_model.encoder.layers": "transformer.resblocks",
    "layer_norm": "ln_",
    "fc1": "c_fc",
    "fc2": "c_proj",
    "self_attn": "attn",
}
TRANSFORMER = {
    "pos_embed.pos_embed": "pos_embed",
    "pos_embed.proj": "x_embedder.proj",
    "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
    "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
    "proj_out": "final_layer.linear",
    "transformer_blocks": "joint_blocks",
    "attn.to_q": "x_block.attn.qkv",
    "attn.add_q_proj": "context_block.attn.qkv",
    "attn.to_out.0": "x_block.attn.proj",
    "attn.to_add_out": "context_block.attn.proj",
    "norm1.linear": "x_block.adaLN_modulation.1",
    "norm1_context.linear": "context_block.adaLN_modulation.1",
    "ff.net.0.proj": "x_block.mlp.fc1",
    "ff.net.2": "x_block.mlp.fc2",
    "ff_context.net.0.proj": "context_block.mlp.fc1",
    "ff_context.net.2": "context_block.mlp.fc2",
}


def _unet(name: str) -> str:
    longest = max((key for key in UNET if name.startswith(f"{key}.")), key=len)
    rest = name.removeprefix(f"{longest}.")
    if ".resnets." in longest:
        layer, rest = rest.split(".", 1)
        rest = f"{RESNET[layer]}.{rest}"
    return f"model.diffusion_model.{UNET[longest]}.{rest}"


def _vae(name: str, tensor: Tensor) -> tuple[str, Tensor]:
    for pattern, replacement in VAE.items():
        name = re.sub(pattern, replacement, name)
    if ".attn_1." in name and tensor.ndim == 2:
        tensor = tensor[:, :, None, None]  # projections were convolutions
    return f"first_stage_model.{name}", tensor.contiguous()


def _renamed(name: str, names: dict[str, str]) -> str:
    for ours, original in names.items():
        name = name.replace(ours, original)
    return name


def _one_matrix(weights: dict[str, Tensor], queries: tuple[str, ...]) -> dict[str, Tensor]:
    """Weights with keys and values under the queries' name, as all original layouts but the first have them."""
    parts = {query: [query.replace("q", letter) for letter in "qkv"] for query in queries}
    found = {}
    for name, tensor in weights.items():
        query = next((query for query, three in parts.items() if any(f".{one}." in name for one in three)), None)
        if query is None:
            found[name] = tensor
        elif f".{query}." in name:
            found[name] = torch.cat([weights[name.replace(f".{query}.", f".{one}.")] for one in parts[query]])
    return found


def _open_clip(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    found = {}
    for name, tensor in _one_matrix(weights, ("q_proj",)).items():
        found[_renamed(name.replace("q_proj.", "in_proj_"), OPEN_CLIP)] = tensor
    if "text_projection.weight" in found:
        found["text_projection"] = found.pop("text_projection.weight").T.contiguous()
    return found


def _transformer(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    last = max(int(name.split(".")[1]) for name in weights if name.startswith("transformer_blocks."))
    found = {}
    for name, tensor in _one_matrix(weights, ("to_q", "add_q_proj")).items():
        if name.startswith(("norm_out.", f"transformer_blocks.{last}.norm1_context.")):
            tensor = torch.cat(tensor.chunk(2)[::-1])  # shift and scale change places
        found[_renamed(name, TRANSFORMER)] = tensor
    return found


def _text(folder: Path, part: str) -> dict[str, Tensor]:
    """The weights of a text encoder of CLIP, under the names of all versions of transformers but the newest."""
    found = load_file(folder / part / "model.safetensors")
    return {name if name.startswith("text_") else f"text_model.{name}": tensor for name, tensor in found.items()}


def _texts(folder: Path, name: str) -> dict[str, dict[str, Tensor]]:
    """The weights of all text encoders, by the prefix that they have in a file."""
    first = _text(folder, "text_encoder")
    if name == "sd15":
        return {"cond_stage_model.transformer": first}
    if name == "sd2":
        return {"cond_stage_model.model": _open_clip(first)}
    second = _text(folder, "text_encoder_2")
    if name == "sdxl":
        return {"conditioner.embedders.0.transformer": first, "conditioner.embedders.1.model": _open_clip(second)}
    del first["text_projection.weight"]  # the identity; diffusers puts it there
    third = load_file(folder / "text_encoder_3" / "model.safetensors")
    third["encoder.embed_tokens.weight"] = third["shared.weight"].clone()
    encoders = {"clip_l": first, "clip_g": second, "t5xxl": third}
    return {f"text_encoders.{short}.transformer": weights for short, weights in encoders.items()}


def single_file(folder: Path, name: str, file: Path) -> Path:
    """Writes a pipeline of `tiny_pipelines` as one file.

    Args:
        folder: of the pipeline.
        name: its name there.
        file: what is written, and returned.
    """
    weights = {}
    if name == "sd3":
        for original, tensor in _transformer(_weights(folder / "transformer")).items():
            weights[f"model.diffusion_model.{original}"] = tensor
    else:
        for ours, tensor in _weights(folder / "unet").items():
            weights[_unet(ours)] = tensor
    for ours, tensor in _weights(folder / "vae").items():
        original, value = _vae(ours, tensor)
        weights[original] = value
    for prefix, encoder in _texts(folder, name).items():
        weights |= {f"{prefix}.{original}": tensor for original, tensor in encoder.items()}
    save_file(weights, file)
    return file


def _weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "diffusion_pytorch_model.safetensors")
