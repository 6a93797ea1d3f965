import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from graft_lightning.domains.images import ImageFlow, NCSNpp


@pytest.mark.parametrize(("width", "weights", "gigaflops"), [(128, 65_574_549, 533.4), (64, 16_431_957, 134.1)])
def test_the_networks_of_the_paper(width, weights, gigaflops):
    """65 M and 16 M weights; at 256 x 256 the operations that score_sde's own network has."""
    flow = ImageFlow(network=NCSNpp(width=width))
    network = flow.meta_network()
    assert sum(p.numel() for p in network.parameters()) == weights
    x = torch.zeros(1, *flow.shape([""]), device="meta")
    with FlopCounterMode(display=False) as counter:
        output = flow.denoise(network, x, torch.ones(1, device="meta"), flow.encode([""], "meta"))
    assert output.shape == (1, 3, 256, 256)
    assert counter.get_total_flops() / 1e9 == pytest.approx(gigaflops, abs=0.05)


def test_it_starts_as_nothing_and_all_of_it_learns():
    flow = ImageFlow(network=NCSNpp(size=8, width=32, multipliers=(1, 2), blocks=1, attention=(4,)))
    network = flow.build(pretrained=False)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    x, target = torch.randn(2, 8, 3, 8, 8, generator=generator)
    t = torch.rand(8, generator=generator)
    assert torch.equal(flow.denoise(network, x, t, flow.encode([""] * 8, "cpu")), torch.zeros_like(x))
    before = [parameter.detach().clone() for parameter in network.parameters()]
    for _ in range(4):  # what stands before a zero waits until it has moved
        optimiser.zero_grad()
        (flow.denoise(network, x, t, flow.encode([""] * 8, "cpu")) - target).square().mean().backward()
        optimiser.step()
    frozen = [name for (name, p), old in zip(network.named_parameters(), before, strict=True) if torch.equal(p, old)]
    assert frozen == ["time_proj.weight"]  # the random frequencies, constants by design


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"width": 48}, "width=48"),
        ({"size": 100}, "size=100 cannot be halved 6 times"),
        ({"attention": [10]}, "no level has size 10"),
    ],
    ids=["width", "size", "attention"],
)
def test_what_cannot_be_built_is_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        NCSNpp(**settings)
