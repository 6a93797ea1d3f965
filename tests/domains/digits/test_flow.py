import pytest
import torch

from graft_lightning.domains.digits import DigitFeatures, DigitFlow, RealDigits
from graft_lightning.domains.digits.flow import real_digits
from graft_lightning.types import SettingsError


def test_the_parts_are_all_digits_and_do_not_meet():
    train, held_out = real_digits("train"), real_digits("held_out")
    assert (len(train), len(held_out)) == (1297, 500)
    assert (float(train.min()), float(train.max())) == (-1, 1)
    distinct = {tuple(digit.flatten().tolist()) for digit in train}
    assert not distinct & {tuple(digit.flatten().tolist()) for digit in held_out}


def test_every_stretch_of_the_stream_is_a_shuffle_of_all():
    examples = RealDigits("held_out")
    first, _ = examples.batch(range(500), seed=3)
    second, texts = examples.batch(range(500, 1000), seed=3)
    assert texts == [""] * 500
    assert not torch.equal(first, second)
    as_set = [
        sorted(tuple(digit.flatten().tolist()) for digit in part) for part in (first, second, real_digits("held_out"))
    ]
    assert as_set[0] == as_set[1] == as_set[2]
    assert torch.equal(examples.batch([700, 2], seed=3)[0], torch.stack([second[200], first[2]]))


def test_noise_belongs_to_the_position():
    clean, noisy = RealDigits(), RealDigits(noise=0.1)
    x = noisy.batch(range(200), seed=0)[0] - clean.batch(range(200), seed=0)[0]
    assert float(x.std()) == pytest.approx(0.1, rel=0.02)
    assert torch.equal(noisy.batch([7], seed=0)[0][0], noisy.batch([5, 7], seed=0)[0][1])


def test_a_gaussian_velocity_lies_in_the_straight_path():
    """Of a Gaussian N(0, U diag(c) U^T) the v-prediction is linear, with gates that depend on time alone."""
    network = DigitFlow(path="trigonometric", straight=True).build(pretrained=False)
    x = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    t = torch.linspace(0.1, 0.9, 5)
    assert torch.equal(network(x, t), torch.zeros_like(x))
    torch.nn.init.constant_(network.gate.bias, 0.7)
    torch.testing.assert_close(network(x, t), 0.7 * x)  # orthogonal in, its transpose out


@pytest.mark.parametrize("straight", [False, True])
def test_weights_come_back_and_belong_to_their_network(tmp_path, straight):
    flow = DigitFlow(weights=str(tmp_path / "flow.safetensors"), straight=straight)
    network = flow.build(pretrained=False)
    flow.save(network, flow.weights_file, {})
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), flow.build().parameters(), strict=True))
    with pytest.raises(SettingsError, match="straight"):
        DigitFlow(weights=flow.weights, straight=not straight).build()


def test_what_a_flow_refuses():
    with pytest.raises(SettingsError, match="weights is not set"):
        DigitFlow().build()
    with pytest.raises(ValueError, match="unconditional"):
        DigitFlow().encode(["a seven"], "cpu")
    with pytest.raises(ValueError, match="path='curved'"):
        DigitFlow(path="curved")


def test_features_have_unit_variance_on_average():
    real = torch.cat([real_digits("train"), real_digits("held_out")])
    assert float(DigitFeatures()((real + 1) / 2).var(0).mean()) == pytest.approx(1, rel=1e-4)
