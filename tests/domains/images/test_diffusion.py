"""DDPM pipelines of diffusers as references: the same samples, their own settings, and a whole run."""

import json
import logging
import shutil

import diffusers
import pytest
import torch
from safetensors.torch import load_file

from graft_lightning.cli.lightning import run_lightning
from graft_lightning.domains.base.loading import ModelUnavailableError
from graft_lightning.domains.images import ImageDiffusion
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.samplers import DDIM
from graft_lightning.rejection.reference import FrozenDenoiser, LoRA, open_views
from graft_lightning.types import SettingsError

COUNT, STEPS = 3, 10


def saved(folder, scheduler=None, pipeline="DDPMPipeline", size=8, **changes):
    """A pipeline with random weights, none of them zero, as users find one."""
    network = diffusers.UNet2DModel(
        sample_size=size,
        block_out_channels=(32, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        **changes,
    )
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data = 0.05 * torch.randn(parameter.shape, generator=generator)
    made = getattr(diffusers, pipeline)(network, scheduler or diffusers.DDPMScheduler())
    made.save_pretrained(folder)
    return folder


def flat(folder):
    """The layout of older repositories: all files in one folder."""
    for file in [*(folder / "unet").iterdir(), *(folder / "scheduler").iterdir()]:
        file.rename(folder / file.name)
    for part in ("unet", "scheduler"):
        (folder / part).rmdir()
    return folder


def changed(folder, file, **changes):
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


def ours(reference):
    texts = [""] * COUNT
    network = reference.build()
    return reference.sampler.sample(
        FrozenDenoiser(reference, network),
        reference.process,
        reference.encode(texts, "cpu"),
        Noise(torch.arange(COUNT)),
        reference.shape(texts),
    ).x_0


def opened(reference):
    """All that a run reads before it samples."""
    return reference.process, reference.build(), reference.encode([""], "cpu"), reference.shape([""])


@torch.no_grad()
def theirs(folder, scheduler, eta, **options):
    """The steps of the pipeline itself, from the same noise."""
    network = diffusers.DDPMPipeline.from_pretrained(folder).unet
    noise = Noise(torch.arange(COUNT))
    x = noise.normal(3, 8, 8)
    scheduler.set_timesteps(STEPS)
    for t in scheduler.timesteps:
        fresh = noise.normal(3, 8, 8) if eta and t > 0 else torch.zeros_like(x)
        predicted = network(x, t, **options).sample
        x = scheduler.step(
            predicted, t, x, eta=eta, use_clipped_model_output=True, variance_noise=fresh if eta else None
        ).prev_sample
    return x


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"clip_sample": False},
        {"clip_sample_range": 0.5},
        {"prediction_type": "v_prediction"},
        {"prediction_type": "sample"},
        {"timestep_spacing": "trailing"},
        {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 100},
    ],
    ids=str,
)
def test_samples_are_those_of_the_pipeline(tmp_path, settings, eta):
    folder = saved(tmp_path / "ddpm", diffusers.DDPMScheduler(**settings))
    default = ImageDiffusion(str(folder))
    assert (default.sampler.steps, default.sampler.eta) == (50, 1.0)
    sampler = DDIM(STEPS, eta=eta, clip_sample=default.sampler.clip_sample)
    scheduler = diffusers.DDIMScheduler.from_pretrained(folder, subfolder="scheduler")
    torch.testing.assert_close(
        ours(ImageDiffusion(str(folder), sampler)), theirs(folder, scheduler, eta), rtol=1e-4, atol=1e-4
    )


def test_a_step_with_eta_1_is_one_of_ddpm(tmp_path):
    """Mean and noise of `DDPMScheduler`, whose own noise is drawn by a generator."""
    folder = saved(tmp_path / "ddpm")
    reference = ImageDiffusion(str(folder))
    network, scheduler = reference.build(), diffusers.DDPMScheduler.from_pretrained(folder, subfolder="scheduler")
    scheduler.set_timesteps(STEPS)
    x = torch.randn(COUNT, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    levels = DDIM(STEPS, eta=1.0).levels(reference.process)
    for t, t_next in ((levels[10], levels[9]), (levels[5], levels[4])):
        with torch.no_grad():
            raw = reference.denoise(network, x, torch.full((COUNT,), t), reference.encode([""] * COUNT, "cpu"))
        path = reference.process.gaussian
        step = path.transition(x, path.predict(raw, x, t, "epsilon", 1.0), t, t_next, eta=1.0)
        drawn = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
        expected = scheduler.step(raw, int(t) - 1, x, generator=torch.Generator().manual_seed(2)).prev_sample
        torch.testing.assert_close(step.mean + step.std * drawn, expected, rtol=1e-4, atol=1e-4)


def test_images_need_not_be_square(tmp_path):
    reference = ImageDiffusion(str(saved(tmp_path / "ddpm", size=(8, 16))), DDIM(2, clip_sample=1.0))
    assert ours(reference).shape == (COUNT, 3, 8, 16)
    assert reference.sample_shape([""]) == (3, 8, 16)


def test_older_repositories_keep_all_files_in_one_folder(tmp_path):
    nested = saved(tmp_path / "nested")
    together = flat(shutil.copytree(nested, tmp_path / "flat"))
    sampler = DDIM(STEPS, clip_sample=1.0)
    one, other = (ImageDiffusion(str(folder), sampler) for folder in (nested, together))
    assert (one.subfolder, other.subfolder) == ("unet", None)
    assert torch.equal(ours(one), ours(other))
    assert one.fingerprint(one.build()) == other.fingerprint(other.build())


def placeholder(folder):
    (folder / "config.json").write_text("{}")  # some repositories have one, from which the hub counts downloads


def network_beside_the_index(folder):
    flat(folder)
    (folder / "scheduler").mkdir()
    (folder / "scheduler_config.json").rename(folder / "scheduler" / "scheduler_config.json")


def scheduler_beside_the_index(folder):
    (folder / "scheduler" / "scheduler_config.json").rename(folder / "scheduler_config.json")
    (folder / "scheduler").rmdir()


def old_attention(folder):
    """Names of layers as in the first releases, pickled."""
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    renamed = {}
    for name, value in load_file(file).items():
        for new, old in {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}.items():
            name = name.replace(f".{new}.", f".{old}.")
        renamed[name] = value
    assert any("proj_attn" in name for name in renamed)
    torch.save(renamed, file.with_suffix(".bin"))
    file.unlink()


def without(file, *keys):
    def change(folder):
        config = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps({key: value for key, value in config.items() if key not in keys}))

    return change


FILES = {
    "a placeholder": placeholder,
    "network beside the index": network_beside_the_index,
    "scheduler beside the index": scheduler_beside_the_index,
    "old attention": old_attention,
    "key of a fork": lambda folder: changed(folder, "unet/config.json", key_of_a_fork=3),
    "defaults left out": without("unet/config.json", "in_channels", "out_channels", "_class_name"),
    "scheduler without a class": without("scheduler/scheduler_config.json", "_class_name"),
    "scheduler of another class": lambda folder: changed(
        folder, "scheduler/scheduler_config.json", _class_name="PNDMScheduler"
    ),
}


@pytest.mark.parametrize("change", FILES.values(), ids=FILES)
def test_files_as_they_are_found(tmp_path, change):
    """What DDPMPipeline reads is read alike, and what was fine-tuned of it is written."""
    folder = saved(tmp_path / "ddpm")
    sampler = DDIM(STEPS, clip_sample=1.0)
    expected = ours(ImageDiffusion(str(folder), sampler))
    change(folder)
    pipeline = diffusers.DDPMPipeline.from_pretrained(folder)
    reference = ImageDiffusion(str(folder), sampler)
    assert torch.equal(ours(reference), expected)
    assert sum(p.numel() for p in reference.meta_network().parameters()) > 0
    reference.save(reference.build(), tmp_path / "tuned", {})
    again = diffusers.DDPMPipeline.from_pretrained(tmp_path / "tuned")
    assert type(again.scheduler) is type(pipeline.scheduler)
    assert torch.equal(ours(ImageDiffusion(str(tmp_path / "tuned"), sampler)), expected)


def test_weights_of_one_variant_alone_are_told(tmp_path):
    folder = saved(tmp_path / "ddpm")
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.rename(file.with_suffix(".fp16.safetensors"))
    with pytest.raises(ModelUnavailableError, match="holds its weights as fp16 alone; load them with that variant"):
        ImageDiffusion(str(folder)).build()


def test_the_class_of_a_class_conditional_network_counts(tmp_path):
    folder = saved(tmp_path / "ddpm", num_class_embeds=4)
    scheduler = diffusers.DDIMScheduler.from_pretrained(folder, subfolder="scheduler")
    sampler = DDIM(STEPS, clip_sample=1.0)
    asked = theirs(folder, scheduler, 0.0, class_labels=torch.full((COUNT,), 2))
    reference = ImageDiffusion(str(folder), sampler, label=2)
    torch.testing.assert_close(ours(reference), asked, rtol=1e-4, atol=1e-4)
    other = ImageDiffusion(str(folder), sampler, label=1)
    assert other.fingerprint(other.build()) != reference.fingerprint(reference.build())
    with pytest.raises(SettingsError, match="label=4, but the classes of UNet2DModel are 0 to 3"):
        ours(ImageDiffusion(str(folder), sampler, label=4))
    embedded = saved(tmp_path / "embedded", class_embed_type="timestep")
    asked = theirs(embedded, scheduler, 0.0, class_labels=torch.full((COUNT,), 7))
    torch.testing.assert_close(ours(ImageDiffusion(str(embedded), sampler, label=7)), asked, rtol=1e-4, atol=1e-4)
    for model in (folder, embedded):
        with pytest.raises(SettingsError, match="label is not set"):
            ours(ImageDiffusion(str(model), sampler))


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("model_index.json", {"_class_name": "LDMPipeline"}, "is a LDMPipeline; ImageDiffusion reads DDPMPipeline"),
        ("scheduler/scheduler_config.json", {"variance_type": "learned_range"}, "variance_type='learned_range'"),
        ("scheduler/scheduler_config.json", {"thresholding": True}, "thresholding=True"),
        ("model_index.json", {"scheduler": ["diffusers", "ScoreSdeVeScheduler"]}, "a table of betas"),
        ("scheduler/scheduler_config.json", {"prediction_type": "score"}, "prediction_type='score'"),
        ("unet/config.json", {"out_channels": 6}, "6 channels of 3"),
        ("unet/config.json", {"in_channels": 4, "out_channels": 4}, "in_channels is 4; images are grey"),
        ("unet/config.json", {"class_embed_type": "identity"}, "class_embed_type is 'identity'"),
        (
            "unet/config.json",
            {"sample_size": None},
            "size is that in config.json, and the network's sample_size is None",
        ),
        ("unet/config.json", {"time_embedding_type": "fourier"}, "time_embedding_type='fourier'"),
        ("unet/config.json", {"_class_name": "UNet2DConditionModel"}, "needs encoder_hidden_states"),
    ],
)
def test_what_cannot_be_repeated_is_refused_by_name(tmp_path, file, changes, message):
    folder = changed(saved(tmp_path / "ddpm"), file, **changes)
    reference = ImageDiffusion(str(folder), DDIM(STEPS, clip_sample=1.0))
    with pytest.raises(SettingsError, match=message):
        opened(reference)


def test_an_incomplete_folder_says_what_it_lacks(tmp_path):
    folder = saved(tmp_path / "ddpm")
    shutil.rmtree(folder / "unet")
    with pytest.raises(ModelUnavailableError, match="ImageDiffusion, setting `model`"):
        ours(ImageDiffusion(str(folder), DDIM(STEPS, clip_sample=1.0)))
    with pytest.raises(ModelUnavailableError, match="ImageDiffusion, setting `model`"):
        ours(ImageDiffusion(str(tmp_path / "absent")))


def test_other_clipping_and_another_variance_are_told(tmp_path, caplog):
    folder = saved(tmp_path / "ddpm", diffusers.DDPMScheduler(variance_type="fixed_large"))
    with caplog.at_level(logging.WARNING):
        assert ImageDiffusion(str(folder), DDIM(STEPS)).process.t_max == 1000
    assert "variance_type is 'fixed_large'" in caplog.text
    assert "clip_sample 1.0, and sampler.clip_sample is None" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        ImageDiffusion(str(saved(tmp_path / "plain"))).sampler  # noqa: B018
    assert not caplog.text


def test_a_published_model_is_known_without_its_files():
    reference = ImageDiffusion("google/ddpm-celebahq-256")
    assert reference.shape([""]) == (3, 256, 256)
    assert reference.sampler.clip_sample == 1.0
    assert sum(p.numel() for p in reference.meta_network().parameters()) == 113_673_219


@pytest.mark.parametrize("layout", [lambda folder: folder, flat], ids=["nested", "flat"])
@pytest.mark.parametrize("lora", [None, LoRA(rank=2)], ids=["full", "LoRA"])
def test_a_fine_tuned_network_is_saved_as_a_pipeline(tmp_path, layout, lora):
    """Adapters are folded in; the base's folder is not written to."""
    folder = layout(saved(tmp_path / "ddpm"))
    reference = ImageDiffusion(str(folder), DDIM(STEPS, clip_sample=1.0))
    views = open_views(reference, reference.build(), lora)
    generator = torch.Generator().manual_seed(3)
    for parameter in views.network.parameters():
        if parameter.requires_grad:
            parameter.data += (0.5 if lora else 0.05) * torch.randn(parameter.shape, generator=generator)
    with pytest.raises(SettingsError, match="holds the base itself"):
        reference.save(views.network, folder, {})
    for _ in range(2):  # the second time in place of the first
        reference.save(views.network, tmp_path / "tuned", {"steps": 2})
    x, t = torch.randn(COUNT, 3, 8, 8, generator=generator), torch.tensor([1, 500, 999])
    theirs = diffusers.DDPMPipeline.from_pretrained(tmp_path / "tuned")
    assert theirs.scheduler.config.clip_sample
    with torch.no_grad():
        expected, base = views.network.eval()(x, t).sample, reference.build()(x, t).sample
        torch.testing.assert_close(theirs.unet(x, t).sample, expected, rtol=1e-4, atol=1e-4)
        again = ImageDiffusion(str(tmp_path / "tuned"), DDIM(STEPS, clip_sample=1.0))
        torch.testing.assert_close(again.build()(x, t).sample, expected, rtol=1e-4, atol=1e-4)
    assert (base - expected).abs().max() > 0.01


@pytest.mark.slow
def test_a_run_from_the_shipped_file(tmp_path):
    """P-GRAFT of a pipeline's folder, two steps long, and what follows it."""
    folder = saved(tmp_path / "ddpm")
    line = [
        "--config=experiments/images/ddpm_pgraft.yaml",
        "--config=tests/overrides/tiny.yaml",
        f"--model.init_args.reference.init_args.model={folder}",
        "--model.init_args.reference.init_args.sampler.init_args.steps=4",
        f"--data.init_args.pool={tmp_path / 'pool'}",
        "--data.init_args.acceptance.init_args.k=4",
        "--data.init_args.eval_draws=4",
        "--data.init_args.predict_draws=4",
        "--collect.draws=12",
        "--trainer.precision=32-true",
        "--trainer.callbacks+=SaveReference",
        f"--trainer.callbacks.path={tmp_path / 'tuned'}",
        f"--trainer.logger.init_args.save_dir={tmp_path}",
        "--trainer.logger.init_args.name=run",
    ]
    fitted = run_lightning(["fit", *line])
    assert fitted.trainer.global_step == 2
    written = diffusers.DDPMPipeline.from_pretrained(tmp_path / "tuned").unet.state_dict()
    assert all(torch.equal(written[name], value) for name, value in fitted.model.network.state_dict().items())
    records = [json.loads(row) for row in (tmp_path / "run/evaluation.jsonl").read_text().splitlines()]
    assert {record["method"] for record in records} == {"base", "pgraft@0.25"}
    last = f"--ckpt_path={tmp_path}/run/checkpoints/last.ckpt"
    run_lightning(["test", *line, last])
    run_lightning(["predict", *line, last])
    assert len(list((tmp_path / "run/samples").glob("*.png"))) == 4
