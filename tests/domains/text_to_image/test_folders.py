"""Folders as they are published: variants, parts that are absent, networks and VAEs of other kinds."""

import json
import shutil

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from graft_lightning.domains.base.loading import ModelUnavailableError
from graft_lightning.domains.text_to_image import DiffusersReference
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.samplers import DDIM, Euler
from graft_lightning.refusals import Refusal
from graft_lightning.rejection.reference import open_views
from graft_lightning.types import SettingsError
from tests.domains.text_to_image.test_parity import SEEDS, TEXTS, assert_equal, ours
from tests.domains.weight_damage import DAMAGE, damage

WEIGHTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}


@pytest.fixture
def copy_of(pipeline_folder, tmp_path):
    def make(name):
        return shutil.copytree(pipeline_folder(name), tmp_path / name)

    return make


def changed(folder, part, **values):
    file = folder / part / ("model_index.json" if not part else "config.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def with_variant(folder, part, factor=2.0, alone=False):
    """Other weights of a part under the variant's name."""
    file = folder / part / f"{WEIGHTS[part]}.safetensors"
    weights = {name: factor * value for name, value in load_file(file).items()}
    save_file(weights, file.with_suffix(".fp16.safetensors"), {"format": "pt"})
    if alone:
        file.unlink()


# ---- damage


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("part", WEIGHTS)
def test_weights_that_are_not_all_there_are_refused(copy_of, part, kind):
    folder = copy_of("sd2")
    damage(folder / part / f"{WEIGHTS[part]}.safetensors", kind)
    reference = DiffusersReference(str(folder), DDIM(3), text_cache=str(folder / "texts"))
    use = {"unet": reference.build, "vae": lambda: reference._vae}.get(part, lambda: reference.encode(["a cat"], "cpu"))
    with pytest.raises(Refusal) as error:
        use()
    assert str(folder) in str(error.value)
    assert part in str(error.value)


# ---- variants


@pytest.mark.parametrize("part", WEIGHTS)
def test_a_variant_is_another_model(copy_of, part):
    folder = copy_of("sd15")
    with_variant(folder, part)
    usual, variant = (DiffusersReference(str(folder), DDIM(3), variant=name) for name in (None, "fp16"))
    assert usual.fingerprint(None) != variant.fingerprint(None)
    assert (usual._store.model != variant._store.model) == (part == "text_encoder")
    one, other = (
        {"unet": lambda r: r.build().conv_in.weight, "vae": lambda r: r._vae.decoder.conv_in.weight}.get(
            part, lambda r: r.encode(["a cat"], "cpu")["prompt"]
        )(reference)
        for reference in (usual, variant)
    )
    assert not torch.allclose(one, other)
    if part != "text_encoder":
        torch.testing.assert_close(other, 2 * one)


def test_encoded_texts_of_a_variant_are_kept_apart(copy_of, tmp_path):
    folder = copy_of("sd15")
    with_variant(folder, "text_encoder")
    prompts = [
        DiffusersReference(str(folder), variant=name, text_cache=str(tmp_path / "texts")).encode(["a cat"], "cpu")
        for name in (None, "fp16", None)
    ]
    assert not torch.allclose(prompts[0]["prompt"], prompts[1]["prompt"])
    assert torch.equal(prompts[0]["prompt"], prompts[2]["prompt"])


def test_parts_without_the_variant_are_taken_as_they_are(copy_of):
    """Only the U-Net has it; the images are those of the plain pipeline."""
    folder = copy_of("sdxl")
    with_variant(folder, "unet", 1.1)
    reference = DiffusersReference(str(folder), DDIM(4), 2.0, variant="fp16")
    pipeline = diffusers.StableDiffusionXLPipeline.from_pretrained(folder, variant="fp16")
    pipeline.scheduler = diffusers.DDIMScheduler.from_config(pipeline.scheduler.config)
    expected = pipeline(
        TEXTS,
        num_inference_steps=4,
        guidance_scale=2.0,
        latents=Noise(SEEDS).normal(*reference.shape(TEXTS)),
        output_type="pt",
    ).images
    torch.testing.assert_close(reference.decode(ours(reference)), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("part", WEIGHTS)
def test_a_folder_with_one_variant_alone_says_which(copy_of, part):
    folder = copy_of("sd15")
    with_variant(folder, part, alone=True)
    reference = DiffusersReference(str(folder), DDIM(3))
    with pytest.raises(ModelUnavailableError, match=f"{part} as fp16 alone; set variant: fp16"):
        reference.fingerprint(None)
    with pytest.raises(ModelUnavailableError, match="set variant: fp16"):
        (reference.build(), reference._vae, reference.encode(["a"], "cpu"))
    assert DiffusersReference(str(folder), DDIM(3), variant="fp16").encode(["a"], "cpu")["prompt"].isfinite().all()


@pytest.mark.parametrize(
    "name", ["diffusion_pytorch_model.fp16-00001-of-00002", "diffusion_pytorch_model-00001-of-00002.fp16"]
)
def test_shards_of_a_variant_are_seen(copy_of, name):
    folder = copy_of("sd15")
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.rename(file.with_name(f"{name}.safetensors"))
    with pytest.raises(ModelUnavailableError, match="set variant: fp16"):
        DiffusersReference(str(folder)).build()


def test_a_variant_that_nothing_has_is_named_with_those_that_are(copy_of):
    folder = copy_of("sd15")
    with pytest.raises(SettingsError, match=r"variant='fp61': no part of .*; leave variant out"):
        DiffusersReference(str(folder), variant="fp61").build()
    with_variant(folder, "unet")
    with pytest.raises(SettingsError, match=r"variant='fp61': .*; set variant: fp16"):
        DiffusersReference(str(folder), variant="fp61").fingerprint(None)


def test_files_of_every_variant_are_counted_once(copy_of):
    """Downloads hold each part in several variants, and for other programs."""
    folder = copy_of("sd15")
    needed = DiffusersReference(str(folder)).beside_bytes()
    for part in ("vae", "text_encoder"):
        with_variant(folder, part)
        shards = load_file(folder / part / f"{WEIGHTS[part]}.safetensors")
        save_file(shards, folder / part / f"{WEIGHTS[part]}-00001-of-00001.safetensors", {"format": "pt"})
        save_file({"other": torch.zeros(9)}, folder / part / "openvino.safetensors")
    for variant in (None, "fp16"):
        assert DiffusersReference(str(folder), variant=variant).beside_bytes() == needed


def test_weights_for_other_programs_are_none(copy_of):
    folder = copy_of("sd15")
    with_variant(folder, "unet", alone=True)
    (folder / "unet" / "openvino_model.bin").write_bytes(b"other")
    save_file({"other": torch.zeros(1)}, folder / "unet" / "pytorch_lora_weights.safetensors")
    with pytest.raises(ModelUnavailableError, match="unet as fp16 alone; set variant: fp16"):
        DiffusersReference(str(folder)).build()


# ---- configurations of other releases and forks


@pytest.mark.parametrize(
    ("name", "part", "values", "absent"),
    [
        ("sd15", "unet", {"key_of_a_fork": 3}, ()),
        ("sd3", "transformer", {"key_of_a_fork": 3}, ()),
        ("sd15", "unet", {"cross_attention_dim": [32, 32]}, ("in_channels", "out_channels")),
        ("sd3", "transformer", {}, ("patch_size",)),
        ("sd15", "vae", {"key_of_a_fork": 3}, ("latent_channels", "force_upcast", "scaling_factor")),
    ],
    ids=str,
)
def test_keys_that_are_unknown_or_left_out(copy_of, name, part, values, absent):
    """All that is known of the model without its weights is as before, and so are its samples."""
    folder = copy_of(name)
    sampler = Euler(3) if name == "sd3" else DDIM(3)
    usual = DiffusersReference(str(folder), sampler, 2.0)
    expected, image = ours(usual), usual.decode(torch.ones(1, *usual.shape([""])))
    changed(folder, part, **values)
    file = folder / part / "config.json"
    file.write_text(json.dumps({key: made for key, made in json.loads(file.read_text()).items() if key not in absent}))
    found = DiffusersReference(str(folder), sampler, 2.0)
    assert found.shape(TEXTS) == usual.shape(TEXTS)
    assert found.blank(TEXTS)["prompt"].shape == usual.blank(TEXTS)["prompt"].shape
    for reference in (found, usual):
        assert sum(p.numel() for p in reference.meta_network().parameters()) > 0
    torch.testing.assert_close(ours(found), expected)
    torch.testing.assert_close(found.decode(torch.ones(1, *found.shape([""]))), image)
    if name == "sd3":
        with pytest.raises(SettingsError, match="must be multiples of 4"):
            _ = DiffusersReference(str(folder), height=18).size


@pytest.mark.parametrize("side", [[8], [8, 8, 8], 8.0, "8", ["8", "8"]])
def test_a_side_that_is_none(copy_of, side):
    folder = copy_of("sd15")
    changed(folder, "unet", sample_size=side)
    with pytest.raises(SettingsError, match="has sample_size="):
        _ = DiffusersReference(str(folder)).size


def test_images_larger_than_a_transformer_has_places_for(pipeline_folder):
    folder = str(pipeline_folder("sd3"))
    assert DiffusersReference(folder, height=64, width=16).size == (64, 16)
    with pytest.raises(SettingsError, match=r"height=68 and width=16: .* up to 64 pixels .*pos_embed_max_size=16"):
        _ = DiffusersReference(folder, height=68, width=16).size


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"text_encoder": ["my_module", "MyTextModel"]}, "my_module"),
        ({"text_encoder": ["transformers", "NoSuchModel"]}, "NoSuchModel"),
        ({"tokenizer": ["transformers", "NoSuchTokenizer"]}, "NoSuchTokenizer"),
    ],
    ids=str,
)
def test_an_index_with_classes_that_are_not_there(copy_of, changes, said):
    folder = copy_of("sd15")
    changed(folder, "", **changes)
    with pytest.raises(ModelUnavailableError, match=f"cannot be read as a StableDiffusionPipeline .*{said}"):
        DiffusersReference(str(folder)).encode(["a"], "cpu")


def test_a_network_that_was_saved_with_its_adapters(copy_of):
    from peft import LoraConfig

    folder = copy_of("sd15")
    network = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet")
    network.add_adapter(LoraConfig(r=2, target_modules=["to_q"]))
    network.save_pretrained(folder / "unet")
    with pytest.raises(ModelUnavailableError, match=r"was saved with LoRA adapters in place; .*fuse_lora"):
        DiffusersReference(str(folder)).build()


# ---- decoding


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("sdxl", {"latents_mean": [0.3, -0.2, 0.1, 0.5], "latents_std": [0.9, 1.3, 0.7, 1.1]}),
        ("sdxl", {"latents_mean": [0.3, -0.2, 0.1, 0.5]}),
        ("sd2", {"latents_mean": [0.3, -0.2, 0.1, 0.5], "latents_std": [0.9, 1.3, 0.7, 1.1]}),
        ("sd2", {"shift_factor": 0.7, "scaling_factor": 0.3}),
        ("sd3", {"shift_factor": 0.7, "scaling_factor": 0.9}),
        ("sd3", {"latents_mean": [0.3] * 8, "latents_std": [0.9] * 8}),
    ],
    ids=["sdxl", "sdxl without deviations", "sd2", "sd2 shifted", "sd3 shifted", "sd3"],
)
def test_latents_are_decoded_as_the_pipeline_does(copy_of, name, values):
    folder = copy_of(name)
    changed(folder, "vae", **values)
    reference = DiffusersReference(str(folder), Euler(3) if name == "sd3" else DDIM(3), 1.0)
    pipeline = getattr(diffusers, reference.family.pipeline).from_pretrained(folder)
    last = {}

    def note(pipe, step, timestep, kwargs):
        last["latents"] = kwargs["latents"]
        return kwargs

    expected = pipeline(TEXTS, num_inference_steps=3, output_type="pt", callback_on_step_end=note).images
    torch.testing.assert_close(reference.decode(last["latents"]), expected, rtol=0, atol=1e-5)


def test_a_vae_that_does_not_overflow_decodes_in_half_precision(copy_of):
    folder = copy_of("sdxl")
    changed(folder, "vae", force_upcast=False)
    assert DiffusersReference(str(folder), dtype="fp16")._vae.dtype == torch.float16


# ---- parts that are absent


NO_T5 = {"text_encoder_3": None, "tokenizer_3": None}


def test_a_pipeline_that_was_saved_without_t5(pipeline_folder, tmp_path):
    folder = tmp_path / "sd3"
    diffusers.StableDiffusion3Pipeline.from_pretrained(pipeline_folder("sd3"), **NO_T5).save_pretrained(folder)
    reference = DiffusersReference(str(folder), Euler(4), 2.0)
    pipeline = diffusers.StableDiffusion3Pipeline.from_pretrained(folder, **NO_T5)
    expected = pipeline(
        TEXTS,
        num_inference_steps=4,
        guidance_scale=2.0,
        latents=Noise(SEEDS).normal(*reference.shape(TEXTS)),
        output_type="latent",
    ).images
    assert_equal(ours(reference), expected)
    whole = DiffusersReference(str(pipeline_folder("sd3")), Euler(4), 2.0)
    assert reference.absent == ["tokenizer_3", "text_encoder_3"]
    assert whole.absent == []
    assert reference._store.model != whole._store.model
    blank = reference.blank(TEXTS)
    assert blank["prompt"].shape == reference.encode(TEXTS, "cpu")["prompt"].shape


def test_t5_that_the_index_does_not_name(copy_of, pipeline_folder):
    folder = copy_of("sd3")
    index = json.loads((folder / "model_index.json").read_text())
    kept = {name: made for name, made in index.items() if name not in NO_T5}
    (folder / "model_index.json").write_text(json.dumps(kept))
    for part in NO_T5:
        shutil.rmtree(folder / part)
    reference = DiffusersReference(str(folder), Euler(4), 2.0)
    assert reference.absent == ["tokenizer_3", "text_encoder_3"]
    without = DiffusersReference(str(pipeline_folder("sd3")), Euler(4), 2.0, without=list(NO_T5))
    for name, values in reference.encode(TEXTS, "cpu").items():
        torch.testing.assert_close(values, without.encode(TEXTS, "cpu")[name])


def test_an_encoder_without_its_tokenizer_is_named(copy_of, pipeline_folder):
    folder = copy_of("sd3")
    file = folder / "model_index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"tokenizer_3": [None, None]}))
    for reference in (
        DiffusersReference(str(folder)),
        DiffusersReference(str(pipeline_folder("sd3")), without=["tokenizer_3"]),
    ):
        with pytest.raises(SettingsError, match="text_encoder_3 has no tokenizer_3; name text_encoder_3 in without"):
            reference.encode(["a"], "cpu")
    assert len(DiffusersReference(str(folder), without=["text_encoder_3"]).encode(["a"], "cpu")) == 1


def test_t5_that_was_not_fetched(copy_of, pipeline_folder):
    """Its files are most of a download, and are often left out of it; the index still names them."""
    folder = copy_of("sd3")
    shutil.rmtree(folder / "text_encoder_3")
    with pytest.raises(SettingsError, match=r"names text_encoder_3, .* name tokenizer_3 and text_encoder_3 in without"):
        DiffusersReference(str(folder)).encode(["a"], "cpu")
    found, whole = (DiffusersReference(str(model), without=list(NO_T5)) for model in (folder, pipeline_folder("sd3")))
    torch.testing.assert_close(found.encode(["a"], "cpu")["prompt"], whole.encode(["a"], "cpu")["prompt"])


def test_parts_that_cannot_be_absent(copy_of):
    with pytest.raises(SettingsError, match=r"without names text_encoder; .* text_encoder_3"):
        _ = DiffusersReference(str(copy_of("sd3")), without=["text_encoder"]).process
    folder = copy_of("sd15")
    shutil.rmtree(folder / "tokenizer")
    with pytest.raises(ModelUnavailableError, match=r"has no part 'tokenizer'$"):
        DiffusersReference(str(folder)).encode(["a"], "cpu")
    file = folder / "model_index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"text_encoder": [None, None]}))
    with pytest.raises(SettingsError, match=r"model_index\.json has no text_encoder"):
        DiffusersReference(str(folder)).encode(["a"], "cpu")


# ---- networks of other kinds


@pytest.mark.parametrize(
    ("name", "part", "values", "said"),
    [
        ("sd15", "unet", {"time_cond_proj_dim": 256}, "time_cond_proj_dim=256"),
        ("sdxl", "unet", {"time_cond_proj_dim": 8}, "time_cond_proj_dim=8"),
        ("sd15", "unet", {"class_embed_type": "timestep"}, "class_embed_type='timestep'"),
        ("sd15", "unet", {"num_class_embeds": 10}, "num_class_embeds=10"),
        ("sd15", "unet", {"encoder_hid_dim_type": "text_proj"}, "encoder_hid_dim_type='text_proj'"),
        ("sd15", "unet", {"addition_embed_type": "text"}, "addition_embed_type='text'"),
        ("sdxl", "unet", {"addition_embed_type": None}, "addition_embed_type=None"),
        ("sd15", "unet", {"in_channels": 9}, "in_channels=9"),
        ("sd15", "unet", {"quantization_config": {"quant_method": "bitsandbytes"}}, "quantization_config='bits"),
        ("sd2", "unet", {"out_channels": 8}, "out_channels=8"),
        ("sd3", "transformer", {"in_channels": 33}, "in_channels=33"),
        ("sd15", "vae", {"_class_name": "AutoencoderTiny"}, "vae='AutoencoderTiny'"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_network_that_is_called_otherwise_is_refused(copy_of, name, part, values, said):
    folder = copy_of(name)
    changed(folder, part, **values)
    with pytest.raises(SettingsError, match=said):
        _ = DiffusersReference(str(folder)).process


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("sd15", {"sample_size": 32, "_diffusers_version": "0.8.1"}),
        ("sd15", {"sample_size": 32, "_diffusers_version": "0.9.0"}),
        ("sd15", {"sample_size": 96, "_diffusers_version": "0.6.0"}),
        ("sd15", {"sample_size": [16, 24], "_diffusers_version": "0.6.0"}),
        ("sdxl", {"sample_size": 16, "_diffusers_version": "0.8.1"}),
    ],
    ids=str,
)
def test_the_side_is_that_of_the_pipeline(copy_of, name, values):
    folder = copy_of(name)
    changed(folder, "unet", **values)
    reference = DiffusersReference(str(folder), DDIM(1))
    pipeline = getattr(diffusers, reference.family.pipeline).from_pretrained(folder)
    latents = pipeline(TEXTS[:1], num_inference_steps=1, guidance_scale=1.0, output_type="latent").images
    assert tuple(latents.shape[1:]) == reference.shape(TEXTS)


def test_a_network_that_says_no_side_needs_one(copy_of):
    folder = copy_of("sd15")
    changed(folder, "unet", sample_size=None)
    with pytest.raises(SettingsError, match="set height and width"):
        _ = DiffusersReference(str(folder)).size
    assert DiffusersReference(str(folder), height=16, width=24).size == (16, 24)


# ---- the empty prompt


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("name", ["sd2", "sdxl", "sd3"])
def test_the_empty_prompt_is_a_prompt(pipeline_folder, name, scale):
    reference = DiffusersReference(str(pipeline_folder(name)), DDIM(4), scale)
    pipeline = getattr(diffusers, reference.family.pipeline).from_pretrained(pipeline_folder(name))
    texts = ["", "a red cube"]
    extra = {"prompt_3": texts} if name == "sd3" else {}
    more = {"prompt_2": texts} if name != "sd2" else {}
    with torch.no_grad():
        expected = pipeline.encode_prompt(
            prompt=texts, **more, **extra, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False
        )
    found = reference.encode(texts, "cpu")
    torch.testing.assert_close(found["prompt"], expected[0])
    if name != "sd2":
        torch.testing.assert_close(found["pooled"], expected[2])
    assert found["prompt"][0].abs().sum() > 0


def test_the_empty_prompt_alone(pipeline_folder):
    """It is sampled as the first of several, though SDXL's null condition is zero and not the empty prompt."""
    guided = DiffusersReference(str(pipeline_folder("sdxl")), DDIM(4), 3.0)
    views = open_views(guided, guided.build())

    def sampled(texts):
        condition, seeds = guided.encode(texts, "cpu"), Noise(torch.tensor([7, 8])[: len(texts)])
        return guided.sampler.sample(views.frozen, guided.process, condition, seeds, guided.shape(texts)).x_0

    torch.testing.assert_close(sampled([""]), sampled(["", "a"])[:1], rtol=1e-3, atol=1e-3)
    assert (guided.null("cpu")["prompt"] == 0).all()
    assert (guided.encode([""], "cpu")["prompt"] != 0).any()
