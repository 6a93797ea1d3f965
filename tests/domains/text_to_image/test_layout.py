"""How the network is laid out and called: options that change speed, and the answer by no more than rounding."""

import pytest
import torch

from graft_lightning.domains.text_to_image import DiffusersReference
from graft_lightning.modules import PGraft
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.samplers import DDIM


def answer(reference, network):
    count = 2
    x_t = Noise(torch.arange(count)).normal(*reference.shape(["a"] * count))
    t = torch.full((count,), 0.6 * reference.process.t_max, dtype=torch.float64)
    with torch.no_grad():
        return reference.denoise(network, x_t, t, reference.encode(["a red cube", "two dogs"], "cpu"))


@pytest.mark.parametrize("name", ["sd2", "sd3"])
def test_channels_last_changes_the_layout_alone(pipeline_folder, name):
    usual, other = (
        DiffusersReference(str(pipeline_folder(name)), DDIM(3), 1.0, channels_last=last) for last in (False, True)
    )
    plain, last = usual.build(), other.build()
    convolutions = [module for module in last.modules() if isinstance(module, torch.nn.Conv2d)]
    assert convolutions
    for module in convolutions:
        assert module.weight.is_contiguous(memory_format=torch.channels_last)
    assert all(p.is_contiguous() for p in plain.parameters())
    for name_of, value in plain.state_dict().items():
        assert torch.equal(last.state_dict()[name_of], value)
    torch.testing.assert_close(answer(other, last), answer(usual, plain), rtol=1e-4, atol=1e-4)


def test_weights_with_channels_last_are_saved_as_others_are(pipeline_folder, tmp_path):
    from safetensors.torch import load_file

    reference = DiffusersReference(str(pipeline_folder("sd2")), DDIM(3), channels_last=True)
    network = reference.build()
    reference.save(network, tmp_path / "weights.safetensors", {})
    for name, value in load_file(tmp_path / "weights.safetensors").items():
        assert torch.equal(value, network.state_dict()[name])


@pytest.mark.parametrize("option", [{}, {"compile": False}, {"compile": True}], ids=str)
def test_the_network_is_compiled_where_it_is_asked_for(pipeline_folder, option):
    reference = DiffusersReference(str(pipeline_folder("sd2")), DDIM(4), 1.0, **option)
    module = PGraft(reference=reference, handoff=0.5)
    module.configure_model()
    assert (module.network._compiled_call_impl is not None) is option.get("compile", False)


def test_neither_makes_another_reference_of_it(pipeline_folder):
    """Pools and checkpoints are used with or without."""
    usual, other = (
        DiffusersReference(str(pipeline_folder("sd2")), DDIM(3), compile=on, channels_last=on) for on in (False, True)
    )
    assert usual.fingerprint(usual.build()) == other.fingerprint(other.build())
