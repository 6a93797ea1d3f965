"""The worked example of a model of one's own: its network against known answers, its rewards on real digits."""

import re

import pytest
import safetensors.torch
import torch

from experiments.mnist import rewards
from experiments.mnist.model import Network, Pictures
from graft_lightning.rejection.reference import open_views
from graft_lightning.rejection.sampling import sample
from graft_lightning.types import SettingsError

KNOWN = {
    "mnist": {0: (58.555, 0.84956), 500: (58.431, 0.10352), 999: (62.689, 0.34596)},
    "fashion": {0: (-30.981, 0.04401), 500: (32.492, -0.14221), 999: (-12.649, -0.18656)},
}
"""By timestep: sum and value at row 14, column 14 of the original's output for a ramp from -1 to 1."""


@pytest.fixture(scope="session")
def folder(test_data):
    return test_data / "mnist"


@pytest.fixture(scope="session")
def path(folder):
    return str(folder / "digits_10k.npz")


def test_the_network_has_as_many_weights_as_its_file():
    network = Network()
    assert sum(p.numel() for p in network.parameters()) == 606_852
    assert not network.time_embed.weight.requires_grad
    assert Pictures().meta_network().conv_out.weight.is_meta


@pytest.mark.parametrize("name", KNOWN)
def test_the_network_gives_the_answers_of_the_original(folder, name):
    reference = Pictures(str(folder / f"ddpm_{name}.safetensors"))
    network = reference.build()
    ramp = torch.linspace(-1, 1, 784).reshape(1, 1, 28, 28)
    for timestep, (total, middle) in KNOWN[name].items():
        level = torch.tensor([timestep + 1.0], dtype=torch.float64)
        with torch.no_grad():
            found = reference.denoise(network, ramp, level, None)
        assert float(found.sum()) == pytest.approx(total, abs=1e-3)
        assert float(found[0, 0, 14, 14]) == pytest.approx(middle, abs=1e-5)


def test_the_mean_brightness_of_what_it_sees_is_lost():
    """Why a reward of the background cannot be gained: a shift of every pixel changes nothing but rounding."""
    torch.manual_seed(0)
    network = Network()
    network.load_state_dict(
        {n: torch.ones_like(p) if ".ln.weight" in n else p for n, p in network.state_dict().items()}
    )
    x, level = torch.randn(2, 1, 28, 28), torch.tensor([700, 10])
    with torch.no_grad():
        torch.testing.assert_close(network(x + 0.7, level), network(x, level), atol=1e-4, rtol=1e-4)
        assert (network(x.flip(3), level) - network(x, level)).abs().max() > 1e-3


def test_absent_files_are_named_with_where_they_come_from(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"weights=.*README"):
        Pictures(str(tmp_path / "absent.safetensors")).build()
    with pytest.raises(FileNotFoundError, match=r"digits=.*README"):
        rewards.IsOneOf(digits=str(tmp_path / "absent.npz"))(torch.zeros(1, 1, 28, 28), [""])


def test_weights_of_another_network_are_refused_by_name(tmp_path):
    own = Network().state_dict()
    file = tmp_path / "weights.safetensors"
    for tensors, told in (
        ({f"module.{name}": value for name, value in own.items()}, r"weights=.*module\."),
        ({name: value * float("nan") for name, value in own.items()}, r"weights=.*not finite|weights=.*nan"),
    ):
        safetensors.torch.save_file(tensors, file)
        with pytest.raises(SettingsError, match=told):
            Pictures(str(file)).build()
    torch.save(own, file)
    with pytest.raises(SettingsError, match=re.escape(str(file))):
        Pictures(str(file)).build()


def test_halves_of_the_digits_never_meet_and_classifiers_read_the_other(path):
    (one, labels), (other, others) = (rewards.digits(path, half) for half in ("reward", "judge"))
    assert len(one) == len(other) == 5000
    seen = {image.numpy().tobytes() for image in one}
    assert sum(image.numpy().tobytes() in seen for image in other) <= 5  # MNIST itself repeats a few
    read = rewards.classifier(path, "reward")(other).argmax(1)
    assert float((read == others).float().mean()) > 0.95
    assert rewards.IsOneOf(of=[3], clean=False, digits=path)(one[labels == 3][:200], [""] * 200).mean() > 0.95


def test_a_dark_border_is_a_matter_of_the_outermost_pixels():
    images = torch.zeros(4, 1, 28, 28)
    images[1, :, 3:-3, 3:-3] = 1.0
    images[2] = 0.125
    images[3] = 1.0
    assert rewards.border(images).tolist() == pytest.approx([0.0, 0.0, 0.125, 1.0])
    assert rewards.DarkBorder()(images, [""] * 4).tolist() == pytest.approx([1.0, 1.0, 0.5, 0.0])
    with pytest.raises(ValueError, match=r"grey=0; it is a brightness"):
        rewards.DarkBorder(0)


def test_grey_behind_a_digit_is_no_reason_to_misread_it(path):
    images, labels = rewards.digits(path, "judge")
    chosen = images[labels == 4][:100]
    grey = 0.5 + 0.4 * chosen
    torch.testing.assert_close(rewards.without_background(grey), rewards.without_background(chosen), atol=1e-5, rtol=0)
    clean, raw = (rewards.IsOneOf(of=[4], clean=clean, digits=path)(grey, [""] * 100).mean() for clean in (True, False))
    assert clean > 0.9
    assert raw < clean - 0.1
    assert rewards.without_background(torch.full((1, 1, 28, 28), 0.3)).abs().max() == 0


def test_real_digits_are_near_themselves_and_noise_is_not(path):
    distance = rewards.FrechetDistance(path, count=1000)
    own = (rewards.MNISTDigits("reward", path).batch(range(1000), 1)[0] + 1) / 2
    distance.update(own)
    near = float(distance.compute())
    distance.reset()
    distance.update(torch.rand(1000, 1, 28, 28))
    assert float(distance.compute()) > 20 * near


@pytest.mark.slow
def test_most_samples_of_the_stranger_are_digits(folder, path):
    reference = Pictures(str(folder / "ddpm_mnist.safetensors"))
    network = reference.build()
    samples = sample(reference, [""] * 32, 0, open_views(reference, network).frozen)
    assert rewards.LegibleDarkBorder(digits=path).probabilities(samples).amax(1).mean() > 0.6
    assert 0.2 < rewards.DarkBorder()(samples, [""] * 32).mean() < 0.9


def test_rewards_have_names_of_their_own(path):
    assert rewards.IsOneOf().name == "IsOneOf"
    assert rewards.LegibleDarkBorder("judge").name == "LegibleDarkBorderJudge"
    with pytest.raises(ValueError, match=r"of=\[10\]"):
        rewards.IsOneOf(of=[10])
