"""Selected less unselected: its gradient at the reference is the signed one, in mean and variance, on every path."""

import pytest
import torch
from torch import nn

from graft_lightning.modules import Graft, PGraft
from graft_lightning.processes.objectives import Objective
from graft_lightning.processes.paths import CategoricalPath, GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.samplers import DDIM
from graft_lightning.processes.schedules import Trigonometric
from graft_lightning.processes.weightings import CappedInverseAlpha
from graft_lightning.rejection.objectives import PoolObjective, UnselectedBaseline
from graft_lightning.types import Groups, SettingsError
from tests.fakes import OUTPUTS, ModuleDenoiser, TinyReference
from tests.rejection.one_level import LEVEL, Line, OneLevel


def groups_of(x, weight, size=None):
    count = len(x)
    return Groups(x, [""] * count, torch.arange(count), weight, torch.zeros(count), size or count)


def gradients(objective, slopes, x, weight, path=None, output="epsilon", level=0.0, reference=None):
    """Every example's gradient by its own slope at ``slopes``, the reference standing there too."""
    process = Process(path or GaussianPath(Trigonometric()), OneLevel())
    line = Line(slopes.clone())
    frozen = line if reference is None else Line(reference)
    models = ModuleDenoiser(line, output), ModuleDenoiser(frozen, output)
    loss = objective.group_loss(*models, process, groups_of(x, weight), None, level)
    (found,) = torch.autograd.grad(loss.value.sum(), [line.slopes])
    return found


class Weighted(PoolObjective):
    """The plain loss with the weights of the groups: GRAFT's own, and with signed weights the difference of two."""

    asks_reference = False

    def losses(self, answers, groups):
        return groups.weight * self.of(answers.raw, answers.seen, answers.trained, answers.process)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("level", [0.0, 0.3])
@pytest.mark.parametrize("weighting", [None, CappedInverseAlpha(4.0)])
def test_at_the_reference_the_gradient_is_that_of_signed_weights(output, level, weighting):
    x, weight = torch.randn(40, 3), torch.rand(40) * 3
    slopes = torch.full((40,), 0.4)
    arguments = {"output": output, "level": level}
    found = gradients(UnselectedBaseline(weighting), slopes, x, weight, **arguments)
    signed = gradients(Weighted(weighting), slopes, x, weight - 1, **arguments)
    torch.testing.assert_close(found, signed, atol=1e-5, rtol=1e-4)


def test_away_from_the_reference_the_second_term_stays_what_it_was():
    """It is linear: its gradient does not depend on where the model is, and the loss is convex."""
    x, weight = torch.randn(40, 3), torch.rand(40) * 3
    reference = torch.full((40,), 0.4)
    apart = [
        gradients(UnselectedBaseline(), at, x, weight, reference=reference) - gradients(Weighted(), at, x, weight)
        for at in (reference, reference + 1, reference - 3)
    ]
    torch.testing.assert_close(apart[0], apart[1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(apart[0], apart[2], atol=1e-4, rtol=1e-4)
    steps = [gradients(UnselectedBaseline(), reference + d, x, weight, reference=reference) for d in (0.0, 1.0, 2.0)]
    assert ((steps[1] - steps[0]) >= -1e-5).all()  # the second derivative, where weights are not negative


def test_classes_have_the_baseline_too():
    path = CategoricalPath(Trigonometric(), 4, "absorbing")
    process = Process({"c": path}, OneLevel())
    x = {"c": torch.randint(4, (30, 5))}

    class Logits(nn.Module):
        def __init__(self, values):
            super().__init__()
            self.values = nn.Parameter(values)

        def forward(self, x_t, t, condition):
            return {"c": self.values}

    start = torch.randn(30, 5, 4)
    weight = torch.rand(30) * 3
    found = {}
    for name, objective, scale in (
        ("baseline", UnselectedBaseline(), weight),
        ("signed", Weighted(), weight - 1),
    ):
        model = Logits(start.clone())
        denoiser = ModuleDenoiser(model, {"c": "logits"})
        groups = Groups(x, [""] * 30, torch.arange(30), scale, torch.zeros(30), 30)
        loss = objective.group_loss(denoiser, denoiser, process, groups, None)
        (found[name],) = torch.autograd.grad(loss.value.sum(), [model.values])
    torch.testing.assert_close(found["baseline"], found["signed"], atol=1e-6, rtol=1e-5)
    assert found["signed"].abs().max() > 0.01


def test_bias_cancels_and_variance_rises_as_theory_says():
    """x_0 ~ N(0, 1), eps = slope x_t, one draw in four selected at random; moments of Gaussians are exact.

    With x_t = a x_0 + b e the gradient of a draw is g = 2 (w x_t - e) x_t. E g = 2 (w (a^2 + b^2) - b), which is 0 only
    at w = b / (a^2 + b^2); E g^2 = 4 E (w x_t - e)^2 x_t^2, by E x^2 y^2 = s_x s_y + 2 c^2. A plain run sees selected
    draws: variance E g^2 - (E g)^2 at weight 1. The baseline's is (w_i - 1) g, w_i = 4 or 0: mean 0, 3 E g^2.
    """
    count = 200_000
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, 1, generator=generator)
    chosen = (torch.rand(count, generator=generator) < 0.25).float() * 4
    alpha, sigma = (float(v) for v in GaussianPath(Trigonometric()).schedule.at(LEVEL))
    slope = 0.3  # far from sigma: the reference is wrong
    slopes = torch.full((count,), slope)
    plain = gradients(Weighted(), slopes, x, torch.ones(count)).double()
    ours = gradients(UnselectedBaseline(), slopes, x, chosen).double()
    of_seen, of_error = alpha**2 + sigma**2, slope**2 * (alpha**2 + sigma**2) - 2 * slope * sigma + 1
    both = slope * (alpha**2 + sigma**2) - sigma
    mean, square = 2 * both, 4 * (of_seen * of_error + 2 * both**2)
    error = (square / count) ** 0.5
    assert abs(mean) > 100 * error
    assert float(plain.mean()) == pytest.approx(mean, abs=4 * error)
    assert float(ours.mean()) == pytest.approx(0.0, abs=4 * 3**0.5 * error)
    assert float(plain.var()) == pytest.approx(square - mean**2, rel=0.03)
    assert float(ours.var()) == pytest.approx(3 * square, rel=0.06)  # of fourth powers, at 2e5 draws


def test_the_minimiser_is_that_of_the_selected_where_the_reference_is_exact():
    """eps = slope x_t, draws with |x_0| > 1 selected; gradients are linear in the slope, so that two show the root."""
    count = 100_000
    x = torch.randn(count, 1, generator=torch.Generator().manual_seed(1))
    chosen = (x.abs() > 1).float().squeeze(1)
    weight = chosen / chosen.mean()
    _, sigma = GaussianPath(Trigonometric()).schedule.at(LEVEL)

    def root(objective, reference):
        slopes = torch.full((2, count), reference)
        at_zero, at_one = (
            float(gradients(objective, torch.full((count,), value), x, weight, reference=slopes[0]).double().mean())
            for value in (0.0, 1.0)
        )
        return at_zero / (at_zero - at_one)

    plain = root(Weighted(), sigma)
    assert abs(plain - sigma) > 0.05  # selection moves it
    assert root(UnselectedBaseline(), sigma) == pytest.approx(plain, abs=0.01)  # a^2 + b^2 = 1: sigma is exact
    assert abs(root(UnselectedBaseline(), 0.3) - plain) > 0.05  # what a wrong reference does not know stays so


class SharedNoise(Weighted):
    same_noise = True


def test_all_draws_of_a_group_may_share_level_and_noise():
    x = torch.randn(1, 3).expand(6, 3)
    for objective, equal in ((SharedNoise(), True), (Weighted(), False)):
        process = Process(GaussianPath(Trigonometric()))
        denoiser = ModuleDenoiser(Line(torch.ones(6)), "epsilon")
        loss = objective.group_loss(denoiser, denoiser, process, groups_of(x, torch.ones(6), 3), None)
        assert (len(set(loss.t[:3].tolist())) == 1) is equal
        assert (len(set(loss.value[:3].tolist())) == 1) is equal
        assert loss.t[0] != loss.t[3]


def test_a_module_takes_the_baseline_by_name_and_other_objectives_as_objects():
    module = PGraft(reference=TinyReference(DDIM(8)), handoff=0.25, baseline="unselected")
    assert isinstance(module.pool_objective, UnselectedBaseline)
    assert module.method == "pgraft-unselected@0.25"
    assert Graft(reference=TinyReference(DDIM(8)), baseline="unselected").method == "graft-unselected"
    assert Graft(reference=TinyReference(DDIM(8))).pool_objective is None
    (plain,), (ours,) = (Graft(reference=TinyReference(DDIM(8)), baseline=b).stages() for b in ("none", "unselected"))
    assert ours.beside_training == plain.beside_training + 1
    weighted = Objective(CappedInverseAlpha(3.0), {"x": 2.0})
    kept = Graft(reference=TinyReference(DDIM(8)), objective=weighted, baseline="unselected").pool_objective
    assert (kept.weighting, kept.field_weights) == (weighted.weighting, {"x": 2.0})
    objective = SharedNoise()
    assert Graft(reference=TinyReference(DDIM(8)), objective=objective).pool_objective is objective
    with pytest.raises(SettingsError, match="looks at whole groups itself"):
        Graft(reference=TinyReference(DDIM(8)), objective=objective, baseline="unselected")
    guided = TinyReference(DDIM(8), guidance_scale=2.0)
    with pytest.raises(SettingsError, match="guidance=absorbed"):
        Graft(reference=guided, guidance="absorbed", baseline="unselected")


def test_a_training_step_of_the_baseline_leaves_no_gradient_in_the_reference():
    module = Graft(reference=TinyReference(DDIM(8)), baseline="unselected")
    module.configure_model()
    groups = Groups(torch.randn(8, 2), ["left"] * 8, torch.arange(8), torch.rand(8), torch.zeros(8), 4)
    total, loss = module.loss_of(groups)
    total.backward()
    assert loss.value.shape == (8,)
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in module.network.parameters())
    assert all(p.grad is None for p in module.views.original.parameters())
