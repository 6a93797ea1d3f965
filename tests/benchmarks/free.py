"""Networks that cost nothing, at the sizes of real states: what is left of a step is what a framework adds to it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from graft_lightning.processes.paths import CategoricalPath, CentredGaussianPath, GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.samplers import DDPM
from graft_lightning.processes.schedules import Cosine, RectifiedFlow, ScaledLinear, Schedule, Trigonometric
from graft_lightning.rejection.own_model import OwnModel
from graft_lightning.types import MASK

STEPS = 20
TYPES = 5


class Free(nn.Module):
    """The state itself; in training times one weight, so that there is a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x_t: Any, t: Tensor, condition: Any = None) -> Any:
        if isinstance(x_t, Tensor):
            return x_t * self.weight if torch.is_grad_enabled() else x_t
        logits = x_t["positions"].new_zeros(*x_t["types"].shape, TYPES)
        return {"positions": self(x_t["positions"], t), "types": logits * self.weight}


@dataclass(frozen=True)
class Case:
    """One size.

    Attributes:
        batch: samples at a time.
        shape: of one state; of positions, where there are types too.
        output: what the network is taken to predict.
        schedule: of the noise.
        mixed: positions and types of molecules.
    """

    batch: int
    shape: tuple[int, ...]
    output: Any
    schedule: Callable[[], Schedule]
    mixed: bool = False

    def reference(self, steps: int = STEPS) -> OwnModel:
        """The free network on this process, sampled by ancestral steps."""
        schedule = self.schedule()
        if not self.mixed:
            process = Process(GaussianPath(schedule))
            return OwnModel(Free(), DDPM(steps), self.shape, self.output, process)
        paths = {"positions": CentredGaussianPath(schedule), "types": CategoricalPath(schedule, TYPES)}
        shapes = {"positions": self.shape, "types": self.shape[:1]}
        outputs: Any = {"positions": self.output, "types": "logits"}
        return OwnModel(Free(), DDPM(steps), shapes, outputs, Process(paths))

    def static(self, device: str = "cpu") -> Any:
        """The mask of molecules that fill two thirds of their rows."""
        if not self.mixed:
            return None
        real = torch.arange(self.shape[0], device=device) < 2 * self.shape[0] // 3
        return {MASK: real.expand(self.batch, -1).contiguous()}


CASES = {
    "digits": Case(64, (1, 16, 16), "v_prediction", Cosine),
    "SD 2": Case(8, (4, 64, 64), "epsilon", ScaledLinear),
    "SDXL": Case(8, (4, 128, 128), "epsilon", ScaledLinear),
    "CelebA-HQ": Case(16, (3, 256, 256), "flow", RectifiedFlow),
    "QM9": Case(64, (29, 3), "v_prediction", Trigonometric, mixed=True),
}
