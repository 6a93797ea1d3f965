"""Every setting of a scheduler gives the images of the plain pipeline, or is refused by name."""

import json
import math
import shutil

import diffusers
import pytest
import torch

from graft_lightning.domains.base import scheduler
from graft_lightning.domains.base.scheduler import ddim_config
from graft_lightning.domains.text_to_image import DiffusersReference
from graft_lightning.processes.grids import Uniform
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.samplers import DDIM, Euler
from graft_lightning.types import SettingsError
from tests.domains.text_to_image.test_parity import SEEDS, TEXTS, assert_equal, ours

ABSENT = object()
DIFFUSION = {"_class_name": "DDIMScheduler", "timestep_spacing": "leading"}


@pytest.fixture
def folder_with(pipeline_folder, tmp_path):
    """A pipeline with some settings of its scheduler changed; `ABSENT` takes one out."""

    def make(name, **changes):
        folder = tmp_path / "pipeline"
        shutil.copytree(pipeline_folder(name), folder)
        file = folder / "scheduler" / "scheduler_config.json"
        config = {**json.loads(file.read_text()), **changes}
        file.write_text(json.dumps({key: value for key, value in config.items() if value is not ABSENT}))
        index = json.loads((folder / "model_index.json").read_text())
        index["scheduler"] = ["diffusers", config["_class_name"]]
        (folder / "model_index.json").write_text(json.dumps(index))
        return folder

    return make


def plain(reference, folder):
    """The pipeline as it is loaded, with the scheduler that the folder names."""
    pipeline = getattr(diffusers, reference.family.pipeline).from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        TEXTS,
        num_inference_steps=reference.sampler.steps,
        guidance_scale=reference.guidance_scale,
        latents=Noise(SEEDS).normal(*reference.shape(TEXTS)),
        output_type="latent",
    ).images


STEPPED = {
    "leading": (7, {}),
    "leading from 0": (7, {"steps_offset": 0, "set_alpha_to_one": True}),
    "leading, a step to the first level": (600, {"set_alpha_to_one": True}),
    "trailing": (25, {"timestep_spacing": "trailing"}),
    "no signal at T": (5, {"timestep_spacing": "trailing", "rescale_betas_zero_snr": True}),
    "x_0": (5, {"prediction_type": "sample"}),
    "other betas": (5, {"beta_schedule": "squaredcos_cap_v2"}),
    "absent betas": (5, dict.fromkeys(("beta_schedule", "beta_start", "beta_end"), ABSENT)),
    "absent last level": (5, {"set_alpha_to_one": ABSENT}),
    "absent offset": (5, {"steps_offset": ABSENT, "set_alpha_to_one": True}),
    "absent spacing": (5, {"timestep_spacing": ABSENT}),
    "linspace at every level": (20, {"timestep_spacing": "linspace", "num_train_timesteps": 20}),
}


@pytest.mark.parametrize("name", ["sd2", "sdxl"])
@pytest.mark.parametrize(("steps", "changes"), STEPPED.values(), ids=STEPPED)
def test_the_steps_are_those_of_the_pipeline(folder_with, name, steps, changes):
    if steps > 100:
        steps, changes = 12, {**changes, "num_train_timesteps": 20}
    output = {"prediction_type": "v_prediction"} if name == "sdxl" else {}
    if name == "sd2" and changes.get("timestep_spacing") == "linspace":
        changes = {**changes, "set_alpha_to_one": True}
    base = {"clip_sample": False, "set_alpha_to_one": changes.get("timestep_spacing") == "linspace"}
    folder = folder_with(name, **{**DIFFUSION, **base, **output, **changes})
    reference = DiffusersReference(str(folder), DDIM(steps), 2.0)
    tolerance = 1e-4 if changes.get("prediction_type") == "sample" else 1e-5  # eps is x_t - x_0 over a small sigma
    assert_equal(ours(reference), plain(reference, folder), tolerance)


REFUSED = {
    "trailing 28": (28, {"timestep_spacing": "trailing"}, "timestep_spacing='trailing'; with steps=28 .* e.g. 25, or"),
    "trailing 30": (30, {"timestep_spacing": "trailing"}, "timestep_spacing='trailing'"),
    "linspace": (
        10,
        {"timestep_spacing": "linspace"},
        "timestep_spacing='linspace'; with steps=10 .* set sampler.grid",
    ),
    "linspace, first level": (
        20,
        {"timestep_spacing": "linspace", "num_train_timesteps": 20, "set_alpha_to_one": False},
        "set_alpha_to_one=False; the last step starts at timestep 0 and would have no effect",
    ),
    "leading from 0": (10, {"steps_offset": 0, "set_alpha_to_one": False}, "set_alpha_to_one=False"),
    "beyond T": (1000, {}, "steps_offset=1; steps=1000 then start beyond timestep 999"),
    "too many": (1001, {}, "steps=1001; .*num_train_timesteps=1000"),
    "clipped": (10, {"clip_sample": True}, "clip_sample=True; "),
    "clipped by default": (10, {"clip_sample": ABSENT}, "clip_sample=True; by default of DDIMScheduler"),
    "DDPM clips by default": (10, {"_class_name": "DDPMScheduler", "clip_sample": ABSENT}, "default of DDPMScheduler"),
    "thresholded": (10, {"thresholding": True}, "thresholding=True"),
    "eps at no signal": (
        10,
        {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"},
        "rescale_betas_zero_snr=True; without signal",
    ),
    "Euler's default spacing": (
        10,
        {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": ABSENT},
        "timestep_spacing='linspace'",
    ),
    "Karras": (10, {"_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": True}, "use_karras_sigmas=True"),
    "sigmas of a flow": (
        10,
        {"_class_name": "DPMSolverMultistepScheduler", "use_flow_sigmas": True},
        "use_flow_sigmas=True",
    ),
    "levels without timesteps": (
        10,
        {"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"},
        "timestep_type='continuous'",
    ),
    "no betas": (10, {"_class_name": "EDMEulerScheduler"}, "scheduler='EDMEulerScheduler'; its U-Net needs"),
    "unknown class": (10, {"_class_name": "NoScheduler"}, "_class_name='NoScheduler'"),
    "unknown betas": (10, {"beta_schedule": "sigmoid"}, "sigmoid"),
    "other number of betas": (10, {"trained_betas": [0.1, 0.2]}, "trained_betas='2 values'"),
    "unknown spacing": (10, {"timestep_spacing": "even"}, "timestep_spacing='even'; known are leading, linspace"),
    "betas beyond 1": (10, {"trained_betas": [1.5] * 1000}, "betas make no schedule"),
    "betas of nothing": (10, {"beta_start": 0.0}, "betas make no schedule"),
    "a beta that is none": (10, {"beta_end": None}, "DDIMScheduler refuses it"),
    "a number as text": (10, {"num_train_timesteps": "1000"}, "DDIMScheduler refuses it"),
    "no timesteps": (10, {"num_train_timesteps": 0}, "DDIMScheduler refuses it"),
    "part of an offset": (10, {"steps_offset": 1.0}, "steps_offset=1.0; it is a whole number"),
    "no offset": (10, {"steps_offset": None}, "steps_offset=None; it is a whole number"),
    "shifted betas": (10, {"_class_name": "CogVideoXDDIMScheduler"}, "snr_shift_scale=3.0; "),
    "learned variance": (10, {"_class_name": "DDPMScheduler", "variance_type": "learned"}, "variance_type='learned'"),
}


@pytest.mark.parametrize(("steps", "changes", "said"), REFUSED.values(), ids=REFUSED)
def test_what_no_sampler_repeats_is_refused(folder_with, steps, changes, said):
    folder = folder_with("sdxl", **{**DIFFUSION, **changes})
    reference = DiffusersReference(str(folder), DDIM(steps))
    with pytest.raises(SettingsError, match=said):
        reference.sampler.levels(reference.process)


def test_the_older_pipeline_takes_clipping_back_but_not_thresholding(folder_with):
    folder = folder_with("sd2", **DIFFUSION, clip_sample=True, steps_offset=0)
    reference = DiffusersReference(str(folder), DDIM(5), 2.0)
    assert_equal(ours(reference), plain(reference, folder))
    shutil.rmtree(folder)
    with pytest.raises(SettingsError, match="thresholding=True"):
        _ = DiffusersReference(str(folder_with("sd2", **DIFFUSION, thresholding=True))).process


@pytest.mark.parametrize("said", [ABSENT, "DDIMScheduler"])
def test_the_class_is_that_of_the_index(folder_with, said):
    """The pipeline loads that, whatever the scheduler's own file says; DDIM would clip by default, Euler does not."""
    folder = folder_with("sdxl", clip_sample=ABSENT, set_alpha_to_one=ABSENT)
    file = folder / "scheduler" / "scheduler_config.json"
    config = {**json.loads(file.read_text()), "_class_name": said}
    file.write_text(json.dumps({key: value for key, value in config.items() if value is not ABSENT}))
    reference = DiffusersReference(str(folder), DDIM(5), 2.0)
    pipeline = diffusers.StableDiffusionXLPipeline.from_pretrained(folder)
    assert isinstance(pipeline.scheduler, diffusers.EulerDiscreteScheduler)
    assert_equal(ours(reference), plain(reference, folder), 1e-4)


def test_a_grid_of_the_users_own_needs_nothing_of_the_spacing(folder_with):
    folder = folder_with("sdxl", _class_name="EulerDiscreteScheduler", timestep_spacing="linspace")
    reference = DiffusersReference(str(folder), DDIM(28, grid=Uniform()))
    assert len(reference.sampler.levels(reference.process)) == 29


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"_class_name": "PNDMScheduler"}, {"set_alpha_to_one": False, "clip_sample": False, "steps_offset": 0}),
        ({"_class_name": "EulerDiscreteScheduler"}, {"set_alpha_to_one": True, "timestep_spacing": "linspace"}),
        ({"_class_name": "EulerDiscreteScheduler", "final_sigmas_type": "sigma_min"}, {"set_alpha_to_one": False}),
        ({"_class_name": "LCMScheduler"}, {"beta_start": 0.00085, "beta_schedule": "scaled_linear"}),
        ({"_class_name": "DDPMScheduler", "clip_sample": False}, {"set_alpha_to_one": True, "beta_end": 0.02}),
    ],
    ids=lambda value: value.get("_class_name", ""),
)
def test_absent_settings_have_the_default_of_the_class_that_is_named(config, expected):
    found = ddim_config(config)
    assert {key: found[key] for key in expected} == expected


FLOWS = [
    {"shift": ABSENT},
    {"shift": 1.0, "num_train_timesteps": 500},
    {"use_karras_sigmas": True},
    {"use_exponential_sigmas": True},
    {"shift_terminal": 0.1},
    {"base_shift": 3.0, "max_shift": 9.0, "time_shift_type": "linear"},
]


@pytest.mark.parametrize("changes", FLOWS, ids=lambda changes: " ".join(changes))
def test_the_steps_of_a_flow(folder_with, changes):
    folder = folder_with("sd3", **changes)
    reference = DiffusersReference(str(folder), Euler(6), 2.0)
    tolerance = 1e-4 if changes.get("prediction_type") == "sample" else 1e-5  # eps is x_t - x_0 over a small sigma
    assert_equal(ours(reference), plain(reference, folder), tolerance)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"invert_sigmas": True}, "invert_sigmas=True"),
        ({"stochastic_sampling": True}, "stochastic_sampling=True"),
        ({"use_dynamic_shifting": True}, "use_dynamic_shifting=True"),
        ({"_class_name": "FlowMatchLCMScheduler"}, "scheduler='FlowMatchLCMScheduler'"),
        ({"use_karras_sigmas": True, "use_exponential_sigmas": True}, "Only one of"),
        ({"time_shift_type": "cubic"}, "time_shift_type"),
        ({"shift": 0.0}, "shift=0.0; it is a number above 0"),
        ({"shift": None}, "shift=None"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_a_flow_cannot_repeat_is_refused(folder_with, changes, said):
    reference = DiffusersReference(str(folder_with("sd3", **changes)), Euler(4))
    with pytest.raises(SettingsError, match=said):
        reference.sampler.levels(reference.process)


# ---- guidance


@pytest.mark.parametrize(("name", "told"), [("LCMScheduler", 1), ("TCDScheduler", 1), ("EulerDiscreteScheduler", 0)])
def test_of_a_distilled_model_it_is_told_once_that_its_steps_are_no_samplers(caplog, name, told):
    scheduler._tell_of_distillation.cache_clear()
    for _ in range(2):
        ddim_config({"_class_name": name, "clip_sample": False})
    assert caplog.text.count(f"the pipeline has {name}: its model was distilled") == told


@pytest.mark.parametrize("scale", [-1.0, 0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", ["sd15", "sdxl", "sd3"])
def test_guidance_at_or_below_one_is_none(pipeline_folder, name, scale):
    sampler = Euler(4) if name == "sd3" else DDIM(4)
    reference = DiffusersReference(str(pipeline_folder(name)), sampler, scale)
    unguided = DiffusersReference(str(pipeline_folder(name)), sampler, 1.0)
    assert torch.equal(ours(reference), ours(unguided))
    assert reference.guidance_scale == 1
    assert reference.fingerprint(None) == unguided.fingerprint(None)
    if name == "sd3":  # the only one whose own scheduler is ours
        assert_equal(ours(reference), plain(reference, pipeline_folder(name)))


def test_guidance_that_is_no_number_is_refused():
    with pytest.raises(SettingsError, match="guidance_scale=nan"):
        DiffusersReference("owner/name", guidance_scale=math.nan)
