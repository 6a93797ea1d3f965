import torch

from graft_lightning.rejection.codec import Codec


class Stacked(Codec):
    """Draws samples as the rows of a sheet, and remembers their captions."""

    def draw(self, samples, captions=None):
        self.captions = captions
        return samples


def test_samples_before_and_after_stand_in_pairs():
    codec = Stacked()
    before, after = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[10.0], [20.0], [30.0]])
    assert codec.compare(before, after, ["a", "b", "c"]).flatten().tolist() == [1, 10, 2, 20, 3, 30]
    assert codec.captions == ["base: a", "now: a", "base: b", "now: b", "base: c", "now: c"]
    fields = codec.compare({"x": before}, {"x": after}, ["a", "b"])
    assert fields["x"].flatten().tolist() == [1, 10, 2, 20]


def test_a_codec_that_draws_nothing_compares_nothing():
    assert Codec().compare(torch.zeros(2, 1), torch.zeros(2, 1), ["a", "b"]) is None
