"""Figures of a hand-off that have a closed form."""

from types import SimpleNamespace

import pytest
import torch
from tensordict import TensorDict

from graft_lightning.processes.denoiser import Denoiser
from graft_lightning.processes.paths import CategoricalPath, CentredGaussianPath, GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.schedules import Cosine, Trigonometric
from graft_lightning.rejection.handoff import score_distance

TEXTS, LEVEL = ["a", "b", "c"], 0.3
MASK = torch.tensor([[True] * 4, [True] * 3 + [False], [True] * 2 + [False] * 2])


class Constant(Denoiser):
    """Predicts v = ``value`` for what is real and something large for padding, and says that all classes are alike."""

    def __init__(self, value: float) -> None:
        self.value, self.output = value, {"positions": "v_prediction", "types": "logits"}

    def __call__(self, x_t, t, condition):
        v = torch.where(x_t["mask"][..., None], self.value, 100.0).expand_as(x_t["positions"])
        return {"positions": v, "types": torch.zeros(*x_t["types"].shape, 5)}


def reference_of(*fields):
    paths = {
        "positions": CentredGaussianPath(Trigonometric()),
        "types": CategoricalPath(Trigonometric(), 5),
    }
    process = Process({name: paths[name] for name in fields})
    return SimpleNamespace(process=process, encode=lambda texts, device: None)


def mixed():
    types = torch.zeros(3, 4, dtype=torch.int64)
    return TensorDict({"positions": torch.randn(3, 4, 3), "types": types, "mask": MASK}, batch_size=[3])


@pytest.mark.parametrize("value", [0.0, 2.0])
def test_the_score_of_a_mixed_state_is_that_of_its_positions(value):
    """v = 0 is the score of N(0, I), at every state; eps differs from it by alpha v. Padding is not seen."""
    found = score_distance(reference_of("positions", "types"), Constant(value), mixed(), LEVEL, TEXTS)
    alpha = float(torch.cos(torch.tensor(torch.pi * LEVEL / 2)))
    assert found.mean == pytest.approx((alpha * value) ** 2, abs=1e-6)
    assert (found.error, found.n) == (pytest.approx(0, abs=1e-6), 3)


def test_classes_have_no_score():
    assert score_distance(reference_of("types"), Constant(1.0), mixed(), LEVEL, TEXTS) is None


def test_the_score_of_pure_noise_is_at_no_distance():
    """Of a tensor state; where the schedule ends in noise, x itself is eps."""

    class Identity(Denoiser):
        output = "epsilon"

        def __call__(self, x_t, t, condition):
            return x_t

    path = GaussianPath(Cosine())
    reference = SimpleNamespace(process=Process(path), encode=lambda texts, device: None)
    x, t = torch.randn(3, 2), path.schedule.t_max
    alpha, sigma = (float(value) for value in path.alpha_sigma(torch.tensor(float(t))))
    expected = (x * (1 - sigma / (alpha**2 + sigma**2))).pow(2).mean()
    assert score_distance(reference, Identity(), x, t, TEXTS).mean == pytest.approx(float(expected), abs=1e-9)
    halfway = score_distance(reference, Identity(), x, t // 2, TEXTS).mean
    assert halfway > 100 * float(expected) + 1e-3
