"""Floating-point operations by hand, and against the layers of a network that has weights."""

import numpy as np
import pytest
import torch
from torch import nn

from graft_lightning.domains.digits import DigitFlow
from graft_lightning.domains.molecules import MoleculeReference
from graft_lightning.rejection.reference import add_adapter
from graft_lightning.reports.operations import operations
from graft_lightning.reports.trial import pure_noise
from tests.fakes import TinyReference


def test_two_layers():
    assert operations(TinyReference(), "left") == 2 * (6 * 16 + 16 * 2)


@pytest.mark.parametrize("straight", [False, True])
def test_a_transformer_with_its_attention(straight):
    width, tokens, patch, depth, hidden = 8, 16, 4, 2, 16
    products = 4 * width**2 + 2 * width * hidden  # of a token: q, k, v, out; the two layers of the MLP
    attention = 2 * tokens * width  # of a token: its scores, and the mean of the values
    of_tokens = tokens * (2 * patch * width + depth * (products + attention))
    of_time = 64 * width + width**2 + (6 + 2) * width**2
    beside = 3 * 64 * 64 if straight else 0
    flow = DigitFlow(network={"width": width, "depth": depth, "heads": 2}, straight=straight)
    assert operations(flow) == 2 * (of_tokens + of_time + beside)


@pytest.mark.parametrize(
    ("kind", "network"),
    [("egnn", {"layers": 2, "width": 8, "pair_width": 4, "radial": 3}), ("egnn", {"layers": 1, "pair_width": 0})],
)
def test_a_mixed_state(kind, network):
    reference = MoleculeReference(kind=kind, network=network, max_atoms=5)
    built, counted = reference.build(pretrained=False), []
    for layer in built.modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_hook(lambda one, x, y: counted.append(2 * y.numel() * one.in_features))
    x = pure_noise(reference, ["n=3"])
    with torch.no_grad():
        reference.denoise(built, x, torch.ones(1, dtype=torch.float64), reference.encode(["n=3"], "cpu"))
    assert operations(reference, "n=3") == sum(counted) > 0


def test_nothing_is_said_of_a_network_that_reads_its_input():
    class Reads(TinyReference):
        def denoise(self, network, x_t, t, condition):
            return super().denoise(network, x_t, t, condition) * float(t[0])

    assert operations(Reads(), "left") is None


def test_nothing_is_said_where_encoders_are_absent():
    class Absent(TinyReference):
        def encode(self, conditions, device):
            raise FileNotFoundError("no text encoder here")

    assert operations(Absent(), "left") is None


def test_the_network_that_is_given_is_counted():
    from graft_lightning.rejection.reference import LoRA

    reference = TinyReference()
    adapted = add_adapter(reference.meta_network(), LoRA(rank=2), reference.lora_targets)
    assert operations(reference, "left", adapted) == 2 * (6 * 16 + 16 * 2 + 2 * (6 + 16) + 2 * (16 + 2))


def test_a_batch_that_takes_minutes_is_not_tried():
    from graft_lightning.reports.plan import TRIED, _too_much

    assert _too_much({"network": int(TRIED / 8)}, 8) == ""
    assert "10 TFLOP" in _too_much({"flow": int(TRIED / 4), "corrector": None}, 8)
    assert _too_much({}, 8) == ""


def test_a_buffer_that_a_network_makes_on_the_processor_is_no_obstacle():
    class Buffered(TinyReference):
        def build(self, pretrained=True):
            network = super().build(pretrained)
            network.register_buffer("centres", torch.from_numpy(np.linspace(0, 1, 3)))
            return network

        def denoise(self, network, x_t, t, condition):
            return super().denoise(network, x_t, t, condition) + network.centres.sum()

    assert operations(Buffered(), "left") == operations(TinyReference(), "left") > 0
