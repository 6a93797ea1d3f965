"""Diversity of whatever has numbers: tensors, mappings with padding, and what a codec makes numbers of."""

import pytest
import torch
from tensordict import TensorDict

from graft_lightning.domains.base import Diversity
from graft_lightning.domains.molecules import MoleculeReference
from graft_lightning.rejection.codec import Codec


def diversity_of(samples, conditions, codec=None):
    metric = Diversity(codec)
    metric.update(samples, conditions)
    return float(metric.compute())


def test_tensors_by_hand():
    samples = torch.tensor([[[0.0, 0.0]], [[3.0, 4.0]], [[1.0, 0.0]], [[1.0, 2.0]], [[9.0, 9.0]]])
    assert diversity_of(samples, ["a", "a", "b", "b", "alone"]) == pytest.approx((5 + 2) / 2)
    assert diversity_of(torch.tensor([1.0, 4.0]), ["a", "a"]) == pytest.approx(3)


@pytest.mark.parametrize("wrap", [dict, lambda samples: TensorDict(samples, batch_size=2)], ids=["dict", "TensorDict"])
def test_mappings_are_compared_by_what_is_real(wrap):
    """(3, 4) apart in the first element; the second is padding."""
    boxes = torch.tensor([[[0.0, 0.0], [8.0, torch.nan]], [[3.0, 4.0], [-5.0, 2.0]]])
    samples = wrap({"boxes": boxes, "mask": torch.tensor([[True, False], [True, False]])})
    assert diversity_of(samples, ["a", "a"]) == pytest.approx(5)


def test_the_codec_says_what_is_compared():
    class Lengths(Codec):
        def numbers(self, samples):
            return torch.tensor([[len(text)] for text in samples], dtype=torch.float64)

    assert diversity_of(["of", "letters"], ["a", "a"], Lengths()) == 5
    with pytest.raises(TypeError, match=r"samples are list, of which Codec.numbers\(\) gives none.*set codec"):
        diversity_of(["of", "letters"], ["a", "a"])


def test_a_molecule_that_is_turned_is_the_same_molecule():
    positions = torch.tensor([[[0.0, 0.0, 0.0], [0.0, 0.0, 1.1]], [[0.0, 0.0, 0.0], [1.1, 0.0, 0.0]]])
    samples = {"positions": positions, "types": torch.tensor([[1, 0], [1, 0]]), "mask": torch.ones(2, 2).bool()}
    assert diversity_of(samples, ["n=2"] * 2) == pytest.approx(1.1 * 2**0.5)
    assert diversity_of(samples, ["n=2"] * 2, MoleculeReference()) == pytest.approx(0, abs=1e-6)


def test_a_batch_without_samples_is_taken():
    """A process that has none still has to gather."""
    metric = Diversity()
    samples = {"boxes": torch.tensor([[[0.0, 0.0]], [[3.0, 4.0]]]), "mask": torch.ones(2, 1).bool()}
    metric.update({name: field[:0] for name, field in samples.items()}, [])
    metric.update(samples, ["a", "a"])
    assert float(metric.compute()) == pytest.approx(5)
