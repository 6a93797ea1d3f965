"""How many nats of divergence training on a round takes up, measured by the denoising loss of what was accepted.

With lambda = log(alpha^2 / sigma^2), log p(x_0) is bounded below by -1/2 int |eps - eps_theta(x_lambda)|^2 d lambda and
a constant (arXiv 2107.00630). The mean rise of this over accepted x_0, which a rule draws from p*, from the model p
that drew the round to the model q after it, estimates KL(p* | p) - KL(p* | q): of what the rule asks for, the part
that training has followed. It is one of the bound, on the very samples that were trained on. Larger than what the rule
asks for, it tells that these are learned by heart, or that the model did not explain its own sampler's output well.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from graft_lightning.processes.denoiser import Denoiser, predict
from graft_lightning.processes.noise import Noise, derived_seeds
from graft_lightning.processes.process import Process
from graft_lightning.processes.samplers import Sampler
from graft_lightning.types import MASK, as_state, bare, on_device

LEVELS = 16
"""At which the integral is taken."""

TABLE = 2000
"""Levels of a continuous time among which they are chosen."""


def measurable(process: Process) -> bool:
    """Whether every field is Gaussian; of classes there is no such integral here."""
    return not any(path.discrete for path in process.paths.values())


def kl_levels(
    process: Process, sampler: Sampler, low: float = 0.0, high: float | None = None, count: int = LEVELS
) -> list[tuple[float, float]]:
    """Levels t in the middle of equal parts of lambda, and the width of a part, between what a sampler visits.

    Args:
        process: gives lambda.
        sampler: its first level above the data, and its last that has signal, are the ends.
        low: leave out what lies below, as a hand-off does.
        high: leave out what lies above; nothing by default.
        count: of the parts.
    """
    top = process.t_max if high is None else high
    visited = [t for t in sampler.levels(process) if max(low, 0.0) <= t <= top and t > 0]
    visited = [t for t in visited if all(value > 0 for value in process.schedule.at(t))]
    if len(visited) < 2:
        return []
    ends = visited[0], visited[-1]
    if process.schedule.discrete:
        t = torch.arange(math.ceil(ends[0]), math.floor(ends[1]) + 1, dtype=torch.float64)
    else:
        t = torch.linspace(*ends, TABLE, dtype=torch.float64)
    alpha, sigma = process.schedule.alpha_sigma(t)
    falling = 2 * (alpha / sigma).log()
    width = float(falling[0] - falling[-1]) / count
    wanted = falling[0] - width * (torch.arange(count, dtype=torch.float64) + 0.5)
    places = [int((falling - value).abs().argmin()) for value in wanted]
    return [(float(t[place]), width) for place in places]


@torch.no_grad()
def bound(
    denoiser: Denoiser,
    process: Process,
    x_0: Any,
    condition: Any,
    seeds: Tensor,
    levels: Sequence[tuple[float, float]],
    device: torch.device | str = "cpu",
) -> Tensor:
    """-1/2 int |eps - eps_theta|^2 d lambda of each sample, in nats, float64 ``(batch,)`` on the CPU.

    Args:
        denoiser: the model.
        process: of Gaussian fields.
        x_0: finished states, ``(batch, *shape)`` or by field.
        condition: encoded.
        seeds: of the noise, int64 ``(batch,)``: the same for two models that are compared.
        levels: as `kl_levels` gives them.
        device: where the model is.
    """
    state = as_state(on_device(x_0, device))
    total = torch.zeros(len(seeds), dtype=torch.float64)
    for place, (t, width) in enumerate(levels):
        noise = Noise(derived_seeds(seeds, f"kl {place}"), device)
        times = torch.full((len(seeds),), t, dtype=torch.float64, device=torch.device(device))
        noised = process.noised(state, 0.0, times, noise)
        x_t = bare({**state, **{name: field.x_t for name, field in noised.items()}})
        found = predict(denoiser, process, x_t, t, condition)
        for name, field in noised.items():
            error = (found[name].epsilon - field.random).square()
            if (mask := state.get(MASK)) is not None:
                error = error * mask.reshape(*mask.shape, *[1] * (error.ndim - 2))
            total -= width / 2 * error.flatten(1).double().sum(1).cpu()
    return total
