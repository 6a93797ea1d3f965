"""What a network answers: one prediction for every number of the state, or a refusal that names class and shape."""

import pytest
import torch

from graft_lightning.processes.paths import CategoricalPath, GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.schedules import Linear
from graft_lightning.rejection.reference import open_views
from graft_lightning.types import SettingsError
from tests.fakes import CONDITIONS, TinyReference

X, T = torch.randn(4, 2), torch.full((4,), 300.0, dtype=torch.float64)


class Answering(TinyReference):
    """Makes something else of what its network predicts."""

    def __init__(self, answer, output="epsilon", process=None):
        super().__init__()
        self.answer, self.output, self.mixed = answer, output, process

    @property
    def process(self):
        return self.mixed or super().process

    def denoise(self, network, x_t, t, condition):
        x = x_t if isinstance(x_t, torch.Tensor) else x_t["place"]
        return self.answer(super().denoise(network, x, t, condition))


def ask(reference, view, x=X):
    views = open_views(reference, reference.build())
    return getattr(views, view)(x, T, reference.encode(CONDITIONS * 2, "cpu"))


@pytest.mark.parametrize("view", ["frozen", "trainable"])
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda raw: raw[:, :1], r"shape \(4, 1\) for states of shape \(4, 2\); output='epsilon' has one number"),
        (lambda raw: raw[:1], r"shape \(1, 2\) for states of shape \(4, 2\)"),
        (lambda raw: raw.mean(), r"shape \(\) for states"),
        (lambda raw: torch.cat([raw, raw], 1), r"shape \(4, 4\).*a variance beside it, return the first half"),
        (lambda raw: (raw,), r"a tuple; it must return a tensor: .*of a tuple its first"),
        (lambda raw: {"sample": raw}, r"a dict with \['sample'\]; it must return a tensor: .*take `.sample`"),
        (lambda raw: None, "None; it must return a tensor"),
        (lambda raw: raw.detach().numpy(), "a ndarray; it must return a tensor"),
        (lambda raw: raw.long(), "torch.int64; predictions are real numbers"),
        (lambda raw: raw + 0j, "torch.complex64; predictions are real numbers"),
    ],
)
def test_what_would_be_broadcast_or_is_no_tensor_is_refused(view, answer, message):
    with pytest.raises(SettingsError, match=rf"Answering\.denoise returned .*{message}"):
        ask(Answering(answer), view)


def test_an_answer_without_gradient_is_refused_where_there_is_something_to_train():
    reference = Answering(lambda raw: raw.detach())
    assert ask(reference, "frozen").shape == X.shape
    with torch.no_grad():
        assert ask(reference, "trainable").shape == X.shape
    with pytest.raises(SettingsError, match=r"Answering\.denoise returned numbers without a gradient, though TinyNet"):
        ask(reference, "trainable")


PROCESS = Process({"place": GaussianPath(Linear()), "kind": CategoricalPath(Linear(), 3)})
MIXED = {"place": X, "kind": torch.zeros(4, 5, dtype=torch.long)}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda raw: raw, r"a Tensor; it must return a mapping with a tensor for each of \['place', 'kind'\]"),
        (lambda raw: {"place": raw}, r"a dict with \['place'\]; it must return a mapping"),
        (lambda raw: {"place": raw, "kind": raw}, r"logits of shape \(4, 2\) for field 'kind'; of classes of shape"),
        (lambda raw: {"place": raw, "kind": (raw,)}, "a tuple for field 'kind'; it must return a tensor"),
    ],
)
def test_of_several_fields_the_wrong_one_is_named(answer, message):
    output = {"place": "epsilon", "kind": "logits"}
    with pytest.raises(SettingsError, match=message):
        ask(Answering(answer, output, PROCESS), "frozen", MIXED)
    right = Answering(lambda raw: {"place": raw, "kind": torch.zeros(4, 5, 3), "more": None}, output, PROCESS)
    assert ask(right, "trainable", MIXED)["place"].shape == X.shape
