"""Stitching: the step n -> n - 1 belongs to the upper model if and only if n > N_I."""

import pytest
import torch

from graft_lightning.processes.grids import Leading
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.paths import GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.samplers import DDIM, DDPM, Heun
from graft_lightning.processes.schedules import Cosine, RectifiedFlow
from graft_lightning.processes.stitched import Stitched
from tests.fakes import GaussianNetwork, ModuleDenoiser, Recorder

VP, FLOW = GaussianPath(Cosine()), GaussianPath(RectifiedFlow())
STEPS = 8


def models(path):
    """Two different models, recorded."""
    above, below = (GaussianNetwork(path, "v_prediction") for _ in range(2))
    with torch.no_grad():
        above.mean += 3
    return Recorder(ModuleDenoiser(above, "v_prediction")), Recorder(ModuleDenoiser(below, "v_prediction"))


def run(sampler, denoiser, path, seed=0, keep=()):
    noise = Noise(torch.tensor([seed, 1]), dtype=torch.float64)
    return sampler.sample(denoiser, Process(path), torch.tensor([1, 2]), noise, (2,), keep=keep)


@pytest.mark.parametrize("path", [VP, FLOW], ids=["vp", "flow"])
@pytest.mark.parametrize("make", [DDPM, DDIM, Heun])
@pytest.mark.parametrize("n_i", range(STEPS + 1))
def test_a_step_belongs_to_the_model_of_its_input(path, make, n_i):
    levels = make(STEPS).levels(Process(path))
    above, below = models(path)
    run(make(STEPS), Stitched(above, below, levels[n_i]), path)
    first = lambda calls: list(dict.fromkeys(calls))  # noqa: E731
    assert first(above.levels) == levels[:n_i:-1]  # inputs n = N .. N_I + 1
    assert first(below.levels) == levels[n_i:0:-1]  # inputs n = N_I .. 1
    if make is Heun:  # two calls a step, but one where it ends at the hand-off or at the data
        assert len(above.levels) == max(2 * (STEPS - n_i) - 1, 0)
        assert len(below.levels) == max(2 * n_i - 1, 0)
    else:
        assert len(above.levels) == STEPS - n_i
        assert len(below.levels) == n_i


@pytest.mark.parametrize("make", [DDPM, DDIM, Heun])
def test_neither_model_is_evaluated_outside_its_range(make):
    above, below = models(VP)
    handoff = 470.0  # off the grid
    run(make(STEPS), Stitched(above, below, handoff), VP)
    assert min(above.levels) > handoff
    assert max(below.levels) == handoff
    assert min(below.levels) > 0


def test_a_hand_off_off_the_grid_is_inserted():
    above, below = models(VP)
    run(DDIM(4), Stitched(above, below, 300.0), VP)
    assert above.levels == [1000.0, 750.0, 500.0]
    assert below.levels == [300.0, 250.0]


def test_the_ends_are_the_two_models():
    for make in (DDPM, Heun):
        above, below = models(VP)
        top, bottom = (run(make(STEPS), model, VP).x_0 for model in (above, below))
        assert torch.equal(run(make(STEPS), Stitched(above, below, 0.0), VP).x_0, top)
        assert torch.equal(run(make(STEPS), Stitched(above, below, 1000.0), VP).x_0, bottom)
        assert (top - bottom).abs().min() > 0.1


def test_stitching_is_the_lower_model_resumed_from_the_upper():
    above, below = models(VP)
    levels = DDIM(STEPS).levels(Process(VP))
    stitched = run(DDIM(STEPS), Stitched(above, below, levels[3]), VP, keep=[levels[3]])
    upper = run(DDIM(STEPS), above, VP, keep=[levels[3]])
    assert torch.equal(stitched.states[levels[3]], upper.states[levels[3]])
    conditions = torch.tensor([1, 2])
    lower = DDIM(STEPS).resume(
        below, Process(VP), conditions, Noise(torch.arange(2)), upper.states[levels[3]], levels[3]
    )
    assert torch.equal(stitched.x_0, lower.x_0)


def test_reverse_order_is_the_other_way_round():
    tuned, reference = models(FLOW)
    run(DDIM(STEPS), Stitched(reference, tuned, 0.25), FLOW)
    assert min(reference.levels) == 0.375
    assert tuned.levels == [0.25, 0.125]


def test_two_models_of_the_same_weights_are_one():
    _, model = models(VP)
    plain = run(DDPM(STEPS), model, VP).x_0
    assert torch.equal(run(DDPM(STEPS), Stitched(model, model, 500.0), VP).x_0, plain)


def test_stitches_may_be_nested():
    first, second = models(VP)
    third, _ = models(VP)
    nested = Stitched(first, Stitched(second, third, 240.0), 740.0)
    assert nested.boundaries == (240.0, 740.0)
    run(DDIM(4), nested, VP)
    assert (first.levels, second.levels, third.levels) == ([1000.0, 750.0], [740.0, 500.0, 250.0], [240.0])


def test_the_grid_of_stable_diffusion_keeps_its_end():
    above, below = models(VP)
    sampler = DDIM(4, grid=Leading())
    run(sampler, Stitched(above, below, sampler.levels(Process(VP))[1]), VP)
    assert above.levels == [752.0, 502.0, 252.0]
    assert below.levels == [2.0]


def test_a_batch_on_both_sides_is_refused():
    above, below = models(VP)
    with pytest.raises(ValueError, match="both sides of the hand-off 500"):
        Stitched(above, below, 500.0)(torch.zeros(2, 2), torch.tensor([500.0, 501.0]), torch.tensor([1, 1]))


def test_different_outputs_are_refused():
    with pytest.raises(ValueError, match="output type: epsilon and flow"):
        Stitched(ModuleDenoiser(None, "epsilon"), ModuleDenoiser(None, "flow"), 0.0)
