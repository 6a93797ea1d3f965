"""Checkpoints of low-rank adapters: they hold nothing else, and are refused where they would act otherwise."""

from typing import Any

from torch import nn

from graft_lightning.rejection.reference import LoRA
from graft_lightning.types import SettingsError


def keep_adapters(checkpoint: dict[str, Any], lora: LoRA, network: nn.Module) -> None:
    """Leaves the frozen weights out of a checkpoint, and notes what the adapters are multiplied by.

    Args:
        checkpoint: as Lightning gives it, changed in place.
        lora: the module's adapters.
        network: of the module, with its adapters.
    """
    trained = _trained_names(network)
    checkpoint["lora_strength"] = _strength(lora)
    checkpoint["state_dict"] = {k: v for k, v in checkpoint["state_dict"].items() if k in trained}


def check_adapters(checkpoint: dict[str, Any], lora: LoRA, network: nn.Module) -> None:
    """Refuses a checkpoint that lacks some of the adapters, or whose adapters were trained at another strength.

    Arguments as in `keep_adapters`.

    Raises:
        SettingsError: naming what is missing, or both strengths.
    """
    if not (state := checkpoint.get("state_dict")):
        return
    missing = sorted(_trained_names(network) - set(state))
    if missing:
        raise SettingsError(
            f"the checkpoint lacks {len(missing)} adapter weights that model.lora={lora} asks for, "
            f"{missing[0]} among them: it was trained without adapters, or with others"
        )
    ours = _strength(lora)
    stored = checkpoint.get("lora_strength", ours)
    if stored != ours:
        rank = lora.rank
        raise SettingsError(
            f"the checkpoint's adapters were trained at alpha={stored * rank:g}, but model.lora has "
            f"alpha={ours * rank:g} (rank={rank}): they would act {ours / stored:g} times as strongly; "
            f"set model.lora.alpha to {stored * rank:g}"
        )


def _strength(lora: LoRA) -> float:
    """What adapters are multiplied by, alpha / rank."""
    return 1.0 if lora.alpha is None else lora.alpha / lora.rank


def _trained_names(network: nn.Module) -> set[str]:
    return {f"network.{name}" for name, p in network.named_parameters() if p.requires_grad}
