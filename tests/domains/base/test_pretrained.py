"""Networks of diffusers and transformers: loaded whole, or refused with the name of the file."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from graft_lightning.domains.base.loading import ModelUnavailableError
from graft_lightning.domains.base.pretrained import loaded_network, refuse_not_whole
from graft_lightning.domains.images import ImageFlow
from graft_lightning.refusals import DamagedFile, Refusal


def unet():
    import diffusers

    return diffusers.UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 8),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
    )


def text_encoder():
    import transformers

    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    return transformers.CLIPTextModel(transformers.CLIPTextConfig(**sizes, vocab_size=20))


KINDS = {
    "diffusers": (unet, {}),
    "diffusers, all memory": (unet, {"low_cpu_mem_usage": False}),
    "transformers": (text_encoder, {}),
}
CHANGES = {
    "missing": ("no weights for", lambda state, name: {k: v for k, v in state.items() if k != name}),
    "unexpected": ("extra and 0 more, which it lacks", lambda state, name: {**state, "extra": torch.zeros(1)}),
    "prefixed": ("no weights for", lambda state, name: {f"module.{k}": v for k, v in state.items()}),
    "misshapen": ("shape|does not fit", lambda state, name: {**state, name: torch.zeros(3)}),
    "nan": ("not finite", lambda state, name: {**state, name: torch.full_like(state[name], torch.nan)}),
    "infinite": ("not finite", lambda state, name: {**state, name: torch.full_like(state[name], -torch.inf)}),
}


@pytest.fixture(params=KINDS)
def saved(request, tmp_path):
    """A folder that was written by save_pretrained, its class, and how it is loaded."""
    make, options = KINDS[request.param]
    network = make()
    network.save_pretrained(tmp_path / "model")
    return tmp_path / "model", network, options


def load(folder, network, options, **more):
    return loaded_network(type(network).from_pretrained, str(folder), "who asks", **options, **more)


def test_what_was_saved_is_loaded(saved):
    folder, network, options = saved
    state = load(folder, network, options).state_dict()
    for name, value in network.state_dict().items():
        assert torch.equal(state[name], value)
    load(folder.parent, network, options, part="model")


@pytest.mark.parametrize("change", CHANGES)
def test_weights_that_do_not_fit(saved, change):
    folder, network, options = saved
    (file,) = folder.glob("*.safetensors")
    state, (message, changed) = load_file(file), CHANGES[change]
    name = min(state)
    save_file(changed(state, name), file, {"format": "pt"})
    with pytest.raises(Refusal, match=message) as refused:
        load(folder, network, options)
    assert file.name in str(refused.value)
    assert name in str(refused.value) or change in ("unexpected", "prefixed")
    assert "who asks" in str(refused.value)


@pytest.mark.parametrize("size", [0, 1, 100, 1000, -1])
def test_weights_that_are_cut_off(saved, size):
    folder, network, options = saved
    (file,) = folder.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(DamagedFile, match=file.name):
        load(folder, network, options)


def test_a_file_may_hold_other_networks_where_that_is_said(saved):
    folder, network, options = saved
    (file,) = folder.glob("*.safetensors")
    save_file({**load_file(file), "another.weight": torch.zeros(1)}, file, {"format": "pt"})
    load(folder, network, options, shared=True)
    with pytest.raises(ModelUnavailableError, match=r"another\.weight"):
        load(folder, network, options)


def test_buffers_of_older_versions_are_no_weights(tmp_path):
    """transformers kept the numbers 0, 1, ... of its positions among the weights until 4.31."""
    network = text_encoder()
    network.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    save_file({**load_file(file), "embeddings.position_ids": torch.arange(77)[None]}, file, {"format": "pt"})
    load(tmp_path, network, {})


def test_weights_that_were_left_without_values():
    with torch.device("meta"):
        network = torch.nn.Linear(2, 2)
    with pytest.raises(ModelUnavailableError, match="FILE has no weights for bias and 1 more"):
        refuse_not_whole(network, "FILE")


@pytest.fixture
def flow(tmp_path):
    flow = ImageFlow(weights=str(tmp_path / "flow"))
    flow.save(unet(), tmp_path / "flow", {"steps": 1})
    return flow


@pytest.mark.parametrize("change", CHANGES)
def test_a_flow_whose_weights_do_not_fit(flow, change):
    file = flow.weights_file / "diffusion_pytorch_model.safetensors"
    (flow.weights_file / "SHA256SUMS").unlink()  # as of another program
    state = load_file(file)
    save_file(CHANGES[change][1](state, "conv_out.weight"), file, {"format": "pt"})
    with pytest.raises(Refusal, match=file.name):
        flow.build()


def test_a_bit_of_a_flow_that_has_changed(flow):
    flow.build()
    file = flow.weights_file / "diffusion_pytorch_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)
    with pytest.raises(DamagedFile, match=r"diffusion_pytorch_model\.safetensors is damaged"):
        flow.build()
