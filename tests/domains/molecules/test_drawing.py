import pytest
import torch

from graft_lightning.domains.molecules.atoms import padded
from graft_lightning.domains.molecules.drawing import as_tensor, grid, verdict
from graft_lightning.domains.molecules.perception import perceive

VERDICTS = {
    "methane": "stable",
    "methyl": "3/4 stable",
    "methanium": "invalid",
    "two_waters": "stable, in pieces",
    "carbon_monoxide": "invalid",
}


@pytest.mark.parametrize(("name", "expected"), VERDICTS.items())
def test_verdict(name, expected, molecule):
    assert verdict(perceive([molecule(name)])[0]) == expected


def test_grid(molecule):
    """Everything is drawn, the invalid too, and every cell differs from an empty one."""
    samples = padded([molecule(name) for name in VERDICTS])
    image = grid(samples, captions=[f"r = {i}" for i in range(5)], columns=3, side=120)
    assert image.size == (360, 240)
    pixels = as_tensor(image)
    assert (pixels.shape, pixels.dtype) == ((3, 240, 360), torch.uint8)
    dark = (pixels.float().mean(0) < 200).float()
    cells = dark.reshape(2, 120, 3, 120).permute(0, 2, 1, 3).reshape(6, -1).mean(1)
    assert (cells[:5] > 0.003).all()
    assert cells[5] == 0


def test_garbage_is_drawn():
    """What an untrained model gives: atoms in a heap, atoms far apart, atoms nowhere."""
    generator = torch.Generator().manual_seed(0)
    from graft_lightning.domains.molecules.atoms import batch

    positions = torch.randn(6, 9, 3, generator=generator) * torch.tensor([0.1, 0.5, 1, 2, 10, torch.nan])[:, None, None]
    types = torch.randint(5, (6, 9), generator=generator)
    samples = batch(positions, types, torch.ones(6, 9, dtype=torch.bool))
    assert grid(samples).size == (6 * 140, 140)


def test_captions_must_fit(molecule):
    with pytest.raises(ValueError, match="2 captions for 1 molecules"):
        grid(padded([molecule("water")]), captions=["a", "b"])
