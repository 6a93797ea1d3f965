"""Mixed distributions whose denoisers are known exactly: a class, and a number whose distribution depends on it."""

import sys

import torch
from tensordict import TensorDict
from torch import Tensor

from graft_lightning.processes.denoiser import Denoiser
from graft_lightning.processes.interleaved import Interleaved
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.paths import CategoricalPath, GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.samplers import DDPM, Sampler
from graft_lightning.processes.schedules import Cosine

EDGES = torch.linspace(-4, 4, 33, dtype=torch.float64)
"""Of the bins in which distributions are compared."""


class Mixture(Denoiser):
    """p(c) N(y; mean_c,k, std^2) mixed over components k with weights w_c,k; answers with its exact posterior.

    Args:
        weights: joint probabilities of class and component, ``(classes, components)``.
        means: of the components, ``(components,)``; all classes share them, dependence is in the weights.
        std: of every component.
        origin: the level whose class the head predicts.
    """

    def __init__(self, weights: Tensor, means: Tensor, std: float, origin: float = 0.0) -> None:
        self.weights, self.means, self.std = weights.double(), means.double(), std
        self.output = {"y": "sample", "c": "logits"}
        self.process = Process({"y": GaussianPath(Cosine()), "c": CategoricalPath(Cosine(), len(weights), "uniform")})
        self.origin = origin

    def __call__(self, x_t, t, condition):
        t_y, t_c = (t, t) if t.ndim == 1 else t.unbind(1)
        y, c = x_t["y"].double(), x_t["c"]
        alpha, sigma = (v[:, None] for v in self.process.paths["y"].alpha_sigma(t_y))
        variance = alpha**2 * self.std**2 + sigma**2
        near = -((y - alpha * self.means) ** 2) / (2 * variance)  # (batch, components)
        zero = torch.zeros_like(t_c)
        path = self.process.paths["c"]
        seen = path.kernel(zero, t_c).likelihood(c[:, 0])  # q(c_t | c_0), (batch, classes)
        joint = self.weights.log() + seen.log()[:, :, None] + near[:, None]
        posterior = joint.flatten(1).softmax(1).reshape(joint.shape)
        given = (alpha * self.std**2 * y + sigma**2 * self.means) / variance  # E[y_0 | y_t, component]
        clean = posterior.sum(2)
        if self.origin:  # sum over c_0 of p(c_0 | x_t) q(c_s | c_t, c_0)
            s = torch.full_like(t_c, self.origin)
            clean = torch.where((t_c > s)[:, None], path.posterior(c[:, 0], clean, torch.minimum(s, t_c), t_c), clean)
        return {"y": (posterior.sum(1) * given).sum(1, keepdim=True), "c": clean.log()[:, None]}

    def sample(self, sampler: Sampler, count: int, seed: int = 0) -> TensorDict:
        """Finished states of ``count`` trajectories."""
        noise = Noise(torch.arange(count) + seed * 2**32)
        return sampler.sample(self, self.process, None, noise, {"y": (1,), "c": (1,)}).x_0

    def distribution(self) -> Tensor:
        """Probability of every class and bin, the outermost bins reaching to infinity, ``(classes, bins)``."""
        normal = torch.distributions.Normal(self.means[:, None], self.std)
        below = normal.cdf(EDGES)
        below[:, 0], below[:, -1] = 0, 1
        return self.weights @ below.diff(dim=1)


def histogram(samples: TensorDict, classes: int) -> Tensor:
    """Shares of samples by class and bin, ``(classes, bins)``."""
    y = samples["y"][:, 0].double().clamp(float(EDGES[0]) + 1e-9, float(EDGES[-1]) - 1e-9)
    place = torch.bucketize(y, EDGES) - 1
    flat = samples["c"][:, 0] * (len(EDGES) - 1) + place
    return flat.bincount(minlength=classes * (len(EDGES) - 1)).reshape(classes, -1) / len(y)


def total_variation(samples: TensorDict, distribution: Tensor) -> float:
    """Half the sum of absolute differences between the samples' histogram and a distribution."""
    return 0.5 * float((histogram(samples, len(distribution)) - distribution).abs().sum())


def agreement_error(samples: TensorDict, mixture: Mixture) -> float:
    """Total variation of the distribution of (class, nearest mean): how well the dependence of the blocks is kept."""
    nearest = (samples["y"][:, :1].double() - mixture.means).abs().argmin(1)
    found = (samples["c"][:, 0] * len(mixture.means) + nearest).bincount(minlength=mixture.weights.numel())
    return 0.5 * float((found / len(nearest) - mixture.weights.flatten()).abs().sum())


MEANS = torch.tensor([-1.375, 0.125, 1.625])
"""In the middle of bins."""


def dependent(std: float = 0.25, exceptions: float = 0.02) -> Mixture:
    """The class says which bump the number comes from, up to a share of exceptions.

    Args:
        std: of a bump; small, the number is decided by the class.
        exceptions: share of numbers that come from another bump.
    """
    return Mixture(torch.eye(3) * (1 - 1.5 * exceptions) / 3 + exceptions / 6, MEANS, std)


def independent() -> Mixture:
    """The class says nothing."""
    return Mixture(torch.outer(torch.tensor([0.5, 0.25, 0.25]), torch.tensor([0.3, 0.4, 0.3])), MEANS, 0.25)


def main(file: str = "interleaved.png", count: int = 20000) -> None:
    """Prints and plots both samplers' errors against network evaluations: ``python -m tests.processes.mixtures``."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4), layout="constrained")
    evaluations = [4, 8, 16, 32, 64, 128]
    distributions = {
        "the class decides the number": dependent(0.02, 0.0),
        "dependent blocks": dependent(),
        "independent blocks": independent(),
    }
    for axis, (name, mixture) in zip(figure.subplots(1, 3), distributions.items(), strict=True):
        for sampler, of in (("factorised", DDPM), ("interleaved", lambda n: Interleaved(n // 2))):
            drawn = [mixture.sample(of(n), count) for n in evaluations]
            errors = {
                "joint distribution": [total_variation(x, mixture.distribution()) for x in drawn],
                "class and bump": [agreement_error(x, mixture) for x in drawn],
            }
            for what, line in errors.items():
                print(f"{name:28} {sampler:12} {what:16}", *(f"{error:.4f}" for error in line))
                style = {"color": "#1b7f5c" if sampler == "interleaved" else "#c0502d"}
                axis.loglog(
                    evaluations,
                    line,
                    "-o" if what == "joint distribution" else "--s",
                    label=f"{sampler}, {what}",
                    **style,
                )
        axis.set(title=name, xlabel="network evaluations", ylabel="total variation")
        axis.legend(frameon=False, fontsize=8)
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    main(*sys.argv[1:2])
