"""Paths: kernels compose (Eq. 2, 3), and the categorical reversal is Bayes' rule."""

import itertools
import math

import pytest
import torch

from graft_lightning.processes.noise import Noise
from graft_lightning.processes.outputs import Prediction
from graft_lightning.processes.paths import CategoricalPath, GaussianPath, LossSettings, Noised, sample_classes
from graft_lightning.processes.schedules import Cosine, FromTable, Linear, Polynomial2, RectifiedFlow
from tests.processes.known import C, Given, Known

SCHEDULES = [Linear(), Cosine(), Polynomial2(), RectifiedFlow()]
TARGETS = ["uniform", "absorbing", [0.2, 0.5, 0.3]]
CLASSES = 3


def levels(schedule, *shares):
    """Levels at shares of T, one tensor ``(1,)`` each."""
    return [torch.tensor([share * schedule.t_max], dtype=torch.float64) for share in shares]


def matrix(path, s, t):
    """q(c_t | c_s) as a table, row c_s, column c_t."""
    return path.kernel(s, t).probabilities(torch.arange(CLASSES).unsqueeze(0))[0]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
class TestGaussian:
    def test_eq_2_kernels_compose(self, schedule):
        path = GaussianPath(schedule)
        s, u, t = levels(schedule, 0.2, 0.5, 0.9)
        first, second, whole = path.kernel(s, u), path.kernel(u, t), path.kernel(s, t)
        torch.testing.assert_close(first.alpha * second.alpha, whole.alpha)
        torch.testing.assert_close((second.alpha * first.sigma) ** 2 + second.sigma**2, whole.sigma**2)

    def test_eq_1_is_the_kernel_from_the_data(self, schedule):
        path = GaussianPath(schedule)
        t = torch.tensor([0.0, 0.3, 1.0]).double() * schedule.t_max
        kernel = path.kernel(torch.zeros(3), t)
        alpha, sigma = path.alpha_sigma(t)
        torch.testing.assert_close(kernel.alpha, alpha)
        torch.testing.assert_close(kernel.sigma, sigma)

    def test_noising_in_two_stages_gives_the_marginal(self, schedule):
        path = GaussianPath(schedule)
        s, t = levels(schedule, 0.4, 0.7)
        kernel = path.kernel(s, t)
        (alpha_s, sigma_s), (alpha_t, sigma_t) = path.alpha_sigma(s), path.alpha_sigma(t)
        torch.testing.assert_close(kernel.alpha * alpha_s, alpha_t)
        torch.testing.assert_close((kernel.alpha * sigma_s) ** 2 + kernel.sigma**2, sigma_t**2)

    def test_kernel_to_the_same_level_changes_nothing(self, schedule):
        (t,) = levels(schedule, 0.6)
        kernel = GaussianPath(schedule).kernel(t, t)
        assert kernel.alpha.item() == 1.0
        assert kernel.sigma.item() < 1e-7


def test_kernel_backwards_is_refused():
    with pytest.raises(ValueError, match="towards noise"):
        GaussianPath(Linear()).kernel(torch.tensor([500]), torch.tensor([499]))


def test_kernel_from_pure_noise_is_refused():
    with pytest.raises(ValueError, match="nothing is left of the signal"):
        GaussianPath(RectifiedFlow()).kernel(torch.tensor([1.0]), torch.tensor([1.0]))


@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_eq_3_kernels_compose(schedule, target):
    path = CategoricalPath(schedule, CLASSES, target)
    zero, s, u, t = levels(schedule, 0.0, 0.2, 0.5, 0.9)
    torch.testing.assert_close(matrix(path, s, u) @ matrix(path, u, t), matrix(path, s, t))
    torch.testing.assert_close(matrix(path, zero, u) @ matrix(path, u, t), matrix(path, zero, t))
    torch.testing.assert_close(matrix(path, s, t).sum(1), torch.ones(CLASSES, dtype=torch.float64))
    survival = path.survival(t)
    expected = survival * torch.eye(CLASSES) + (1 - survival) * path.target
    torch.testing.assert_close(matrix(path, zero, t), expected)


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_likelihood_is_the_transposed_kernel(target):
    path = CategoricalPath(Cosine(), CLASSES, target)
    s, t = levels(path.schedule, 0.3, 0.6)
    table = path.kernel(s, t).likelihood(torch.arange(CLASSES).unsqueeze(0))[0]  # row c_t, column c_s
    torch.testing.assert_close(table, matrix(path, s, t).T)


@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize("shares", [(0.0, 0.4), (0.3, 0.6), (0.9, 1.0), (0.0, 1.0)], ids=str)
def test_categorical_posterior_is_bayes_rule(target, shares):
    """Sums q(c_s | c_t, c_0) over c_0 one by one, each by Bayes' rule from the two kernels."""
    path = CategoricalPath(Linear(20, 0.01, 0.5), CLASSES, target)
    zero, s, t = levels(path.schedule, 0.0, *shares)
    to_s, to_t, whole = matrix(path, zero, s), matrix(path, s, t), matrix(path, zero, t)
    p_0 = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    for c_t in range(CLASSES):
        # An absorbing path reaches an unmasked c_t from c_0 = c_t alone: what p_0 says of the others is impossible.
        possible = p_0 * (whole[:, c_t] > 0)
        expected = torch.zeros(CLASSES, dtype=torch.float64)
        for c_0, c_s in itertools.product(range(CLASSES), repeat=2):
            if possible[c_0] > 0:
                expected[c_s] += possible[c_0] * to_s[c_0, c_s] * to_t[c_s, c_t] / whole[c_0, c_t]
        found = path.posterior(torch.tensor([[c_t]]), p_0.expand(1, 1, -1), s, t)[0, 0]
        torch.testing.assert_close(found, expected / expected.sum())


def test_absorbing_posterior_keeps_what_is_unmasked():
    path = CategoricalPath(Linear(20, 0.01, 0.5), 4, "absorbing")
    s, t = levels(path.schedule, 0.3, 0.8)
    p_0 = torch.tensor([0.1, 0.2, 0.7, 0.0]).expand(1, 2, 4)
    found = path.posterior(torch.tensor([[1, 3]]), p_0, s, t)[0]
    assert found[0].tolist() == [0.0, 1.0, 0.0, 0.0]
    beta_s, beta_t = path.survival(s), path.survival(t)
    still_masked = (1 - beta_s) / (1 - beta_t)
    torch.testing.assert_close(found[1, 3], still_masked[0])
    torch.testing.assert_close(found[1, :3], (1 - still_masked) * p_0[0, 1, :3].double())


def test_posterior_has_a_level_per_sample():
    path = CategoricalPath(FromTable([0.8, 0.5, 0.2]), CLASSES)
    s, t = torch.tensor([0, 1]), torch.tensor([2, 3])
    p_0 = torch.tensor([0.6, 0.3, 0.1]).expand(2, 4, 3)
    c_t = torch.tensor([[0, 1, 2, 0], [0, 1, 2, 0]])
    both = path.posterior(c_t, p_0, s, t)
    for i in range(2):
        one = path.posterior(c_t[i : i + 1], p_0[i : i + 1], s[i : i + 1], t[i : i + 1])
        torch.testing.assert_close(both[i : i + 1], one)


def test_sample_classes_has_the_given_frequencies():
    probabilities = torch.tensor([0.1, 0.0, 0.6, 0.3], dtype=torch.float64)
    uniform = (torch.arange(1000) + 0.5) / 1000  # stratified, so that frequencies are exact
    drawn = sample_classes(probabilities.expand(1000, 4), uniform)
    assert drawn.bincount(minlength=4).tolist() == [100, 0, 600, 300]


def test_sample_classes_never_leaves_the_support():
    probabilities = torch.tensor([0.0, 0.5, 0.5, 0.0])
    assert sample_classes(probabilities.expand(2, 4), torch.tensor([0.0, 1 - 2**-24])).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((1,), "classes=1"), ((3, [0.5, 0.5]), "3 probabilities"), ((2, [0.5, 0.6]), "sum to 1")],
)
def test_wrong_targets_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        CategoricalPath(Linear(), *arguments)


def test_a_field_that_stays_at_its_level_stays_as_it_is():
    """At every level: sigma_ts^2 is rounded below 0 at some, where its root would be no number."""
    path, x = GaussianPath(Linear()), torch.ones(9, 1, dtype=torch.float64)
    noise = Given(tuple(torch.ones(9, 1, dtype=torch.float64) for _ in range(999)))
    for s in range(1, 1000):
        found = path.diffuse(x, float(s), torch.full((9,), float(s), dtype=torch.float64), noise)
        torch.testing.assert_close(found.x_t, x, rtol=0, atol=1e-6)


VANISHED = Known([1.0, 0.0, 0.0], [0.0, 1.0, 1.0])
"""Nothing is left of the signal from level 1 on."""


def test_nothing_starts_or_ends_where_no_signal_is_left_on_the_way():
    path, x = GaussianPath(VANISHED), torch.ones(2, 1)
    with pytest.raises(ValueError, match=r"nothing is left of the signal at s=1\.0"):
        path.diffuse(x, 1.0, torch.full((2,), 2.0), Noise(torch.arange(2)))
    with pytest.raises(ValueError, match="nothing is left of the signal"):  # in one sample of two
        path.kernel(torch.tensor([0.0, 1.0]), torch.tensor([2.0, 2.0]))
    with pytest.raises(ValueError, match=r"nothing is left of the signal at s=1\.0"):
        path.reverse(x, Prediction(x, x), 2.0, 1.0, Noise(torch.arange(2)))


def test_classes_that_have_all_been_drawn_anew_are_drawn_anew_again():
    """beta_s = 0: what is left of c_s at t cannot be told, and q is the target, also from T to T."""
    path = CategoricalPath(FromTable([0.5, 0.0]), CLASSES, [0.2, 0.5, 0.3])
    end = torch.tensor([2.0])
    assert path.kernel(end, end).survival.tolist() == [0.0]
    assert matrix(path, end, end).tolist() == [[0.2, 0.5, 0.3]] * 3


def test_survival_is_alpha_squared():
    path = CategoricalPath(FromTable([0.81, 0.36]), CLASSES, "uniform")
    zero, one, two = (torch.tensor([t]) for t in (0.0, 1.0, 2.0))
    torch.testing.assert_close(path.survival(two), torch.tensor([0.36], dtype=torch.float64))
    torch.testing.assert_close(path.kernel(one, two).survival, torch.tensor([4 / 9], dtype=torch.float64))
    third = 0.19 / 3
    expected = torch.full((3, 3), third, dtype=torch.float64) + 0.81 * torch.eye(3)
    torch.testing.assert_close(matrix(path, zero, one), expected)
    torch.testing.assert_close(CategoricalPath(C, 3).target, torch.full((3,), 1 / 3, dtype=torch.float64))
    assert CategoricalPath(C, 3, "absorbing").target.tolist() == [0, 0, 1]


def test_eq_7_of_a_class_that_the_head_all_but_rules_out():
    """An absorbed class: q(c_s | c_t) is p_0 times the share that is still unmasked at s; its log is kept from -inf."""
    path = CategoricalPath(C, CLASSES, "absorbing")
    beta_s, beta_t = 0.9, 0.3
    c_s, c_t = torch.zeros(2, 1, dtype=torch.int64), torch.full((2, 1), 2)
    noised = Noised(c_s, c_t, torch.zeros(2, 1), 1.0, torch.full((2,), 2.0).double(), None)
    logits = torch.tensor([[[math.log(1e-6), 0.0, -math.inf]], [[-math.inf, 0.0, -math.inf]]], dtype=torch.float64)
    found = path.loss(logits, noised, "logits", LossSettings())
    share = (beta_s - beta_t) / (1 - beta_t) * 1e-6 / (1 + 1e-6)
    torch.testing.assert_close(found, torch.tensor([-math.log(share), -math.log(1e-12)], dtype=torch.float64))


def test_the_loss_of_a_head_for_the_class_at_s_is_its_cross_entropy():
    """At s > 0 too, by the setting; without it the clean class is summed out and the loss is another."""
    path = CategoricalPath(C, CLASSES, [0.2, 0.5, 0.3])
    c_s, c_t = torch.tensor([[0], [1]]), torch.tensor([[2], [1]])
    noised = Noised(c_s, c_t, torch.zeros(2, 1), 1.0, torch.full((2,), 2.0).double(), None)
    logits = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64).log().expand(2, 1, 3)
    found = path.loss(logits, noised, "logits", LossSettings(categorical_target="c_s"))
    torch.testing.assert_close(found, -torch.tensor([0.5, 0.2], dtype=torch.float64).log())


def test_sample_classes_of_weights_and_at_the_edges():
    """Weights need not sum to 1; an edge belongs to the class above it; what rounding has made 1 to the last."""
    weights = torch.tensor([1.0, 1.0, 2.0], dtype=torch.float64)
    uniform = torch.tensor([0.0, 0.24, 0.25, 0.49, 0.5, 0.99, 1.0], dtype=torch.float64)
    assert sample_classes(weights.expand(7, 3), uniform).tolist() == [0, 0, 1, 1, 2, 2, 2]


def test_classes_have_a_level_per_sample():
    """From 0 to 1, and from 1 to 2: beta 0.9, and 0.3 / 0.9."""
    kernel = CategoricalPath(C, CLASSES, [0.2, 0.5, 0.3]).kernel(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 2.0]))
    expected = torch.tensor([[0.02, 0.95, 0.03], [0.4 / 3, 2 / 3, 0.6 / 3]], dtype=torch.float64)
    torch.testing.assert_close(kernel.probabilities(torch.tensor([1, 1])), expected)
    likelihood = torch.tensor([[0.05, 0.95, 0.05], [1 / 3, 2 / 3, 1 / 3]], dtype=torch.float64)
    torch.testing.assert_close(kernel.likelihood(torch.tensor([1, 1])), likelihood)
