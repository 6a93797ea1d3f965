"""Eq. 6 and 7 of fields with schedules of their own, in samples with unequal numbers of real elements, by value."""

import pytest
import torch

from graft_lightning.processes.objectives import Objective
from graft_lightning.processes.paths import CategoricalPath, GaussianPath, LossSettings
from graft_lightning.processes.paths.base import mean_over_real
from graft_lightning.processes.process import Process
from graft_lightning.processes.weightings import CappedInverseAlpha, Unit
from tests.fakes import ModuleDenoiser
from tests.processes.known import (
    ALPHA_Z,
    SIGMA_Z,
    STD_Y,
    STD_Z,
    TARGET,
    At,
    C,
    Given,
    Y,
    centred,
    noise,
    numbers,
    real,
    state,
    unequal,
)

RAW = {"y": numbers(2, 4, 2, seed=8), "z": numbers(2, 4, 3, seed=9), "c": numbers(2, 4, 3, seed=10)}
OUTPUTS = {"y": "epsilon", "z": "sample", "c": "logits"}


def mean_of_real(error):
    """Of the 2 and of the 3 real elements, ``(2,)``."""
    return torch.stack([error[0, :2].mean(), error[1, :3].mean()])


def losses(levels, level=0.0, low=None, weights=None, x=None):
    process = unequal()
    process.times = At(levels)
    denoiser = ModuleDenoiser(lambda x_t, t, condition: RAW, OUTPUTS)
    return Objective(field_weights=weights).loss(denoiser, process, x or state(), None, noise(), level, low)


def cross_entropy(classes):
    log_p = RAW["c"].log_softmax(2).gather(2, classes.unsqueeze(2)).squeeze(2)
    return mean_of_real(-log_p)


def loss_y(s):
    """Eq. 6 in eps from level s to 2, at weight 1: kappa = sigma_ts / sigma_t."""
    kappa = 1.0 if s == 0 else STD_Y / 0.9
    return mean_of_real((kappa * RAW["y"] - real(numbers(2, 4, 2, seed=1))) ** 2)


def loss_z(x_s, s, t=2):
    """Eq. 6b in x_0 from level s to t, at the weight (alpha_t / sigma_t)^2 that makes it one of eps."""
    e = centred(numbers(2, 4, 3, seed=2))
    alpha, sigma = ALPHA_Z[t], SIGMA_Z[t]
    if s == 0:
        return (alpha / sigma) ** 2 * mean_of_real((RAW["z"] - x_s) ** 2)
    x_t = 0.2 * x_s + STD_Z * e
    epsilon = sigma / STD_Z * e  # eps* = (sigma_t / sigma_ts) e
    x_0 = (x_t - sigma * epsilon) / alpha
    return (alpha / sigma) ** 2 * (STD_Z / sigma) ** 2 * mean_of_real((RAW["z"] - x_0) ** 2)


def test_losses_are_means_over_the_real_elements_of_every_sample():
    """Eq. 6 and 7 at s = 0, each field alone by its weight, and their weighted sum."""
    x = state()
    expected = {"y": loss_y(0), "z": loss_z(x["z"], 0), "c": cross_entropy(x["c"])}
    for name, value in expected.items():
        others = {other: 0.0 for other in expected if other != name}
        torch.testing.assert_close(losses([2.0, 2.0], weights=others).value.double(), value)
    total = losses([2.0, 2.0], weights={"y": 3.0, "c": 0.25})
    torch.testing.assert_close(total.value.double(), 3 * expected["y"] + expected["z"] + 0.25 * expected["c"])
    assert total.t.tolist() == [2, 2]


def test_losses_above_s():
    """From level 1, Eq. 6b with kappa, Eq. 7 with the clean class summed out."""
    x = state()
    torch.testing.assert_close(losses([2.0, 2.0], 1.0, weights={"z": 0.0, "c": 0.0}).value, loss_y(1))
    torch.testing.assert_close(losses([2.0, 2.0], 1.0, weights={"y": 0.0, "c": 0.0}).value, loss_z(x["z"], 1))
    moved = unequal().noised(x, 1.0, torch.full((2,), 2.0).double(), noise())["c"].x_t
    p_0 = RAW["c"].softmax(2)
    path = CategoricalPath(C, 3, TARGET)
    one, two = (torch.full((2,), level).double() for level in (1.0, 2.0))
    q = path.posterior(moved, p_0, one, two).gather(2, x["c"].unsqueeze(2)).squeeze(2)
    found = losses([2.0, 2.0], 1.0, weights={"y": 0.0, "z": 0.0}).value
    torch.testing.assert_close(found.double(), mean_of_real(-q.log()))


def test_a_field_that_has_not_moved_adds_nothing_and_the_others_their_own():
    """Each sample has another field that stands at s = 1."""
    x = state()
    found = losses([[2.0, 1.0, 1.0], [1.0, 2.0, 1.0]], 1.0)
    expected = torch.stack([loss_y(1)[0], loss_z(x["z"], 1)[1]])
    torch.testing.assert_close(found.value, expected)
    assert found.t.tolist() == [2, 2]  # the highest, whichever field it is


def test_states_x_0_are_taught_at_the_hand_off_itself():
    """Noised from the data, a field at ``low`` has moved: only ``level`` is where it stood."""
    x = state()
    found = losses([[2.0, 1.0, 1.0], [2.0, 1.0, 0.0]], 0.0, low=1.0)
    expected = loss_y(0) + loss_z(x["z"], 0, 1) + torch.tensor([1.0, 0.0]) * cross_entropy(x["c"])
    torch.testing.assert_close(found.value.double(), expected)


@pytest.mark.parametrize("output", ["epsilon", "sample", "v_prediction", "flow"])
@pytest.mark.parametrize("s", [0.0, 1.0])
def test_what_has_not_moved_gets_no_gradient_and_never_a_nan(output, s):
    """At t = s kappa is 0 / sigma_s, 0 / 0 at the data: the loss must be left out, and its gradient too."""
    process = Process(GaussianPath(Y), At([s, 2.0]))
    raw = numbers(2, 3).requires_grad_()
    denoiser = ModuleDenoiser(lambda x_t, t, condition: raw, output)
    given = Given((numbers(2, 3, seed=1),))
    loss = Objective().loss(denoiser, process, numbers(2, 3, seed=2), None, given, s)
    loss.value.sum().backward()
    assert loss.value[0] == 0
    assert (raw.grad[0] == 0).all()
    assert loss.value[1] > 0
    assert (raw.grad[1] != 0).all()
    noised = process.noised({"x": numbers(2, 3)}, s, torch.tensor([s, 2.0]).double(), Given((numbers(2, 3),)))["x"]
    assert process.gaussian.loss(raw, noised, output, LossSettings()).isfinite().all()


def test_mean_over_real_elements():
    error = torch.tensor([[[1.0, 3.0], [5.0, 7.0], [100.0, 100.0]], [[2.0, 4.0], [90.0, 90.0], [90.0, 90.0]]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert mean_over_real(error, mask).tolist() == [4.0, 3.0]
    assert mean_over_real(error[..., 0], mask).tolist() == [3.0, 2.0]
    assert mean_over_real(error, None).tolist() == [36.0, 61.0]
    assert mean_over_real(error, torch.zeros(2, 3, dtype=torch.bool)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("level", "low", "high", "asked"),
    [(0.0, None, None, (0, 2)), (1.0, None, None, (1, 2)), (0.0, 1.0, None, (1, 2)), (0.0, None, 1.0, (0, 1))],
)
def test_the_range_in_which_levels_are_drawn(level, low, high, asked):
    process = unequal()
    process.times = At([2.0, 2.0])
    denoiser = ModuleDenoiser(lambda x_t, t, condition: RAW, OUTPUTS)
    Objective().loss(denoiser, process, state(), None, noise(), level, low, high)
    assert process.times.asked == asked


def test_the_settings_of_an_objective_reach_the_fields_that_they_concern():
    """A weighting those of numbers, the target of a head those of classes."""
    x = state()
    process = unequal()
    process.times = At([2.0, 2.0])
    denoiser = ModuleDenoiser(lambda x_t, t, condition: RAW, OUTPUTS)
    capped = Objective(CappedInverseAlpha(4.0), {"z": 0.0}, "c_s")
    found = capped.loss(denoiser, process, x, None, noise(), 1.0).value
    weight = 4.0  # below 1 / 0.4^2
    torch.testing.assert_close(found.double(), weight * loss_y(1) + cross_entropy(x["c"]))


@pytest.mark.parametrize(("output", "factor"), [("v_prediction", 0.4 / 0.97), ("flow", 0.4 / 1.3), ("sample", 4 / 9)])
def test_weights_in_eps_where_the_schedule_does_not_preserve_variance(output, factor):
    """An error of the output is |d eps / d output| times as large in eps: alpha / (alpha^2 + sigma^2) of a v."""
    process = Process(GaussianPath(Y), At([2.0, 2.0]))
    off = ModuleDenoiser(lambda x_t, t, condition: targets[output] + torch.tensor([[1.0], [3.0]]), output)
    x_0, e = numbers(2, 3, seed=2), numbers(2, 3, seed=1)
    targets = {"v_prediction": 0.4 * e - 0.9 * x_0, "flow": e - x_0, "sample": x_0}
    found = Objective(Unit()).loss(off, process, x_0, None, Given((e,)))
    torch.testing.assert_close(found.value.double(), factor**2 * torch.tensor([1.0, 9.0]).double())
