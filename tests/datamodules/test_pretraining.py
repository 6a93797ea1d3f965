from collections.abc import Sequence

import torch

from graft_lightning.datamodules import PretrainingExamples
from graft_lightning.domains.base import Examples


class Numbered(Examples):
    def batch(self, positions: Sequence[int], seed: int) -> tuple[torch.Tensor, list[str]]:
        return torch.tensor([[float(p), float(seed)] for p in positions]), [str(p) for p in positions]


def test_examples_are_streamed_in_order():
    data = PretrainingExamples(Numbered(), batch_size=2, steps_per_epoch=2, seed=5)
    batches = list(data.train_dataloader())
    assert [batch.x[:, 0].tolist() for batch in batches] == [[0, 1], [2, 3]]
    assert all((batch.x[:, 1] == 5).all() and (batch.weight == 1).all() for batch in batches)


def test_further_training_goes_on_in_the_stream_of_another_run_with_noise_of_its_own():
    first = PretrainingExamples(Numbered(), batch_size=2, steps_per_epoch=3, seed=5)
    further = PretrainingExamples(Numbered(), batch_size=2, steps_per_epoch=1, seed=6, examples_seed=5, start=4)
    expected, (batch,) = list(first.train_dataloader())[2], further.train_dataloader()
    assert torch.equal(batch.x, expected.x)
    assert batch.conditions == expected.conditions
    assert not torch.equal(batch.seeds, expected.seeds)
