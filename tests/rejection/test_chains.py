"""Which draw and which step a policy gradient sees at each place of its stream."""

from collections import Counter

import pytest
import torch

from graft_lightning.datamodules import AcceptedTrajectories
from graft_lightning.domains.base import Texts
from graft_lightning.processes.noise import trajectory_seeds
from graft_lightning.rejection.acceptance import TopK
from graft_lightning.rejection.chains import ChainStream
from graft_lightning.rejection.objectives import DDPO, FlowGRPO
from tests.rejection.test_grouped import DRAWS, TEXTS, filled, selection_of  # noqa: F401  a fixture

STEPS = [2, 3, 5]


@pytest.fixture
def chosen(filled):  # noqa: F811
    return selection_of(filled, TopK(3))


def stream_of(round_, selection, of_each=3, block=6, seed=1):
    return ChainStream(round_, selection, torch.ones(3, DRAWS), STEPS, of_each, block, seed)


def test_a_block_of_draws_sees_every_step_and_a_pass_every_draw_once(filled, chosen):  # noqa: F811
    stream = stream_of(filled, chosen)
    batches = [stream.read(range(i * 6, i * 6 + 6)) for i in range(9)]  # 18 draws in 3 blocks, 3 steps each
    indices = [batch.x[:, 0].long().tolist() for batch in batches]
    for block in range(3):
        own = batches[3 * block : 3 * block + 3]
        assert indices[3 * block] == indices[3 * block + 1] == indices[3 * block + 2]
        assert sorted(batch.step for batch in own) == STEPS
    assert Counter(index for found in indices[::3] for index in found) == dict.fromkeys(range(18), 1)
    first = batches[0]
    draws = [index % DRAWS for index in indices[0]]
    assert first.conditions == [TEXTS[index // DRAWS] for index in indices[0]]
    assert torch.equal(first.seeds, trajectory_seeds(0, 0, first.conditions, draws))
    torch.testing.assert_close(first.rewards, filled.rewards("score").flatten()[indices[0]], equal_nan=True)


def test_a_share_of_the_steps_is_chosen_anew_for_each_block(filled, chosen):  # noqa: F811
    stream = stream_of(filled, chosen, of_each=1)
    steps = [stream.read(range(i * 6, i * 6 + 6)).step for i in range(60)]
    assert Counter(steps).keys() == set(STEPS)
    again = stream_of(filled, chosen, of_each=1)
    assert again.read(range(42, 48)).step == steps[7]
    assert torch.equal(again.read(range(42, 48)).x, stream.read(range(42, 48)).x)


def test_two_processes_share_a_block(filled, chosen):  # noqa: F811
    stream = stream_of(filled, chosen)
    whole, parts = stream.read(range(6, 12)), [stream.read(range(6, 9)), stream.read(range(9, 12))]
    assert torch.equal(whole.x, torch.cat([part.x for part in parts]))
    assert {part.step for part in parts} == {whole.step}
    with pytest.raises(ValueError, match="not in one block of 6"):
        stream.read(range(4, 8))


@pytest.mark.parametrize(("objective", "silent"), [(DDPO(least=1), True), (FlowGRPO(), False)])
def test_a_condition_with_equal_rewards_has_something_to_teach_where_others_are_looked_at(filled, objective, silent):  # noqa: F811
    data = AcceptedTrajectories(
        conditions=Texts(TEXTS), acceptance=TopK(3), pool=str(filled.path.parent), batch_size=6, validation=None
    )
    data.use(filled, "score", "x_0", DDPO() if silent else objective, STEPS)
    seen = {text for i in range(30) for text in data.read(range(i * 6, i * 6 + 6)).conditions}
    assert ("c" in seen) == silent
