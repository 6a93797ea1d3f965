"""Our samplers against the pipelines' own ``__call__``: same starting noise, same latents, same images."""

import json
import shutil

import diffusers
import diffusers.schedulers.scheduling_ddim as ddim_module
import pytest
import torch

from graft_lightning.domains.text_to_image import DiffusersReference
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.samplers import DDIM, Euler
from graft_lightning.rejection.reference import open_views
from tests.domains.text_to_image.tiny_pipelines import PIPELINES

TEXTS = ["a red cube on a blue sphere", "two dogs"]
SEEDS = torch.tensor([3, 4])


def ours(reference):
    views = open_views(reference, reference.build())
    condition = reference.encode(TEXTS, "cpu")
    return reference.sampler.sample(
        views.frozen, reference.process, condition, Noise(SEEDS), reference.shape(TEXTS)
    ).x_0


def theirs(reference, folder, monkeypatch, eta=0.0, output_type="latent", **arguments):
    """The pipeline's own answer, its scheduler replaced by DDIM as its documentation does it."""
    pipeline = getattr(diffusers, reference.family.pipeline).from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    noise = Noise(SEEDS)
    start = noise.normal(*reference.shape(TEXTS))
    if reference.output != "flow":
        pipeline.scheduler = diffusers.DDIMScheduler.from_config(pipeline.scheduler.config)
        arguments["eta"] = eta
        monkeypatch.setattr(ddim_module, "randn_tensor", lambda shape, **_: noise.normal(*shape[1:]))
    return pipeline(
        TEXTS,
        num_inference_steps=reference.sampler.steps,
        guidance_scale=reference.guidance_scale,
        latents=start,
        output_type=output_type,
        **arguments,
    ).images


def assert_equal(found, expected, tolerance=1e-5):
    """To a part of the largest value: 10 steps in float32."""
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * float(expected.abs().max()))


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("name", ["sd15", "sd2", "sdxl"])
def test_ddim(pipeline_folder, monkeypatch, name, eta, guidance):
    reference = DiffusersReference(str(pipeline_folder(name)), DDIM(10, eta), guidance)
    expected = theirs(reference, pipeline_folder(name), monkeypatch, eta)
    assert_equal(ours(reference), expected)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("steps", [3, 10])
def test_euler_of_a_flow(pipeline_folder, monkeypatch, guidance, steps):
    reference = DiffusersReference(str(pipeline_folder("sd3")), Euler(steps), guidance)
    assert_equal(ours(reference), theirs(reference, pipeline_folder("sd3"), monkeypatch))


SPACINGS = {
    "leading, 7 steps": (7, {}),
    "leading, to the data": (10, {"set_alpha_to_one": True}),
    "trailing": (10, {"timestep_spacing": "trailing"}),
    "trailing, to the data": (10, {"timestep_spacing": "trailing", "set_alpha_to_one": True}),
    "no signal at T": (10, {"timestep_spacing": "trailing", "rescale_betas_zero_snr": True}),
    "betas of its own": (5, {"trained_betas": torch.linspace(0.01, 0.2, 50).tolist(), "num_train_timesteps": 50}),
}


@pytest.mark.parametrize(("steps", "changes"), SPACINGS.values(), ids=SPACINGS)
def test_every_spacing_of_the_scheduler(pipeline_folder, monkeypatch, tmp_path, steps, changes):
    folder = tmp_path / "pipeline"
    shutil.copytree(pipeline_folder("sd2"), folder)
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    # without signal at T, eta = 1 has diffusers take the root of a difference of equal float32 numbers
    eta = 0.0 if "rescale_betas_zero_snr" in changes else 1.0
    reference = DiffusersReference(str(folder), DDIM(steps, eta), 2.0)
    assert_equal(ours(reference), theirs(reference, folder, monkeypatch, eta))


@pytest.mark.parametrize("changes", [{"shift": 1.0}, {"use_karras_sigmas": True}, {"shift_terminal": 0.1}], ids=str)
def test_every_shift_of_a_flow(pipeline_folder, monkeypatch, tmp_path, changes):
    folder = tmp_path / "pipeline"
    shutil.copytree(pipeline_folder("sd3"), folder)
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    reference = DiffusersReference(str(folder), Euler(6), 2.0)
    assert_equal(ours(reference), theirs(reference, folder, monkeypatch))


@pytest.mark.parametrize("name", PIPELINES)
def test_images_that_are_not_square(pipeline_folder, monkeypatch, name):
    reference = DiffusersReference(str(pipeline_folder(name)), DDIM(4), 2.0, height=24, width=16, vae_batch_size=1)
    expected = theirs(reference, pipeline_folder(name), monkeypatch, output_type="pt", height=24, width=16)
    images = reference.decode(ours(reference))
    assert images.shape == (2, 3, 24, 16)
    assert images.std() > 0.05
    torch.testing.assert_close(images, expected, rtol=0, atol=1e-5)
