"""Streams of examples; those of accepted trajectories are tested with the data of Lightning that wraps them."""

import pytest
import torch

from graft_lightning import api


def test_every_datum_once_in_each_shuffle_with_its_condition():
    data = torch.arange(6.0)[:, None]
    stream = api.TensorStream(data, list("abcdef"), seed=1)
    batches = list(stream.batches(4, steps=3))
    x = torch.cat([batch.x for batch in batches]).flatten().tolist()
    assert sorted(x[:6]) == sorted(x[6:]) == data.flatten().tolist()
    assert [text for batch in batches for text in batch.conditions] == ["abcdef"[int(i)] for i in x]
    assert len(set(torch.cat([batch.seeds for batch in batches]).tolist())) == 12
    (last,) = stream.batches(4, steps=1, start=2)
    assert torch.equal(last.x, batches[2].x)
    endless = stream.batches(4)
    assert torch.equal([next(endless) for _ in range(3)][2].seeds, batches[2].seeds)


def test_data_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="1 conditions for 2 data"):
        api.TensorStream(torch.zeros(2, 1), ["a"])
    with pytest.raises(ValueError, match="batch_size=0"):
        api.TensorStream(torch.zeros(2, 1)).batches(0)
