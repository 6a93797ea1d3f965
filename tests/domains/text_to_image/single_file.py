"""A pipeline of the first generation as a single file in the original layout, as other programs distribute it."""

import re
from pathlib import Path

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


def single_file(folder: Path, file: Path) -> Path:
    """Writes ``sd15`` of `tiny_pipelines` as one file. Returns it."""
    weights = {}
    for name, tensor in load_file(folder / "unet" / "diffusion_pytorch_model.safetensors").items():
        weights[_unet(name)] = tensor
    for name, tensor in load_file(folder / "vae" / "diffusion_pytorch_model.safetensors").items():
        original, value = _vae(name, tensor)
        weights[original] = value
    for name, tensor in load_file(folder / "text_encoder" / "model.safetensors").items():
        name = name if name.startswith("text_model.") else f"text_model.{name}"
        weights[f"cond_stage_model.transformer.{name}"] = tensor
    save_file(weights, file)
    return file
