"""Rewards change nothing of the process that calls them, whatever they do to it."""

import os
import random
import threading

import numpy as np
import pytest
import torch

from graft_lightning.rejection.reward import score
from graft_lightning.rejection.rewards import WeightedSum
from graft_lightning.rejection.rewards.function import CallableReward
from graft_lightning.rejection.undisturbed import begin_anew, undisturbed

TEXTS = ["a", "b"]


def drawn():
    """The next numbers of the global generators."""
    return torch.rand(2).tolist(), np.random.rand(2).tolist(), random.random()  # noqa: NPY002


def seeded():
    torch.manual_seed(3)
    np.random.seed(3)  # noqa: NPY002
    random.seed(3)


def test_random_numbers_go_on_as_without_the_reward():
    def stochastic(samples, conditions):
        drawn()
        return samples[:, 0] + torch.rand(len(samples))

    def resets(samples, conditions):
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        random.seed(0)
        return samples[:, 0]

    seeded()
    expected = drawn()
    for function in (stochastic, resets):
        seeded()
        score(CallableReward(function), torch.zeros(2, 3), TEXTS)
        assert drawn() == expected
    first, second = (score(CallableReward(stochastic), torch.zeros(2, 3), TEXTS) for _ in range(2))
    assert not torch.equal(first, second), "its own numbers go on from call to call"


def test_a_reward_inside_another_has_numbers_that_go_on_too():
    whole = WeightedSum([CallableReward(lambda samples, conditions: torch.rand(len(samples)))])
    found = [score(whole, torch.zeros(2, 3), TEXTS) for _ in range(3)]
    assert len({tuple(scores.tolist()) for scores in found}) == 3


def test_rewards_begin_anew_where_the_process_was_seeded():
    reward, found = CallableReward(lambda samples, conditions: torch.rand(len(samples))), []
    for _ in range(2):
        seeded()
        begin_anew()
        found.append(score(reward, torch.zeros(2, 3), TEXTS).tolist())
    assert found[0] == found[1]


@pytest.mark.parametrize("fails", [False, True])
def test_types_threads_device_and_folder_are_put_back(fails, tmp_path):
    def before():
        return torch.get_default_dtype(), torch.get_default_device(), torch.get_num_threads(), os.getcwd()

    expected = before()
    with pytest.raises(KeyError) if fails else undisturbed(), undisturbed():
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        torch.set_num_threads(expected[2] + 1)
        os.chdir(tmp_path)
        if fails:
            raise KeyError
    assert before() == expected
    assert torch.zeros(1).device.type == "cpu"


def test_a_thread_puts_nothing_back_that_others_have_drawn_since():
    entered, drew = threading.Event(), threading.Event()

    def beside():
        with undisturbed():
            entered.set()
            drew.wait(60)

    seeded()
    expected = [torch.rand(1).item() for _ in range(2)]
    seeded()
    thread = threading.Thread(target=beside)
    thread.start()
    entered.wait(60)
    found = [torch.rand(1).item()]
    drew.set()
    thread.join()
    assert [*found, torch.rand(1).item()] == expected
