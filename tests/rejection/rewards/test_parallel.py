import os
import pickle

import pytest
import torch
from tensordict import TensorDict

from graft_lightning.rejection.reward import Reward
from graft_lightning.rejection.rewards import ParallelReward
from graft_lightning.rejection.rewards.parallel import _part

FIRST = slice(0, 2)

pytestmark = pytest.mark.usefixtures("warm")


class Length(Reward):
    """The length of the condition, plus the sample: every row is told from every other."""

    def __call__(self, samples, conditions) -> torch.Tensor:
        values = samples["value"] if isinstance(samples, dict | TensorDict) else samples
        return torch.tensor([float(value) for value in values]) + torch.tensor([len(text) for text in conditions])


class Process(Reward):
    """The number of the process that scores."""

    def __call__(self, samples, conditions) -> torch.Tensor:
        return torch.full((len(conditions),), float(os.getpid()))


KINDS = {
    "tensor": lambda values: values,
    "mapping": lambda values: {"value": values},
    "TensorDict": lambda values: TensorDict({"value": values}, batch_size=[len(values)]),
    "list": lambda values: values.tolist(),
}


@pytest.mark.slow
def test_scores_are_the_same_in_the_same_order():
    parallel = ParallelReward(Length(), workers=2, at_least=10)  # one for all, because processes take seconds to start
    for make in KINDS.values():
        for count in (53, 11, 3):
            samples, texts = make(torch.arange(count) / 8), ["x" * (i % 3) for i in range(count)]
            torch.testing.assert_close(parallel(samples, texts), Length()(samples, texts), rtol=0, atol=0)


@pytest.mark.slow
def test_large_batches_leave_this_process():
    parallel = ParallelReward(Process(), workers=1, at_least=4)
    assert parallel(torch.zeros(3), [""] * 3).tolist() == [os.getpid()] * 3
    assert os.getpid() not in parallel(torch.zeros(4), [""] * 4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_is_a_copy_of_its_own_rows(kind):
    values = torch.arange(1000.0, requires_grad=True)
    part = _part(KINDS[kind](values), FIRST)
    found = part["value"] if kind in ("mapping", "TensorDict") else part
    assert [float(value) for value in found] == [0.0, 1.0]
    if kind != "list":
        assert not found.requires_grad
        assert found.untyped_storage().nbytes() == 8


def test_it_is_named_and_sent_like_the_reward():
    parallel = ParallelReward(Length(), workers=3)
    assert parallel.name == "Length"
    assert pickle.loads(pickle.dumps(parallel)).workers == 3


def test_arguments_out_of_range():
    groupwise = Length()
    groupwise.groupwise = True
    with pytest.raises(ValueError, match="Length compares samples with each other"):
        ParallelReward(groupwise)
    with pytest.raises(ValueError, match="workers=0"):
        ParallelReward(Length(), workers=0)
