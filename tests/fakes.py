"""Fakes shared by all tests: Gaussian data with its exact score, a tiny network, a linear reward, two conditions."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from graft_lightning.processes.denoiser import Denoiser
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.outputs import Output
from graft_lightning.processes.paths import GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.samplers import DDIM, Sampler
from graft_lightning.processes.schedules import Cosine
from graft_lightning.rejection.reference import Reference
from graft_lightning.rejection.reward import Reward
from graft_lightning.types import State

CONDITIONS = ["left", "right"]
"""Two conditions; "" is the third, the null condition."""
MEANS = {"": [0.0, 0.0], "left": [-1.0, 0.5], "right": [1.0, -0.25]}
VARIANCES = {"": [1.5, 0.5], "left": [0.3, 0.8], "right": [0.6, 1.2]}
OUTPUTS: list[Output] = ["epsilon", "sample", "v_prediction", "flow"]


def exact_output(
    path: GaussianPath, output: Output, x_t: Tensor, t: Tensor, mean: Tensor, variance: Tensor, s: float = 0.0
) -> Tensor:
    """The ideal answer of a denoiser, where the states at level s are N(mean, variance) and are noised from there.

    With z = (x_t - a mean) / (a^2 variance + b^2) for the kernel (a, b) from s to t: the score is -z, eps = sigma_t z,
    and by Eq. 6b x_0 = (mean + a (variance - sigma_s^2) z) / alpha_s.
    """
    s = torch.full_like(t, s)
    (alpha_s, sigma_s), (alpha_t, sigma_t) = (
        tuple(value.unsqueeze(-1) for value in path.alpha_sigma(level)) for level in (s, t)
    )
    kernel = path.kernel(s, t)
    a, b = kernel.alpha.unsqueeze(-1), kernel.sigma.unsqueeze(-1)
    z = (x_t - a * mean) / (a**2 * variance + b**2)
    epsilon, x_0 = sigma_t * z, (mean + a * (variance - sigma_s**2) * z) / alpha_s
    answers = {
        "epsilon": epsilon,
        "sample": x_0,
        "v_prediction": alpha_t * epsilon - sigma_t * x_0,
        "flow": epsilon - x_0,
    }
    return answers[output].to(x_t)


class GaussianNetwork(nn.Module):
    """The exact denoiser of N(mean, variance) per condition; both are parameters, so that it can be trained."""

    def __init__(self, path: GaussianPath, output: Output, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.path, self.output_type = path, output
        self.mean = nn.Parameter(torch.tensor(list(MEANS.values()), dtype=dtype))
        self.log_variance = nn.Parameter(torch.tensor(list(VARIANCES.values()), dtype=dtype).log())

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        mean, variance = self.mean[condition], self.log_variance.exp()[condition]
        return exact_output(self.path, self.output_type, x_t, t, mean, variance)


class ModuleDenoiser(Denoiser):
    """Any module ``(x_t, t, condition) -> raw`` as a denoiser, without a reference around it."""

    def __init__(self, module: Any, output: Output = "epsilon") -> None:
        self.module, self.output = module, output

    def __call__(self, x_t: State, t: Tensor, condition: Any) -> State:
        return self.module(x_t, t, condition)


class Recorder(Denoiser):
    """Passes every call on and writes down its level, one number a call."""

    def __init__(self, inner: Denoiser) -> None:
        self.inner, self.output, self.boundaries = inner, inner.output, inner.boundaries
        self.levels: list[float] = []
        self.trajectories = 0

    def __call__(self, x_t: State, t: Tensor, condition: Any) -> State:
        assert (t == t[0]).all()
        self.levels.append(float(t[0]))
        self.trajectories += len(t)
        return self.inner(x_t, t, condition)


class ImpulseNoise(Noise):
    """Noise that makes a linear sampler show its coefficients: row k is 1 in the k-th draw, row 0 never.

    Args:
        draws: how many draws there will be at most.
    """

    def __init__(self, draws: int, dtype: torch.dtype = torch.float64) -> None:
        self.rows, self.calls, self.dtype, self.device = draws + 1, 0, dtype, "cpu"

    def __len__(self) -> int:
        return self.rows

    def normal(self, *shape: int) -> Tensor:
        block = torch.zeros(self.rows, *shape, dtype=self.dtype)
        self.calls += 1
        assert self.calls < self.rows, "more draws than rows to tell them apart"
        block[self.calls] = 1
        return block


def exact_moments(sampler: Sampler, denoiser: Denoiser, process: Process, condition: int, dim: int = 2) -> Any:
    """Mean and variance ``(dim,)`` of x_0 under a linear denoiser, without Monte Carlo.

    x_0 = mean + sum_k c_k z_k over the independent normal draws z_k, so its variance is sum_k c_k^2.
    """
    noise = ImpulseNoise(sampler.steps + 1)
    conditions = torch.full((len(noise),), condition)
    x_0 = sampler.sample(denoiser, process, conditions, noise, (dim,)).x_0
    return x_0[0].detach(), ((x_0[1:] - x_0[0]) ** 2).sum(0).detach()


class GaussianReference(Reference):
    """Data N(mean, variance) in two dimensions per condition, with the exact score for a network."""

    lora_targets = ()

    def __init__(
        self,
        sampler: Sampler | None = None,
        path: GaussianPath | None = None,
        output: Output = "epsilon",
        guidance_scale: float = 1.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(sampler or DDIM(8), guidance_scale)
        self.path, self.output, self._dtype = path or GaussianPath(Cosine()), output, dtype

    @property
    def process(self) -> Process:
        return Process(self.path)

    def build(self, pretrained: bool = True) -> nn.Module:
        return GaussianNetwork(self.path, self.output, self._dtype)

    def denoise(self, network: nn.Module, x_t: State, t: Tensor, condition: Any) -> State:
        return network(x_t, t, condition)

    def encode(self, conditions: Sequence[str], device: torch.device | str) -> Tensor:
        return torch.tensor([list(MEANS).index(text) for text in conditions], device=device)

    def shape(self, conditions: Sequence[str]) -> tuple[int, ...]:
        return (2,)


class TinyNetwork(nn.Module):
    """Two linear layers on (x_t, t / T, one-hot condition)."""

    def __init__(self, width: int = 16, dropout: float = 0.0) -> None:
        super().__init__()
        self.first = nn.Linear(2 + 1 + len(MEANS), width)
        self.dropout = nn.Dropout(dropout)
        self.second = nn.Linear(width, 2)

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        hidden = self.first(torch.cat([x_t, t.unsqueeze(-1).to(x_t), condition], -1))
        return self.second(self.dropout(torch.tanh(hidden)))


class TinyReference(GaussianReference):
    """A small network that can be trained and adapted; its weights are fixed by a seed."""

    lora_targets = ("first", "second")

    def __init__(
        self,
        sampler: Sampler | None = None,
        path: GaussianPath | None = None,
        output: Output = "epsilon",
        guidance_scale: float = 1.0,
        dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__(sampler, path, output, guidance_scale)
        self.dropout, self.seed = dropout, seed

    def build(self, pretrained: bool = True) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            return TinyNetwork(dropout=self.dropout)

    def denoise(self, network: nn.Module, x_t: State, t: Tensor, condition: Any) -> State:
        return network(x_t, t / self.process.t_max, condition)

    def encode(self, conditions: Sequence[str], device: torch.device | str) -> Tensor:
        return torch.nn.functional.one_hot(super().encode(conditions, device), len(MEANS)).float()


class LinearReward(Reward):
    """r(x) = direction . x; counts what it has scored."""

    def __init__(self, direction: Sequence[float] = (1.0, 0.0), name: str = "linear") -> None:
        self.direction, self._name, self._scored = list(direction), name, 0

    def __call__(self, samples: Any, conditions: Sequence[str]) -> Tensor:
        self._scored += len(conditions)
        return samples @ torch.tensor(self.direction, dtype=samples.dtype)

    @property
    def name(self) -> str:
        return self._name

    @property
    def scored(self) -> int:
        """Samples scored so far."""
        return self._scored


def normal_noise(count: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Noise:
    """A `Noise` of ``count`` trajectories."""
    return Noise(torch.arange(count) + 1000 * seed, dtype=dtype)
