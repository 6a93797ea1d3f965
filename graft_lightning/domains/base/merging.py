"""Adapters folded into the weights that they adapt."""

from typing import Any

from torch import Tensor, nn


def merged_state(network: nn.Module) -> dict[str, Tensor]:
    """The weights of a network as if it had been fine-tuned without adapters, under the names that they then have."""
    state = {
        name.replace(".base_layer.", "."): value for name, value in network.state_dict().items() if ".lora_" not in name
    }
    adapted: dict[str, Any] = {name: m for name, m in network.named_modules() if hasattr(m, "get_delta_weight")}
    for name, layer in adapted.items():
        weight = state[f"{name}.weight"]
        state[f"{name}.weight"] = (weight.float() + layer.get_delta_weight("default").float()).to(weight.dtype)
    return state
