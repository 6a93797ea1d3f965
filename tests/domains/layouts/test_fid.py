"""The network of layout FID, its training, and the distance in its features."""

import numpy as np
import pytest
import scipy.linalg
import torch

from graft_lightning.domains.layouts.examples import EmbeddedLayouts
from graft_lightning.domains.layouts.metrics import LayoutFID
from graft_lightning.domains.layouts.metrics import layoutnet_training as training
from graft_lightning.domains.layouts.metrics.layoutnet import LayoutNet, packed, read_published
from graft_lightning.types import SettingsError


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    return EmbeddedLayouts(count=40, cache=str(tmp_path_factory.mktemp("fid")), max_elements=8, part="all")


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return LayoutNet(5, 8).eval()


def test_features_know_neither_padding_nor_order(real, network):
    samples = real.layouts.read(range(6))
    features = network(packed(samples))
    assert features.shape == (6, 256)
    for row in range(6):
        alone = real.layouts[row]
        order = torch.randperm(len(alone["mask"]))
        turned = packed({name: values[order][None] for name, values in alone.items()})
        assert torch.allclose(network(turned)[0], features[row], atol=1e-5)
    assert not torch.allclose(features[0], features[1], atol=1e-2)


def test_training_is_repeatable_learns_and_leaves_torchs_generator_alone(real):
    before = torch.random.get_rng_state()
    settings = training.Training(steps=6, batch_size=8)
    one = training.train(real.layouts, settings, progress=False)
    with torch.inference_mode():
        other = training.train(real.layouts, settings, progress=False)
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
    found = training.in_reading_order(real.layouts.read(range(40)))
    untrained = training.train(real.layouts, training.Training(steps=1, batch_size=1), progress=False)
    torch.manual_seed(1)
    start = training.losses(untrained.eval(), found)
    torch.manual_seed(1)
    assert training.losses(one.eval(), found) < 0.9 * start


def test_reading_order():
    box = torch.tensor([[[0.7, 0.2, 0.1, 0.1], [0.2, 0.2, 0.1, 0.1], [0.5, 0.1, 0.1, 0.1], [0, 0, 0, 0]]])
    samples = {"label": torch.tensor([[0, 1, 2, 0]]), "box": box, "mask": torch.tensor([[True, True, True, False]])}
    found = training.in_reading_order(samples)
    assert found["label"].tolist() == [[2, 1, 0, 0]]
    assert found["mask"].tolist() == [[True, True, True, False]]
    assert torch.equal(found["box"], box[:, [2, 1, 0, 3]])


def test_the_distance_is_that_of_the_features(real, tmp_path):
    cache = tmp_path / "cache"
    metric = LayoutFID(real, steps=2, cache=str(cache), progress=False)
    others = EmbeddedLayouts(count=30, page_seed=3, cache=real.cache, max_elements=6, part="all").layouts
    for start in (0, 20):
        metric.update(others.read(slice(start, start + 20)), ["n=3"] * len(others.read(slice(start, start + 20))))
    assert len(list(cache.glob("layoutnet-*.safetensors"))) == 1
    network = training.trained(real.layouts, training.Training(steps=2), cache, progress=False)
    a, b = (network(packed(x.read(slice(0, 40)))).double().numpy() for x in (others, real.layouts))
    covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert float(metric.compute()) == pytest.approx(expected, rel=1e-3)
    metric.reset()
    metric.update(real.layouts.read(slice(0, 40)))
    assert float(metric.compute()) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(("first", "corners"), [(0, False), (1, True)])
def test_published_weights_fit(tmp_path, first, corners, real):
    torch.manual_seed(1)
    network = LayoutNet(5, 20, first, corners).eval()
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    state["module.enc_transformer.token_mask"] = torch.zeros(1, 1, dtype=torch.bool)
    torch.save(state, tmp_path / "fid.pth.tar")
    samples = packed(real.layouts.read(range(4)))
    again = read_published(str(tmp_path / "fid.pth.tar"), corners, labels=5).eval()
    assert torch.equal(again(samples), network(samples))
    metric = LayoutFID(real, weights=str(tmp_path / "fid.pth.tar"), corners=corners)
    metric.update(real.layouts.read(range(40)))
    assert float(metric.compute()) == pytest.approx(0, abs=1e-3)
    with pytest.raises(SettingsError, match=f"are of {5 + first} labels; the vocabulary has 25"):
        read_published(str(tmp_path / "fid.pth.tar"), corners, labels=25)


def test_other_files_are_no_weights(tmp_path, real):
    with pytest.raises(FileNotFoundError, match=r"weights=.*absent: there is no such file"):
        LayoutFID(real, weights=str(tmp_path / "absent"))
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
    torch.save({"a": LayoutNet}, tmp_path / "code.pt")
    (tmp_path / "text.pt").write_text("no weights")
    (tmp_path / "empty.pt").write_text("")
    for name, problem in (
        ("other", "not of LayoutNet"),
        ("code", "no checkpoint"),
        ("text", "no checkpoint"),
        ("empty", "no checkpoint"),
    ):
        with pytest.raises(SettingsError, match=problem):
            read_published(str(tmp_path / f"{name}.pt"), False, labels=5)
    cut = LayoutNet(5, 8).state_dict()
    cut.pop("fc_bbox.weight")
    torch.save(cut, tmp_path / "cut.pt")
    with pytest.raises(SettingsError, match=r"not of LayoutNet: .*fc_bbox\.weight"):
        read_published(str(tmp_path / "cut.pt"), False, labels=5)
    with pytest.raises(SettingsError, match="steps=0"):
        LayoutFID(real, steps=0)
