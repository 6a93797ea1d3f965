"""What a reference's network answers, held against what it was asked: other shapes would be broadcast in silence."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from graft_lightning.processes.outputs import Output
from graft_lightning.types import FIELD, SettingsError, as_state

TAKEN_OUT = "of what a model of diffusers or Transformers returns take `.sample` or `.logits`, of a tuple its first"


def require_answer(raw: Any, x_t: Any, output: Output | dict[str, Output], fields: Mapping[str, Any], of: str) -> None:
    """Refuses what is not one prediction for every number of the state, or where it has classes for every element.

    Args:
        raw: what `Reference.denoise` has returned.
        x_t: the state that it was given.
        output: what it predicts, by field where there are several.
        fields: those that are predicted.
        of: the class of the reference, for the error.

    Raises:
        SettingsError: naming class, field, shapes, and what would be right.
    """
    asked, alone = as_state(x_t), fields.keys() == {FIELD}
    if not (isinstance(raw, Tensor) if alone else hasattr(raw, "keys") and set(raw.keys()) >= fields.keys()):
        wanted = f"a tensor: {TAKEN_OUT}" if alone else f"a mapping with a tensor for each of {list(fields)}"
        raise SettingsError(f"{of}.denoise returned {_kind(raw)}; it must return {wanted}")
    found = as_state(raw)
    for name in fields:
        answer, x = found[name], asked[name]
        kind = output[name] if isinstance(output, dict) else output
        where = "" if name == FIELD else f" for field {name!r}"
        if not isinstance(answer, Tensor):
            raise SettingsError(f"{of}.denoise returned {_kind(answer)}{where}; it must return a tensor: {TAKEN_OUT}")
        shape, right = tuple(answer.shape), tuple(x.shape)
        if kind == "logits" and shape[:-1] != right:
            raise SettingsError(
                f"{of}.denoise returned logits of shape {shape}{where}; of classes of shape {right} they have one axis "
                "more, the last"
            )
        if kind != "logits" and shape != right:
            twice = x.ndim > 1 and shape == (right[0], 2 * right[1], *right[2:])
            remedy = "; where the network predicts a variance beside it, return the first half" if twice else ""
            raise SettingsError(
                f"{of}.denoise returned shape {shape}{where} for states of shape {right}; output={kind!r} has one "
                f"number for each of theirs{remedy}"
            )
        if not answer.is_floating_point():
            raise SettingsError(f"{of}.denoise returned {answer.dtype}{where}; predictions are real numbers")


def require_gradient(raw: Any, network: nn.Module, of: str) -> None:
    """Refuses an answer that no trained weight has a part in: it could not be trained.

    Args:
        raw: what `Reference.denoise` has returned.
        network: whose weights are trained.
        of: the class of the reference, for the error.

    Raises:
        SettingsError: naming the class.
    """
    if not torch.is_grad_enabled() or getattr(raw, "requires_grad", False):
        return
    if any(getattr(part, "requires_grad", False) for part in as_state(raw).values()):
        return
    if any(parameter.requires_grad for parameter in network.parameters()):
        raise SettingsError(
            f"{of}.denoise returned numbers without a gradient, though {type(network).__name__} has weights to train: "
            "it calls another network than the one that it is given, or detaches what that returns, or calls it under "
            "torch.no_grad"
        )


def _kind(raw: Any) -> str:
    kind = type(raw).__name__
    if raw is None:
        return "None"
    if hasattr(raw, "keys"):
        return f"a {kind} with {list(raw.keys())}"
    return f"a {kind}"
