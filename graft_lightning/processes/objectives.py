"""The training objective, Eq. 6, 6b and 7. Pre-training, GRAFT and P-GRAFT are three ranges of the same loss.

With x known at level s (x_s), a level t in (s, T] is drawn, x_t is drawn from the kernel s -> t, and the network
regresses the conditional score. At s = 0 this is the ordinary loss, so pre-training and GRAFT are P-GRAFT at N_I = 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from graft_lightning.processes.denoiser import Denoiser, Output
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.paths import CategoricalPath, GaussianKernel, GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.weightings import OwnOutput, Unit, Weighting
from graft_lightning.types import State, batch_of, broadcast, field_of, level_of


@dataclass(frozen=True)
class Loss:
    """The loss of each example and the level at which it was taken, ``(batch,)`` each."""

    value: Tensor
    t: Tensor


class Objective:
    """Eq. 6 for Gaussian fields, Eq. 7 for categorical ones.

    Args:
        weighting: lambda(t) of the Gaussian fields; by default 1, or for a flow's velocity its own output.
        field_weights: factor of each field's loss in a mixed state; 1 where absent.
        categorical_target: "c_0", Eq. 7, where the head predicts the clean class; "c_s", where it predicts the class at
            the level of training directly.
    """

    def __init__(
        self,
        weighting: Weighting | None = None,
        field_weights: Mapping[str, float] | None = None,
        categorical_target: Literal["c_0", "c_s"] = "c_0",
    ) -> None:
        self.weighting = weighting
        self.field_weights = dict(field_weights or {})
        self.categorical_target = categorical_target

    def loss(
        self,
        denoiser: Denoiser,
        process: Process,
        x: State,
        condition: Any,
        noise: Noise,
        level: float = 0.0,
        low: float | None = None,
        high: float | None = None,
    ) -> Loss:
        """The loss of a batch.

        Args:
            denoiser: the model that is trained.
            process: its process.
            x: states at ``level``, ``(batch, *shape)``.
            condition: encoded condition.
            noise: one generator per example.
            level: the level s of ``x``; 0 is data.
            low: levels are drawn above this one; ``level`` by default. ``states: x_0`` has level 0 and low = s.
            high: levels are drawn up to this one; T by default.
        """
        low = level if low is None else low
        if low < level:
            raise ValueError(f"low={low}: states at level {level} cannot be noised to a lower level")
        count = batch_of(x)
        device = x.device
        t = process.time_law.draw(noise.uniform(), low, process.t_max if high is None else high, process.schedule)
        t = t.to(device)
        s = torch.full((count,), level, dtype=torch.float64, device=device)
        levels = process.levels_by_field(t, noise)
        x_t, drawn = process.diffuse(x, s, levels, noise)
        raw = denoiser(x_t, levels, condition)
        total = torch.zeros(count, device=device)
        for place, (name, path) in enumerate(process.paths.items()):
            x_s, predicted, t_field = field_of(x, name), field_of(raw, name), level_of(levels, place)
            if isinstance(path, GaussianPath):
                error = self._gaussian(path, denoiser.output_of(name), x_s, predicted, drawn[name], s, t_field)
            else:
                assert isinstance(path, CategoricalPath)
                error = self._categorical(path, x_s, field_of(x_t, name), predicted, s, t_field)
                error = error * broadcast(t_field > s, error)  # a field that has not moved has nothing to teach
            total = total + self.field_weights.get(name or "", 1.0) * _mean(error, x)
        return Loss(total, t)

    def _gaussian(
        self, path: GaussianPath, output: Output, x_s: Tensor, raw: Tensor, e: Tensor, s: Tensor, t: Tensor
    ) -> Tensor:
        alpha_t, sigma_t = path.alpha_sigma(t)
        weighting = self.weighting or (OwnOutput() if output == "flow" else Unit())
        ratio, target = scaled_target(path, path.kernel(s, t), output, x_s, e, s, t)
        weight = weighting.for_output(output, alpha_t, sigma_t)
        return broadcast(weight.to(raw), raw) * (broadcast(ratio.to(raw), raw) * raw - target) ** 2

    def _categorical(
        self, path: CategoricalPath, c_s: Tensor, c_t: Tensor, logits: Tensor, s: Tensor, t: Tensor
    ) -> Tensor:
        if self.categorical_target == "c_s" or bool((s == 0).all()):
            return torch.nn.functional.cross_entropy(logits.movedim(-1, 1), c_s, reduction="none")
        likelihood = path.posterior(c_t, logits.softmax(-1), s, t).gather(-1, c_s.unsqueeze(-1)).squeeze(-1)
        return -likelihood.clamp_min(1e-12).log()


def scaled_target(
    path: GaussianPath, kernel: GaussianKernel, output: Output, x_s: Tensor, e: Tensor, s: Tensor, t: Tensor
) -> tuple[Tensor, Tensor]:
    """Kappa = sigma_ts / sigma_t, and kappa times the target of Eq. 6 or 6b; both stay bounded as t -> s.

    Args:
        path: the field's path.
        kernel: its kernel s -> t.
        output: the network's output type.
        x_s: state at s, ``(batch, *shape)``.
        e: standard normal noise of the kernel, like ``x_s``.
        s: level ``(batch,)``.
        t: level ``(batch,)``.
    """
    alpha_s, sigma_s = path.alpha_sigma(s)
    alpha_t, sigma_t = path.alpha_sigma(t)
    kappa = kernel.sigma / sigma_t
    # kappa x_0* = (kappa x_s - (alpha_ts sigma_s^2 / sigma_t) e) / alpha_s, and kappa eps* = e
    of_state = broadcast((kappa / alpha_s).to(x_s), x_s)
    of_noise = broadcast((kernel.alpha * sigma_s**2 / (sigma_t * alpha_s)).to(x_s), x_s)
    x_0 = of_state * x_s - of_noise * e
    if output == "epsilon":
        return kappa, e
    if output == "sample":
        return kappa, x_0
    if output == "v_prediction":
        return kappa, broadcast(alpha_t.to(e), e) * e - broadcast(sigma_t.to(e), e) * x_0
    if output == "flow":
        return kappa, e - x_0
    raise ValueError(f"output={output!r} is not that of a Gaussian field")


def _mean(error: Tensor, x: State) -> Tensor:
    """The mean over everything but the batch; over the real elements where the state has a mask ``(batch, n)``."""
    if not isinstance(x, Tensor) and "mask" in x.keys():  # noqa: SIM118
        mask = x["mask"]
        weight = mask.reshape(mask.shape + (1,) * (error.ndim - mask.ndim)).expand_as(error).to(error)
        return (error * weight).flatten(1).sum(1) / weight.flatten(1).sum(1).clamp_min(1)
    return error.flatten(1).mean(1)
