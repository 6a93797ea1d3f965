import pytest
import torch

from graft_lightning.domains.digits.network import DigitTransformer, _patches, _picture
from graft_lightning.domains.digits.prompts import encode


def _awake(**arguments: int) -> DigitTransformer:
    """A network whose zero-initialised layers are random, so that its output depends on its input."""
    torch.manual_seed(0)
    network = DigitTransformer(**arguments)
    for layer in (network.modulation, network.modulation_out, network.patch_out):
        torch.nn.init.normal_(layer.weight, std=0.1)
    return network.eval()


def test_the_default_fits_in_two_megabytes() -> None:
    assert 4 * sum(p.numel() for p in DigitTransformer().parameters()) <= 2_000_000


def test_patches_are_cut_and_put_together_again() -> None:
    x = torch.rand(2, 3, 8, 8)
    pieces = _patches(x, 4)
    assert pieces.shape == (2, 4, 48)
    assert torch.equal(pieces[:, 1].reshape(2, 3, 4, 4), x[:, :, :4, 4:])
    assert torch.equal(_picture(pieces, 4, x.shape), x)


def test_output_starts_at_zero_and_every_weight_learns() -> None:
    network = DigitTransformer()
    x, t = torch.randn(3, 1, 16, 16), torch.tensor([0.0, 0.5, 1.0])
    assert torch.equal(network(x, t, encode(["two ones"] * 3)), torch.zeros_like(x))
    network = _awake()
    network(x, t, encode(["two ones", "", "a six above a two"])).square().mean().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_prompt_time_and_picture_all_matter_and_rows_do_not_mix() -> None:
    network = _awake()
    x = torch.randn(1, 1, 16, 16).expand(4, -1, -1, -1).clone()
    x[3] += 1
    t = torch.tensor([0.3, 0.3, 0.8, 0.3])
    tokens = encode(["a six above a two", "a two above a six", "a six above a two", "a six above a two"])
    with torch.no_grad():
        out = network(x, t, tokens)
        alone = network(x[2:3], t[2:3], tokens[2:3])
    for other in (1, 2, 3):
        assert (out[0] - out[other]).abs().max() > 1e-3
    assert torch.allclose(out[2], alone[0], atol=1e-5)


def test_an_unconditional_network_for_single_digits() -> None:
    network = _awake(image_size=8, patch_size=2, width=32, depth=2, vocabulary=0)
    assert network(torch.randn(5, 1, 8, 8), torch.rand(5)).shape == (5, 1, 8, 8)
    assert not any(name.startswith("word") for name, _ in network.named_parameters())


@pytest.mark.parametrize(("arguments", "message"), [({"patch_size": 5}, "patch_size 5"), ({"heads": 5}, "heads 5")])
def test_sizes_that_do_not_divide_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DigitTransformer(**arguments)
