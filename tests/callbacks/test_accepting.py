"""What an objective that weighs draws itself is said to aim at."""

import logging
import math

import pytest
import torch

from graft_lightning.callbacks.accepting import _tell_aim
from graft_lightning.rejection.acceptance import TopK
from graft_lightning.rejection.objectives import AWM, NFT, RWR
from graft_lightning.rejection.selection import select

NAN = math.nan
FULL = [[0.0, 1.0, 2.0, 3.0], [5.0, 6.0, 7.0, 8.0]]
PADDED = [[0.0, NAN, 1.0, 2.0, 3.0, NAN], [NAN, math.inf, 5.0, 6.0, 7.0, 8.0]]


def said(caplog, objective, rewards):
    rewards = torch.tensor(rewards)
    seeds = torch.arange(rewards.numel()).reshape(rewards.shape)
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="graft_lightning.callbacks.collect"):
        _tell_aim(objective, select(rewards, torch.full(rewards.shape, -1), seeds, TopK(1)), "TopK")
    return caplog.messages[-1]


@pytest.mark.parametrize("objective", [RWR(1.0), AWM(), NFT(), NFT(negative=False)], ids=lambda o: type(o).__name__)
def test_what_cannot_be_judged_changes_no_aim(caplog, objective):
    assert said(caplog, objective, PADDED) == said(caplog, objective, FULL)


def test_the_aim_of_two_draws_in_closed_form(caplog):
    """Rewards 0 and log 3 weigh 1 : 3; beside them stand as many that could not be judged."""
    kl = math.log(2) + 0.25 * math.log(0.25) + 0.75 * math.log(0.75)
    line = said(caplog, RWR(1.0), [[0.0, math.log(3.0), NAN, NAN]])
    assert f"a mean reward of {0.75 * math.log(3.0):.3f} in this round, {kl:.2f} nats (KL)" in line
