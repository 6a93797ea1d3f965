"""Networks of diffusers as flows: what they are given, what is stored, and that the frozen flow can be inverted."""

import json

import diffusers
import pytest
import torch

from graft_lightning.domains.base.loading import ModelUnavailableError
from graft_lightning.domains.images import DiffusersNetwork, ImageFlow, NCSNpp
from graft_lightning.inversion.inverted_state import invert_state
from graft_lightning.inversion.round_trip import from_data
from graft_lightning.modules.corrected import steps_of
from graft_lightning.processes.samplers import Euler
from graft_lightning.refusals import Refusal
from graft_lightning.types import SettingsError
from tests.domains.weight_damage import DAMAGE, damage

SMALL = NCSNpp(size=8, width=32, multipliers=(1, 1), blocks=1, attention=(4,))
PLAIN = DiffusersNetwork(
    "UNet2DModel",
    {
        "sample_size": 8,
        "block_out_channels": [32, 32],
        "layers_per_block": 1,
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
        "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    },
)
DIT = DiffusersNetwork(
    "DiTTransformer2DModel",
    {
        "sample_size": 8,
        "in_channels": 3,
        "out_channels": 3,
        "num_layers": 2,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "patch_size": 2,
        "num_embeds_ada_norm": 5,
    },
)
NETWORKS = {"ncsnpp": SMALL, "unet": PLAIN, "transformer": DIT}


def random_network(flow, scale=0.05):
    """Random weights, none of them zero, and gentle."""
    network = flow.build(pretrained=False).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data = scale * torch.randn(parameter.shape, generator=generator)
    return network


def noise(count=4, seed=1):
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=NETWORKS)
def stored(request, tmp_path):
    """A folder written by diffusers itself."""
    network = random_network(ImageFlow(network=NETWORKS[request.param]))
    network.save_pretrained(tmp_path / "flow")
    return request.param, network, tmp_path / "flow"


@torch.no_grad()
def test_the_velocity_is_the_networks_own(stored):
    name, network, folder = stored
    flow = ImageFlow(str(folder))
    t = torch.tensor([0.0, 0.2, 0.7, 1.0])
    found = flow.denoise(flow.build().eval(), noise(), t, flow.encode([""] * 4, "cpu"))
    if name == "ncsnpp":  # a score network: the logarithm of time, and division by it
        time = 1000 * t.clamp_min(1e-3)
        expected = network(noise(), time).sample * time[:, None, None, None]
    elif name == "unet":
        expected = network(noise(), 1000 * t).sample
    else:
        expected = network(noise(), timestep=1000 * t, class_labels=torch.full((4,), 5)).sample
    torch.testing.assert_close(found, expected)
    assert found.std() > 1e-4


@torch.no_grad()
def test_models_of_the_other_convention(stored):
    _, _, folder = stored
    ours, theirs = ImageFlow(str(folder)), ImageFlow(str(folder), time_runs="to_data")
    network, none = ours.build().eval(), ours.encode([""] * 4, "cpu")
    t = torch.tensor([0.1, 0.4, 0.6, 0.9])
    torch.testing.assert_close(theirs.denoise(network, noise(), t, none), -ours.denoise(network, noise(), 1 - t, none))


def test_a_stored_flow_is_inverted_and_comes_back(stored):
    _, _, folder = stored
    flow = ImageFlow(str(folder), sampler=Euler(5))
    network = flow.build().requires_grad_(False).eval()
    steps = steps_of(flow, network, "model.flow")
    x_0 = noise(3, seed=2).clamp(-1, 1)
    found = invert_state(steps, x_0, 0)
    assert found.converged.all()
    assert from_data(steps, found).max() < 1e-4
    assert (found.noise - x_0).abs().max() > 1e-3


@torch.no_grad()
def test_the_null_class_of_a_transformer_is_asked_for_in_training_too(tmp_path):
    flow = ImageFlow(network=DIT)
    network = random_network(flow)
    label = flow.encode([""] * 4, "cpu")
    assert label.tolist() == [5] * 4  # after the classes 0 to 4
    t = torch.full((4,), 0.5)
    still = flow.denoise(network, noise(), t, label)
    torch.testing.assert_close(flow.denoise(network.train(), noise(), t, label), still)
    of_class = ImageFlow(network=DIT, label=2)
    assert not torch.allclose(of_class.denoise(network, noise(), t, of_class.encode([""] * 4, "cpu")), still)


@torch.no_grad()
def test_what_is_saved_is_read_by_us_and_by_diffusers(tmp_path):
    flow = ImageFlow(str(tmp_path / "run" / "flow"), network=SMALL)
    network = random_network(flow)
    flow.save(network, flow.weights_file, {"steps": 3})
    flow.save(network, flow.weights_file, {"steps": 7})  # a second time, over the first
    assert json.loads((flow.weights_file / "training.json").read_text()) == {"steps": 7}
    theirs = diffusers.UNet2DModel.from_pretrained(flow.weights_file).eval()
    expected = network(noise(), torch.full((4,), 300.0)).sample
    torch.testing.assert_close(theirs(noise(), torch.full((4,), 300.0)).sample, expected)
    none, t = flow.encode([""] * 4, "cpu"), torch.full((4,), 0.3)
    wanted = flow.denoise(network, noise(), t, none)
    for reader in (flow, ImageFlow(str(flow.weights_file))):
        torch.testing.assert_close(reader.denoise(reader.build().eval(), noise(), t, none), wanted)
    assert not list(flow.weights_file.parent.glob("*.partial"))


def test_in_the_folder_of_a_pipeline_only_the_network_is_replaced(tmp_path):
    pipeline = tmp_path / "theirs"
    flow = ImageFlow(str(pipeline), network=SMALL, subfolder="unet")
    flow.save(random_network(flow), flow.weights_file, {"steps": 1})
    (pipeline / "vae").mkdir()
    for name in ("model_index.json", "vae/config.json", "unet/old.bin"):
        (pipeline / name).write_text("{}")
    network = random_network(flow, 0.1)
    flow.save(network, flow.weights_file, {"steps": 2})
    files = {str(path.relative_to(pipeline)) for path in pipeline.rglob("*") if path.is_file()}
    assert {"model_index.json", "vae/config.json", "unet/config.json", "unet/training.json"} < files
    assert "unet/old.bin" not in files
    assert not list(tmp_path.rglob("*.partial"))
    for ours, theirs in zip(network.parameters(), flow.build().parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_folder_of_something_else_is_not_replaced(tmp_path):
    flow = ImageFlow(str(tmp_path / "photos"), network=SMALL)
    flow.weights_file.mkdir()
    (flow.weights_file / "cat.png").touch()
    with pytest.raises(SettingsError, match=r"photos is there.* holds no network.*network is in .*photos\.partial"):
        flow.save(random_network(flow), flow.weights_file, {})
    assert [path.name for path in flow.weights_file.iterdir()] == ["cat.png"]
    assert ImageFlow(str(tmp_path / "photos.partial")).build() is not None
    (flow.weights_file / "cat.png").unlink()
    flow.save(random_network(flow), flow.weights_file, {})
    assert (flow.weights_file / "config.json").is_file()


def test_what_changes_the_samples_changes_the_fingerprint():
    network = random_network(ImageFlow(network=DIT))
    base = ImageFlow(network=DIT).fingerprint(network)
    said = {"label": 5, "time_scale": 1000.0, "time_runs": "to_noise", "size": 8}
    assert ImageFlow(network=DIT, **said).fingerprint(network) == base  # the defaults, written out
    for name, other in {"label": 2, "time_scale": 1.0, "time_runs": "to_data", "size": 16}.items():
        found = ImageFlow(network=DIT, **{name: other}).fingerprint(network)
        assert {key for key in base if found[key] != base[key]} == {name}


def test_weights_of_another_network_are_refused(tmp_path):
    flow = ImageFlow(str(tmp_path / "flow"), network=SMALL)
    flow.save(random_network(flow), flow.weights_file, {})
    other = ImageFlow(
        str(flow.weights_file), network=NCSNpp(size=8, width=64, multipliers=(1, 1), blocks=1, attention=(4,))
    )
    with pytest.raises(SettingsError, match=r"block_out_channels: file \[32, 32\], configuration \[64, 64\]"):
        other.build()


@pytest.mark.parametrize("kind", DAMAGE)
def test_weights_that_are_not_all_there_are_refused(tmp_path, kind):
    flow = ImageFlow(str(tmp_path / "flow"), network=SMALL)
    flow.save(random_network(flow), flow.weights_file, {})
    damage(next(tmp_path.rglob("*.safetensors")), kind)
    with pytest.raises(Refusal) as error:
        flow.build()
    assert str(tmp_path / "flow") in str(error.value)


def test_absent_weights_are_explained(tmp_path):
    with pytest.raises(SettingsError, match="weights is not set"):
        ImageFlow().build()
    with pytest.raises(ModelUnavailableError, match=r"setting `weights`.*nowhere"):
        ImageFlow(str(tmp_path / "nowhere")).build()


def test_networks_that_take_more_than_picture_and_time_are_refused():
    with pytest.raises(SettingsError, match="UNet2DConditionModel needs encoder_hidden_states"):
        ImageFlow(network=DiffusersNetwork("UNet2DConditionModel", {"sample_size": 8})).build(pretrained=False)
    with pytest.raises(SettingsError, match="no 'UNet3000'"):
        ImageFlow(network=DiffusersNetwork("UNet3000", {"sample_size": 8})).build(pretrained=False)
    variance = DiffusersNetwork("UNet2DModel", {**PLAIN.arguments, "in_channels": 3, "out_channels": 6})
    with pytest.raises(SettingsError, match="6 channels of 3"):
        ImageFlow(network=variance).build(pretrained=False)
    classes = DiffusersNetwork("UNet2DModel", {**PLAIN.arguments, "num_class_embeds": 4})
    with pytest.raises(SettingsError, match="label is not set"):
        ImageFlow(network=classes).encode([""], "cpu")
    with pytest.raises(SettingsError, match="size is not set"):
        ImageFlow(network=DiffusersNetwork("UNet2DModel", {})).shape([""])


def test_it_is_unconditional():
    with pytest.raises(ValueError, match="'a church'"):
        ImageFlow(network=SMALL).encode(["", "a church"], "cpu")
    assert ImageFlow(network=SMALL).encode(["", ""], "cpu").shape == (2, 0)


CLASSES = DiffusersNetwork("UNet2DModel", {**PLAIN.arguments, "num_class_embeds": 4})


@pytest.mark.parametrize(
    ("network", "label", "said"),
    [
        (CLASSES, 4, "label=4, but the classes of UNet2DModel are 0 to 3"),
        (CLASSES, -1, "label=-1, but the classes of UNet2DModel are 0 to 3"),
        (DIT, 6, "label=6, but the classes of DiTTransformer2DModel are 0 to 4, and 5 for none"),
        (DIT, -1, "label=-1, but the classes of DiTTransformer2DModel are 0 to 4, and 5 for none"),
        (PLAIN, 0, "label=0, but UNet2DModel has no classes; leave label out"),
    ],
)
def test_labels_that_the_network_lacks(network, label, said):
    with pytest.raises(SettingsError, match=said):
        ImageFlow(network=network, label=label).encode([""], "cpu")


@pytest.mark.parametrize(("network", "label"), [(CLASSES, 0), (CLASSES, 3), (DIT, 0), (DIT, 5)])
def test_labels_that_the_network_has(network, label):
    assert ImageFlow(network=network, label=label).encode(["", ""], "cpu").tolist() == [label, label]


@torch.no_grad()
def test_grey_networks_take_grey_images():
    flow = ImageFlow(network=DiffusersNetwork("UNet2DModel", {**PLAIN.arguments, "in_channels": 1, "out_channels": 1}))
    network = random_network(flow)
    t = torch.full((4,), 0.5)
    assert flow.shape([""]) == (1, 8, 8)
    assert flow.denoise(network, noise()[:, :1], t, flow.encode([""] * 4, "cpu")).shape == (4, 1, 8, 8)
    with pytest.raises(SettingsError, match=r"images have 3 channels, .* in_channels is 1; grey .* channels=1"):
        flow.denoise(network, noise(), t, flow.encode([""] * 4, "cpu"))


def test_a_flow_of_ones_own_may_have_other_channels():
    """What it decodes to is a picture; the state need be none."""

    class Latents(ImageFlow):
        def decode(self, x_0):
            return super().decode(x_0[:, :3])

    network = DiffusersNetwork("UNet2DModel", {**PLAIN.arguments, "in_channels": 4, "out_channels": 4})
    assert Latents(network=network).build(pretrained=False).config.in_channels == 4
    with pytest.raises(SettingsError, match="in_channels is 4; images are grey"):
        ImageFlow(network=network).build(pretrained=False)
