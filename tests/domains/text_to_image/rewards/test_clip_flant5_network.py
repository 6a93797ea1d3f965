import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from graft_lightning.domains.text_to_image.rewards.clip_flant5_network import load_network, projector, split_weights


@pytest.fixture
def folder(model_folder, tmp_path):
    """A copy of the published layout that may be spoiled."""
    return Path(shutil.copytree(model_folder("clip_flant5"), tmp_path / "model"))


def outputs(network):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(1, 3, 336, 336, generator=generator)
    with torch.no_grad():
        return network.eval()(pixels, [torch.tensor([5, 1])], [torch.tensor([9, 7, 1])], torch.tensor([[4, 1]]))


def test_weights_by_part():
    names = [
        "shared.weight",
        "encoder.block.0.layer.0.layer_norm.weight",
        "decoder.final_layer_norm.weight",
        "lm_head.weight",
        "embed_tokens.weight",
        "encoder.embed_tokens.weight",
        "decoder.embed_tokens.weight",
        "mm_projector.0.weight",
        "mm_projector.2.bias",
        "vision_tower.vision_tower.vision_model.pre_layrnorm.bias",
    ]
    t5, mlp, tower = split_weights({name: torch.tensor(float(number)) for number, name in enumerate(names)})
    assert sorted(t5) == sorted(names[:4])
    assert {name: int(value) for name, value in mlp.items()} == {"0.weight": 7, "2.bias": 8}
    assert {name: int(value) for name, value in tower.items()} == {"vision_model.pre_layrnorm.bias": 9}
    with pytest.raises(ValueError, match=r"'model\.layers\.0' belongs to no part"):
        split_weights({"model.layers.0": torch.zeros(1)})


@pytest.mark.parametrize("kind", ["shards", "torch", "torch shards"])
def test_every_form_of_checkpoint(folder, kind):
    expected = outputs(load_network(str(folder), torch.float32))
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    if kind == "torch":
        torch.save(weights, folder / "pytorch_model.bin")
    else:
        stem = "model-{}.safetensors" if kind == "shards" else "pytorch_model-{}.bin"
        index = "model.safetensors.index.json" if kind == "shards" else "pytorch_model.bin.index.json"
        write = save_file if kind == "shards" else torch.save
        placed = {name: stem.format(number % 3) for number, name in enumerate(names)}
        for shard in set(placed.values()):
            write({name: weights[name] for name in names if placed[name] == shard}, folder / shard)
        (folder / index).write_text(json.dumps({"weight_map": placed}))
    assert torch.equal(outputs(load_network(str(folder), torch.float32)), expected)


def test_the_head_is_not_tied_to_the_embeddings(folder):
    network = load_network(str(folder), torch.float32)
    weights = load_file(folder / "model.safetensors")
    assert torch.equal(network.t5.lm_head.weight, weights["lm_head.weight"])
    assert torch.equal(network.t5.encoder.embed_tokens.weight, weights["shared.weight"])
    assert not torch.equal(weights["lm_head.weight"], weights["shared.weight"])
    assert not network.t5.config.scale_decoder_outputs


def test_an_image_encoder_within_the_checkpoint_wins(folder):
    before = outputs(load_network(str(folder), torch.float32))
    weights = load_file(folder / "model.safetensors")
    inside = load_file(folder / "clip-vit-336" / "model.safetensors")
    inside = {name.removeprefix("vision_model."): tensor * 1.1 for name, tensor in inside.items()}
    weights |= {f"vision_tower.vision_tower.vision_model.{name}": tensor for name, tensor in inside.items()}
    save_file(weights, folder / "model.safetensors")
    network = load_network(str(folder), torch.float32)
    found = dict(network.vision.named_parameters())
    assert all(torch.equal(found[name], tensor) for name, tensor in inside.items())
    assert not torch.allclose(outputs(network), before)


def spoil(folder, change):
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.pop("mm_vision_tower"), "is no CLIP-FlanT5, its config.json has no mm_vision_tower"),
        (lambda config: config.update(num_layers=3), "T5ForConditionalGeneration disagree: {'missing_keys'"),
        (lambda config: config.update(mm_projector_type="linear"), "'linear' is not of the form mlp2x_gelu"),
    ],
)
def test_a_configuration_that_does_not_fit(folder, change, message):
    spoil(folder, change)
    with pytest.raises(ValueError, match=message):
        load_network(str(folder), torch.float32)


def test_no_weights(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds no weights; expected one of model\.safetensors\.index"):
        load_network(str(folder), torch.float32)


def test_projectors():
    two = projector("mlp2x_gelu", 3, 5)
    x = torch.rand(2, 3)
    by_hand = torch.nn.functional.gelu(x @ two[0].weight.T + two[0].bias) @ two[2].weight.T + two[2].bias
    torch.testing.assert_close(two(x), by_hand)
    assert len(projector("mlp1x_gelu", 3, 5)) == 1
