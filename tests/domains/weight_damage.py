"""Ways in which files of weights are not those of a network."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

DAMAGE = ("missing", "prefixed", "another shape", "not finite", "cut")


def damage(file: Path, kind: str) -> None:
    """Damages a file of safetensors in place, in one tensor or in all."""
    weights = load_file(file)
    name = next(iter(sorted(name for name, value in weights.items() if name.endswith("bias") and len(value) > 1)))
    if kind == "cut":
        file.write_bytes(file.read_bytes()[:-100])
        return
    changed = {
        "missing": lambda: {key: value for key, value in weights.items() if key != name},
        "prefixed": lambda: {f"module.{key}": value for key, value in weights.items()},
        "another shape": lambda: weights | {name: weights[name][:1].clone()},
        "not finite": lambda: weights | {name: torch.full_like(weights[name], torch.nan)},
    }[kind]()
    save_file(changed, file, {"format": "pt"})
