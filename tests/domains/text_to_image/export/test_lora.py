"""Exported adapters as other programs read them: every layer, at the strength that was trained."""

import json
import re
import shutil

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from graft_lightning.domains.text_to_image.export import export
from graft_lightning.domains.text_to_image.export.lora import KOHYA_FILE, LORA_FILE
from graft_lightning.processes.noise import Noise
from graft_lightning.rejection.reference import LoRA
from tests.domains.text_to_image.tiny_pipelines import PIPELINES

WIDE = {
    "sd15": ["to_q", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out", "conv1", "conv_shortcut"],
    "sd2": ["to_k", "ff.net.0.proj", "proj_in", "time_emb_proj", "conv_in", "conv_out", "linear_1"],
    "sdxl": ["to_v", "ff.net.2", "proj_out", "conv2", "conv"],
    "sd3": ["to_q", "attn.add_k_proj", "ff.net.0.proj", "ff_context.net.2", "norm1.linear", "proj_out"],
}


@pytest.fixture
def exported(tuned_of, draws, tmp_path):
    """An export of adapters with dropout whose alpha is not their rank, and the fine-tuned network's answer."""

    def make(name, targets=None, **settings):
        lora = LoRA(rank=4, alpha=settings.pop("alpha", 1.0), target_modules=targets, dropout=0.3)
        tuned = tuned_of(name, lora=lora, **{"handoff": 0.0, "scale": 1.0, "moved": 0.2, **settings})
        export(tuned, draws, tmp_path, merge=False)
        return tuned, tmp_path

    return make


def layers_of(network):
    return {name for name, module in network.named_modules() if "lora_A" in module._modules}


def answer(tuned, network):
    reference = tuned.reference
    x_t = Noise(torch.arange(2)).normal(*reference.shape(["", ""]))
    t = torch.full((2,), 0.7 * reference.process.t_max, dtype=torch.float64)
    with torch.no_grad():
        return reference.denoise(network.eval(), x_t, t, reference.encode(["a red cube", "two dogs"], "cpu"))


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("wide", [False, True], ids=["attention", "more"])
@pytest.mark.parametrize("header", [True, False], ids=["header", "no header"])
def test_every_layer_loads_at_its_strength(exported, name, wide, header):
    tuned, folder = exported(name, WIDE[name] if wide else None)
    file = folder / LORA_FILE
    if not header:  # what a reader sees that does not look at it
        save_file(load_file(file), file)
    pipe = getattr(diffusers, tuned.reference.family.pipeline).from_pretrained(tuned.reference.model)
    expected = answer(tuned, tuned.views.network)
    base = answer(tuned, getattr(pipe, tuned.reference.family.network))
    assert (expected - base).abs().max() > 0.01 * expected.abs().max(), "the case is not constructed"
    pipe.load_lora_weights(str(folder), weight_name=LORA_FILE)
    network = getattr(pipe, tuned.reference.family.network)
    assert layers_of(network) == layers_of(tuned.views.network)
    torch.testing.assert_close(answer(tuned, network), expected, rtol=1e-4, atol=1e-4)


def test_nothing_of_training_is_left(exported):
    tuned, folder = exported("sd15", WIDE["sd15"])
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(tuned.reference.model)
    pipe.load_lora_weights(str(folder), weight_name=LORA_FILE)
    config = next(iter(pipe.unet.peft_config.values()))
    assert (config.lora_dropout, config.lora_alpha, config.r) == (0.0, 4, 4)
    torch.testing.assert_close(answer(tuned, pipe.unet), answer(tuned, pipe.unet.train()))  # no dropout in either mode


@pytest.mark.parametrize("name", PIPELINES)
def test_names_and_strength_for_other_programs(exported, name):
    """A1111 and ComfyUI multiply by alpha / rank where there is an alpha, and by 1 elsewhere."""
    tuned, folder = exported(name, WIDE[name], alpha=8.0)
    layers = load_file(folder / LORA_FILE)
    component = tuned.reference.family.network
    assert all(re.fullmatch(rf"{component}\..+\.lora_[AB]\.weight", key) for key in layers)
    deltas = {
        layer: module.get_delta_weight("default")
        for layer, module in tuned.views.network.named_modules()
        if "lora_A" in module._modules
    }
    assert len(layers) == 2 * len(deltas)
    for layer, delta in deltas.items():
        up, down = (layers[f"{component}.{layer}.lora_{matrix}.weight"] for matrix in "BA")
        torch.testing.assert_close(product(up, down), delta, rtol=1e-4, atol=1e-5)
    if component == "transformer":  # ComfyUI reads these under the names above
        assert not (folder / KOHYA_FILE).exists()
        return
    other = load_file(folder / KOHYA_FILE)
    assert len(other) == 3 * len(deltas)
    for layer, delta in deltas.items():
        key = f"lora_unet_{layer.replace('.', '_')}"
        up, down = other[f"{key}.lora_up.weight"], other[f"{key}.lora_down.weight"]
        strength = float(other[f"{key}.alpha"]) / len(down)
        torch.testing.assert_close(strength * product(up, down), delta, rtol=1e-4, atol=1e-5)


def product(up, down):
    return (up.flatten(1) @ down.flatten(1)).reshape(len(up), *down.shape[1:])


def test_a_base_that_was_saved_without_t5(pipeline_folder, exported, tmp_path_factory):
    from tests.domains.text_to_image.export.test_handoff import assert_same

    folder = tmp_path_factory.mktemp("base")
    absent = {"text_encoder_3": None, "tokenizer_3": None}
    diffusers.StableDiffusion3Pipeline.from_pretrained(pipeline_folder("sd3"), **absent).save_pretrained(folder)
    _, out = exported(str(folder), handoff=0.25)
    assert_same(out)


def test_a_base_with_a_variant_of_one_part(pipeline_folder, exported, tmp_path_factory):
    from tests.domains.text_to_image.export.test_handoff import assert_same

    folder = shutil.copytree(pipeline_folder("sd2"), tmp_path_factory.mktemp("base") / "sd2")
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights = {name: 1.1 * value for name, value in load_file(file).items()}
    save_file(weights, file.with_suffix(".fp16.safetensors"), {"format": "pt"})
    _, out = exported(str(folder), handoff=0.25, variant="fp16")
    assert_same(out)


@pytest.mark.parametrize("name", ["sd15", "sdxl", "sd3"])
def test_a_base_whose_index_names_what_is_not_there(pipeline_folder, tuned_of, draws, tmp_path, name):
    """Nothing that a text needs: downloads often go without the parts around a safety checker."""
    from tests.domains.text_to_image.export.test_handoff import assert_same

    folder = shutil.copytree(pipeline_folder(name), tmp_path / "base")
    index = json.loads((folder / "model_index.json").read_text())
    index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    index["image_encoder"] = ["transformers", "CLIPVisionModelWithProjection"]
    if name == "sd15":
        index |= {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    tuned = tuned_of(str(folder), handoff=0.0, scale=1.0)
    assert tuned.reference.left_out == ["feature_extractor", "image_encoder"]
    export(tuned, draws, tmp_path / "export", merge=True)
    assert_same(tmp_path / "export")
    pipe = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "export" / "pipeline")
    assert pipe.feature_extractor is None


@pytest.mark.parametrize("name", ["sd15", "sd3"])
def test_every_layer_is_merged(tuned_of, draws, tmp_path, name):
    lora = LoRA(rank=4, alpha=1.0, target_modules=WIDE[name], dropout=0.3)
    tuned = tuned_of(name, lora=lora, handoff=0.0, scale=1.0, moved=0.2)
    export(tuned, draws, tmp_path, merge=True)
    pipe = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "pipeline")
    network = getattr(pipe, tuned.reference.family.network)
    torch.testing.assert_close(answer(tuned, network), answer(tuned, tuned.views.network), rtol=1e-4, atol=1e-4)
