"""The weights that ship, and what their data card says of them."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open

from graft_lightning.domains.layouts import ElementCounts, LayoutReference
from graft_lightning.domains.layouts.rewards import GoodAlignment, Tidy
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.samplers import DDPM
from graft_lightning.rejection.reference import FrozenDenoiser, open_views
from graft_lightning.types import SettingsError

ROOT = Path(__file__).parents[3]


def sampled(reference, network, texts, seeds):
    return reference.decode(
        reference.sampler.sample(
            FrozenDenoiser(reference, network),
            reference.process,
            reference.encode(texts, "cpu"),
            Noise(torch.tensor(seeds)),
            reference.shape(texts),
            (),
            reference.static_fields(texts, "cpu"),
        ).x_0
    )


def test_the_shipped_weights_are_what_their_configuration_makes():
    config = yaml.safe_load((ROOT / "experiments/layouts/pretrain.yaml").read_text())
    reference = config["model"]["init_args"]["reference"]
    path = LayoutReference().weights_file
    assert path.samefile(ROOT / reference["init_args"].pop("weights"))
    assert path.stat().st_size <= 2_000_000
    LayoutReference(**reference["init_args"]).build()  # refuses weights of another network
    with safe_open(str(path), "pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["provenance"]) == {
        "class": reference["class_path"].rpartition(".")[2],
        "method": {"Pretrain": "pretrained"}[config["model"]["class_path"]],
        "seed": config["seed_everything"],
        "steps": config["trainer"]["max_steps"],
    }


def test_weights_of_other_labels_are_refused():
    for arguments in ({"vocabulary": "rico25"}, {"labels": "absorbing"}, {"network": {"width": 64}}):
        with pytest.raises(SettingsError, match="belong to another network"):
            LayoutReference(**arguments).build()


def test_the_shipped_reference_makes_pages():
    """Its weights fit the default settings, and their samples are what the data card says, roughly."""
    reference = LayoutReference()
    texts = ElementCounts(groups=48).texts()
    found = sampled(reference, reference.build().eval(), texts, range(48))
    assert Tidy()(found, texts).mean() > 0.55  # 0.67 of 256
    assert GoodAlignment()(found, texts).mean() > 0.75  # 0.85
    untrained = sampled(reference, reference.build(pretrained=False).eval(), texts, range(48))
    assert Tidy()(untrained, texts).mean() < 0.4


def test_it_puts_given_labels_where_they_belong():
    """Of a title and four texts the title is the highest element of most pages, whose labels nobody else has chosen."""
    reference = LayoutReference()
    texts = ["n=5 | text | text | text | text | title"] * 24
    found = sampled(reference, reference.build().eval(), texts, range(24))
    assert (found["label"][:, :5] == torch.tensor([0, 0, 0, 0, 1])).all()
    assert (found["box"][:, 4, 3] < found["box"][:, :4, 3].mean(1)).float().mean() > 0.9  # titles are flat
    assert (found["box"][:, 4, 1] < found["box"][:, :4, 1].mean(1)).float().mean() > 0.6


def test_a_sample_depends_on_its_own_seed_alone():
    reference = LayoutReference()
    network = reference.build().eval()
    together = sampled(reference, network, ["n=5", "n=8", "n=3"], [1, 2, 3])
    alone = sampled(reference, network, ["n=8"], [2])
    torch.testing.assert_close(together["box"][1:2], alone["box"], atol=1e-4, rtol=0)
    assert torch.equal(together["label"][1:2], alone["label"])


def test_levels_that_are_never_trained_are_refused():
    """Every level alike, and fields one after the other: the pairs of levels would be new to the network."""
    reference = LayoutReference(network={"width": 8, "layers": 1}, train_steps=0)
    with pytest.raises(SettingsError, match=r"Interleaved asks.*'box': 1.0, 'label': 0.9.*UniformTime never"):
        open_views(reference, reference.build(pretrained=False))
    factorised = LayoutReference(sampler=DDPM(5), network={"width": 8, "layers": 1}, train_steps=0)
    open_views(factorised, factorised.build(pretrained=False))
