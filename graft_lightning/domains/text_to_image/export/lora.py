"""Adapters as files that other programs read, at the strength that they were trained at."""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from graft_lightning.domains.text_to_image.export.settings import Tuned
from graft_lightning.durable import replacing
from graft_lightning.tensors import read_tensors, write_tensors

LORA_FILE = "pytorch_lora_weights.safetensors"
KOHYA_FILE = "lora_for_comfyui.safetensors"


def write_lora(tuned: Tuned, folder: Path, settings: dict[str, Any]) -> Path:
    """Adapters as ``load_lora_weights`` of the pipeline reads them, the hand-off in the header. Returns the file.

    All layers have PEFT's names, and the strength is folded into the second matrix: readers that do not look at the
    header (A1111, older versions of diffusers) take alpha for the rank. ComfyUI knows the layers of U-Nets by other
    names alone, which a second file has.
    """
    import diffusers
    from diffusers.utils import convert_state_dict_to_kohya

    network: Any = tuned.views.network
    kind = getattr(diffusers, settings["pipeline"])
    component = settings["component"]
    layers = folded(network)
    with replacing(folder / LORA_FILE) as temporary:
        kind.save_lora_weights(
            temporary.parent,
            weight_name=temporary.name,
            **{f"{component}_lora_layers": layers, f"{component}_lora_adapter_metadata": adapter_config(network)},
        )
        tensors, header = read_tensors(temporary)
    file = folder / LORA_FILE
    header = header | header_of(settings)
    write_tensors(file, tensors, header)
    if component == "unet":
        other = convert_state_dict_to_kohya({f"unet.{name}": value for name, value in layers.items()})
        write_tensors(folder / KOHYA_FILE, other, header)
    return file


def folded(network: Any) -> dict[str, Tensor]:
    """The adapters' matrices under PEFT's names, alpha / rank times the second of each layer."""
    from peft import get_peft_model_state_dict

    layers = get_peft_model_state_dict(network, adapter_name="default")
    found = {}
    for name, value in layers.items():
        layer, _, matrix = name.rpartition(".lora_")
        scale = network.get_submodule(layer).scaling["default"] if matrix.startswith("B") else 1.0
        found[name] = (value.detach().cpu() * scale).contiguous()
    return found


def adapter_config(network: Any) -> dict[str, Any]:
    """PEFT's configuration of the adapters as they are written: strength 1, nothing left of training."""
    config = network.peft_config["default"].to_dict()
    config |= {"lora_alpha": config["r"], "lora_dropout": 0.0}
    return {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}


def header_of(settings: dict[str, Any]) -> dict[str, str]:
    """What the header of the weights tells of the hand-off; all of it again as JSON under ``graft.settings``."""
    handoff, guidance = settings["handoff"], settings["guidance"]
    return {
        "graft.base_model": settings["base_model"],
        "graft.prediction_type": settings["prediction_type"],
        "graft.handoff_timestep": f"{handoff['timestep']:g}",
        "graft.handoff_sigma": f"{handoff['sigma']:.9g}",
        "graft.handoff_steps_share": f"{handoff['steps_share']:g}",
        "graft.fine_tuned": handoff["fine_tuned"],
        "graft.guidance": guidance["mode"],
        "graft.guidance_scale": f"{guidance['scale']:g}",
        "graft.settings": json.dumps(settings, sort_keys=True),
    }
