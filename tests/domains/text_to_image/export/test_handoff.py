"""A plain pipeline with the exported weights and script samples as the stitched model does."""

import importlib.util
import json

import diffusers
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from graft_lightning.domains.text_to_image.export import export
from graft_lightning.processes.grids import Uniform
from graft_lightning.processes.samplers import DDIM, DDPM, Heun
from graft_lightning.rejection.reference import LoRA
from graft_lightning.types import SettingsError
from tests.domains.text_to_image.export.conftest import PROMPTS
from tests.domains.text_to_image.tiny_pipelines import PIPELINES


def script_of(folder):
    spec = importlib.util.spec_from_file_location("exported_handoff", folder / "handoff.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def piped(folder, prompts=PROMPTS, **changes):
    """Latents of the plain pipeline from the run's noise, with and then without the fine-tuned model."""
    script = script_of(folder)
    pipe = script.load_pipeline(folder)
    pipe.set_progress_bar_config(disable=True)
    handoff = script.Handoff(pipe, folder)
    noise = load_file(folder / "verify.safetensors")["noise"]
    arguments = {**handoff.arguments, "latents": noise, "output_type": "latent", **changes}
    tuned = pipe(prompts, **arguments).images
    again = pipe(prompts, **arguments).images
    assert torch.equal(tuned, again), "the second call must not start where the first one ended"
    handoff.remove()
    return tuned, pipe(prompts, **{**arguments, "callback_on_step_end": None}).images


def assert_same(folder, rtol=1e-4, **changes):
    run = load_file(folder / "verify.safetensors")
    tuned, base = piped(folder, **changes)
    size = run["latents"].std()
    assert (tuned - run["latents"]).abs().max() < rtol * size
    assert (base - run["base_latents"]).abs().max() < rtol * size
    effect = (run["latents"] - run["base_latents"]).abs().max()
    assert effect > 0.05 * size, "the case is not constructed"


@pytest.mark.parametrize("name", PIPELINES)
def test_adapters_with_composed_guidance(tuned_of, draws, tmp_path, name):
    export(tuned_of(name), draws, tmp_path)
    assert_same(tmp_path)


@pytest.mark.parametrize(
    "settings",
    [
        {"guidance": "absorbed"},
        {"scale": 1.0},
        {"reverse": True},
        {"handoff": 0.0},
        {"handoff": 0.75},
        {"lora": None},
        {"lora": None, "guidance": "absorbed"},
        {"lora": None, "handoff": 0.0},
        {"sampler": DDPM(8)},
        {"height": 32, "width": 16},
    ],
    ids=["absorbed", "unguided", "reverse", "graft", "late", "full", "full-absorbed", "full-graft", "ddpm", "oblong"],
)
def test_whatever_the_method(tuned_of, draws, tmp_path, settings):
    export(tuned_of("sd2", **settings), draws, tmp_path)
    assert_same(tmp_path)


@pytest.mark.parametrize("settings", [{"lora": None}, {"handoff": 0.0}, {"scale": 1.0, "lora": None}], ids=str)
def test_a_flow_too(tuned_of, draws, tmp_path, settings):
    export(tuned_of("sd3", **settings), draws, tmp_path)
    assert_same(tmp_path)


def test_the_adapter_alone_is_not_composed_guidance(tuned_of, draws, tmp_path):
    """Why the callback needs the wrapper: without it both halves of a step are the fine-tuned model's."""
    export(tuned_of("sd15"), draws, tmp_path)
    run = load_file(tmp_path / "verify.safetensors")
    script = script_of(tmp_path)
    pipe = script.load_pipeline(tmp_path)
    handoff = script.Handoff(pipe, tmp_path)
    pipe.unet.forward = handoff.base_forward
    arguments = {**handoff.arguments, "latents": run["noise"], "output_type": "latent"}
    assert (pipe(PROMPTS, **arguments).images - run["latents"]).abs().max() > 0.01 * run["latents"].std()


def test_without_guidance_the_plain_switch_is_exact(tuned_of, draws, tmp_path):
    export(tuned_of("sd15", scale=1.0), draws, tmp_path)
    run = load_file(tmp_path / "verify.safetensors")
    script = script_of(tmp_path)
    pipe = script.load_pipeline(tmp_path)
    pipe.load_lora_weights(str(tmp_path))
    arguments = {"num_inference_steps": 8, "guidance_scale": 1.0, "latents": run["noise"], "output_type": "latent"}
    for _ in range(2):
        latents = pipe(PROMPTS, **arguments, callback_on_step_end=script.switch).images
        torch.testing.assert_close(latents, run["latents"], rtol=1e-4, atol=1e-4)
    always_on = pipe(PROMPTS, **arguments).images
    assert (always_on - run["latents"]).abs().max() > 1e-3


@pytest.mark.parametrize("name", PIPELINES)
def test_the_weights_load_by_the_pipelines_own_method_and_tell_the_handoff(tuned_of, draws, tmp_path, name):
    tuned = tuned_of(name)
    settings = export(tuned, draws, tmp_path)
    file = tmp_path / "pytorch_lora_weights.safetensors"
    with safe_open(file, "pt") as opened:
        header = opened.metadata()
    assert json.loads(header["graft.settings"]) == json.loads((tmp_path / "handoff.json").read_text()) == settings
    levels = tuned.reference.sampler.levels(tuned.reference.process)
    expected = levels[2] * 1000 if name == "sd3" else levels[2] - 1
    assert float(header["graft.handoff_timestep"]) == pytest.approx(expected)
    assert settings["handoff"]["steps_share"] == 0.25
    assert header["graft.prediction_type"] == tuned.reference.output
    pipe = getattr(diffusers, settings["pipeline"]).from_pretrained(settings["base_model"])
    pipe.load_lora_weights(str(tmp_path), adapter_name="other")
    network = getattr(pipe, settings["component"])
    loaded = {n.replace(".other.", ".default."): p for n, p in network.named_parameters() if ".lora_" in n}
    own = {n: p for n, p in tuned.views.network.named_parameters() if ".lora_" in n}
    assert loaded.keys() == own.keys()
    for key, value in own.items():  # alpha / rank is folded into the second matrix
        assert torch.equal(loaded[key], value * (6 / 4 if ".lora_B." in key else 1)), key
    layer = next(m for m in network.modules() if hasattr(m, "scaling") and "other" in m.scaling)
    assert layer.scaling["other"] == 1


def test_a_merged_pipeline_is_written_where_every_step_is_fine_tuned(tuned_of, draws, tmp_path):
    for number, lora in enumerate([LoRA(rank=4), None]):
        folder = tmp_path / str(number)
        tuned = tuned_of("sdxl", lora=lora, handoff=0.0, guidance="absorbed")
        settings = export(tuned, draws, folder)
        assert settings["merged"] == "pipeline"
        pipe = diffusers.DiffusionPipeline.from_pretrained(folder / "pipeline")
        run = load_file(folder / "verify.safetensors")
        latents = pipe(
            PROMPTS, num_inference_steps=8, guidance_scale=1.0, latents=run["noise"], output_type="latent",
            height=16, width=16,
        ).images  # fmt: skip
        torch.testing.assert_close(latents, run["latents"], rtol=1e-3, atol=1e-3)
        assert (folder / "fine_tuned_unet").exists() is False
    assert export(tuned_of("sdxl"), draws, tmp_path / "pgraft")["merged"] is None


def test_half_precision(tuned_of, draws, tmp_path):
    export(tuned_of("sd2", dtype="bf16"), draws, tmp_path)
    script = script_of(tmp_path)
    assert script.load_pipeline(tmp_path).unet.dtype == torch.bfloat16
    assert_same(tmp_path, rtol=0.2, latents=load_file(tmp_path / "verify.safetensors")["noise"].bfloat16())


def test_the_pipeline_is_given_back_as_it_was(tuned_of, draws, tmp_path):
    export(tuned_of("sd15"), draws, tmp_path)
    script = script_of(tmp_path)
    pipe = script.load_pipeline(tmp_path)
    before = {name: value.clone() for name, value in pipe.unet.state_dict().items()}
    handoff = script.Handoff(pipe, tmp_path)
    pipe(PROMPTS, **{**handoff.arguments, "output_type": "latent"})
    handoff.remove()
    after = pipe.unet.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert "forward" not in vars(pipe.unet)


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"sampler": Heun(8)}, ["Heun", "DDIM"]),
        ({"sampler": DDPM(8, clip_sample=1.0)}, ["clip_sample"]),
        ({"sampler": DDIM(28, grid=Uniform()), "handoff": 0.0}, ["Uniform", "steps=28"]),
    ],
    ids=["heun", "clipped", "steps of another size"],
)
def test_what_no_pipeline_can_repeat_is_refused(tuned_of, draws, tmp_path, settings, names):
    with pytest.raises(SettingsError) as error:
        export(tuned_of("sd15", **settings), draws, tmp_path / "out")
    assert all(name in str(error.value) for name in names)
    assert not (tmp_path / "out").exists()


def test_a_grid_of_its_own_is_found_among_the_schedulers_or_refused(tuned_of, draws, tmp_path):
    from graft_lightning.processes.grids import Explicit

    settings = export(tuned_of("sd15", sampler=DDIM(8, grid=Uniform())), draws, tmp_path)
    assert settings["scheduler"]["config"]["timestep_spacing"] == "trailing"
    assert_same(tmp_path)
    odd = DDIM(4, grid=Explicit([0, 13, 400, 700, 999]))
    with pytest.raises(SettingsError, match="Explicit"):
        export(tuned_of("sd15", sampler=odd), draws, tmp_path / "odd")
