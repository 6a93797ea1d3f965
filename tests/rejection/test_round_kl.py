"""The rise of the bound, against the divergence of Gaussians in closed form."""

import pytest
import torch

from graft_lightning.processes.noise import place_seeds
from graft_lightning.processes.paths import CategoricalPath, GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.samplers import DDIM
from graft_lightning.processes.schedules import Cosine, RectifiedFlow, ScaledLinear
from graft_lightning.rejection.round_kl import bound, kl_levels, measurable
from tests.fakes import OUTPUTS, ModuleDenoiser, exact_output

VARIANCE = torch.tensor([0.5, 1.5], dtype=torch.float64)
OLD, NEW = torch.tensor([0.0, 0.0], dtype=torch.float64), torch.tensor([0.7, -0.4], dtype=torch.float64)


def model(path, output, mean):
    return ModuleDenoiser(lambda x_t, t, _: exact_output(path, output, x_t, t, mean, VARIANCE), output)


def divergence(process, t):
    """KL between the two at level t: of Gaussians of one variance."""
    alpha, sigma = process.schedule.at(t)
    return float((alpha**2 * (NEW - OLD) ** 2 / (2 * (alpha**2 * VARIANCE + sigma**2))).sum())


@pytest.mark.parametrize("schedule", [Cosine(), RectifiedFlow(), ScaledLinear()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("share", [0.0, 0.4])
def test_it_is_the_divergence_of_gaussians_between_the_levels(schedule, output, share):
    """Taken over samples of the one, less what is left at the noisy end; from a hand-off, that of what lies there."""
    path = GaussianPath(schedule)
    process, sampler = Process(path), DDIM(40)
    low = sampler.levels(process)[16] if share else 0.0
    levels = kl_levels(process, sampler, low, count=64)
    count = 4000
    generator = torch.Generator().manual_seed(0)
    x_0 = NEW + VARIANCE.sqrt() * torch.randn(count, 2, dtype=torch.float64, generator=generator)
    seeds = place_seeds("test", 0, range(count))
    old, new = (bound(model(path, output, mean), process, x_0, None, seeds, levels) for mean in (OLD, NEW))
    visited = [t for t in sampler.levels(process) if t > 0 and t >= low and process.schedule.at(t)[0] > 0]
    right = divergence(process, visited[0]) - divergence(process, visited[-1])
    rise = new - old
    error = float(rise.std()) / count**0.5
    assert float(rise.mean()) == pytest.approx(right, abs=4 * error + 0.03 * right)
    assert right > 0.05
    assert torch.equal(old, bound(model(path, output, OLD), process, x_0, None, seeds, levels))


def test_levels_share_lambda_equally():
    process = Process(GaussianPath(RectifiedFlow()))
    levels = kl_levels(process, DDIM(10), count=8)
    alpha, sigma = (torch.tensor(v) for v in zip(*(process.schedule.at(t) for t, _ in levels), strict=True))
    steps = -(2 * (alpha / sigma).log()).diff()
    width = levels[0][1]
    torch.testing.assert_close(steps, torch.full_like(steps, width), rtol=0.02, atol=0)
    ends = [2 * torch.tensor(a / s).log() for a, s in map(process.schedule.at, (0.1, 0.9))]
    assert 8 * width == pytest.approx(float(ends[0] - ends[1]))
    assert kl_levels(process, DDIM(10), low=0.95) == []


def test_padding_has_no_part_in_it():
    process = Process({"x": GaussianPath(Cosine())})
    levels = kl_levels(process, DDIM(10), count=4)
    mask = torch.tensor([[True, True, False]])
    x = torch.randn(1, 3, 2, dtype=torch.float64) * mask.unsqueeze(-1)
    silent = ModuleDenoiser(lambda x_t, t, _: {"x": torch.zeros_like(x_t["x"])}, {"x": "sample"})
    loud = ModuleDenoiser(
        lambda x_t, t, _: {"x": torch.zeros_like(x_t["x"]) + 9 * ~mask.unsqueeze(-1)}, {"x": "sample"}
    )
    seeds = torch.tensor([4])
    one, other = (bound(d, process, {"x": x, "mask": mask}, None, seeds, levels) for d in (silent, loud))
    assert torch.equal(one, other)


def test_of_classes_nothing_is_measured():
    assert measurable(Process(GaussianPath(Cosine())))
    assert not measurable(Process({"x": GaussianPath(Cosine()), "types": CategoricalPath(Cosine(), 3)}))
