"""Writing an export: weights, scripts, samples to compare with, model card."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graft_lightning.domains.base.images import to_pixels
from graft_lightning.domains.base.merging import merged_state
from graft_lightning.domains.base.sums import SUMS, write_sums
from graft_lightning.domains.text_to_image.export.card import model_card
from graft_lightning.domains.text_to_image.export.lora import KOHYA_FILE, LORA_FILE, write_lora
from graft_lightning.domains.text_to_image.export.settings import Tuned, deterministic, settings_of
from graft_lightning.durable import replacing, replacing_folder, write_bytes, write_text
from graft_lightning.processes.noise import Noise
from graft_lightning.rejection.reference import evaluating
from graft_lightning.tensors import write_tensors
from graft_lightning.types import Draws

SCRIPTS = ("handoff.py", "verify.py")
TASK, SAMPLES = "verify.json", "verify.safetensors"
"""What is to be drawn again, and what the run itself drew."""
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.2, "float16": 0.05}
"""Greatest difference of latents, as a share of their deviation: what other kernels may do in such precision."""
PIXEL_TOLERANCE = {"float32": 2, "bfloat16": 26, "float16": 13}


def export(
    tuned: Tuned, draws: Draws, folder: Path, run: Path | None = None, merge: bool | None = None
) -> dict[str, Any]:
    """Writes a fine-tuned reference for plain diffusers.

    Args:
        tuned: the fine-tuned reference.
        draws: the samples that `verify` will draw again.
        folder: of the export; made if absent.
        run: the run's folder, whose metrics the model card shows.
        merge: write a whole pipeline with merged weights too; by default where the fine-tuned model makes every step.

    Returns:
        What ``handoff.json`` says.

    Raises:
        SettingsError: if no pipeline of diffusers can sample so.
    """
    deterministic(tuned.reference.sampler)  # refuses before anything is written
    component = tuned.reference.family.network
    weights = LORA_FILE if tuned.lora is not None else f"fine_tuned_{component}"
    settings = settings_of(tuned, weights)
    merge = tuned.everywhere if merge is None else merge
    if merge and tuned.lora is None:
        settings["weights"] = f"pipeline/{component}"  # one copy of the network is enough
    settings["merged"] = "pipeline" if merge else None
    folder.mkdir(parents=True, exist_ok=True)
    for mark in (SUMS, TASK):  # an export that is cut off has neither, and `verify` refuses it
        (folder / mark).unlink(missing_ok=True)
    if tuned.lora is not None:
        write_lora(tuned, folder, settings)
    elif not merge:
        with replacing_folder(folder / weights) as temporary:
            tuned.views.network.save_pretrained(temporary)  # type: ignore[operator]
    if merge:
        with replacing_folder(folder / "pipeline") as temporary:
            write_merged(tuned, temporary)
    write_text(folder / "handoff.json", json.dumps(settings, indent=1) + "\n")
    for script in SCRIPTS:
        write_bytes(folder / script, (Path(__file__).parent / script).read_bytes())
    task = write_task(tuned, draws, folder, settings)
    write_text(folder / "README.md", model_card(settings, task, run))
    write_text(folder / TASK, json.dumps(task, indent=1, ensure_ascii=False) + "\n")
    own = [LORA_FILE, KOHYA_FILE] if tuned.lora is not None else [weights] if not merge else []
    own += ["pipeline"] if merge else []
    write_sums(folder, [*own, "handoff.json", *SCRIPTS, TASK, SAMPLES, *task["images"]])  # its card may be edited
    return settings


def write_merged(tuned: Tuned, folder: Path) -> None:
    """A whole pipeline with the fine-tuned network in place of the base's."""
    import diffusers

    reference = tuned.reference
    family = reference.family
    network: Any = reference.build()
    network.load_state_dict(merged_state(tuned.views.network))
    options = {family.network: network, **dict.fromkeys(reference.left_out)}
    if family.pipeline == "StableDiffusionPipeline":
        options |= {"safety_checker": None, "requires_safety_checker": False}
    pipeline = reference._source.load_pipeline(
        family.pipeline, [], torch_dtype=next(network.parameters()).dtype, **options
    )
    settings = settings_of(tuned, "")["scheduler"]
    pipeline.scheduler = getattr(diffusers, settings["class"])(**settings["config"])
    pipeline.save_pretrained(folder)


def write_task(tuned: Tuned, draws: Draws, folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Draws what ``verify.py`` draws again: prompts, seeds, initial noise. Writes what the run makes of them."""
    from PIL import Image

    reference = tuned.reference
    sampler = deterministic(reference.sampler)
    device = next(tuned.views.network.parameters()).device
    shape: Any = reference.shape(draws.conditions)
    noise = Noise(draws.seeds, device).normal(*shape)
    condition = reference.encode(draws.conditions, device)

    def finished(denoiser: Any) -> Tensor:
        top = sampler.levels(reference.process)[-1]
        with torch.no_grad(), evaluating(tuned.views.network):
            end = sampler.resume(denoiser, reference.process, condition, Noise(draws.seeds, device), noise, top)
        assert isinstance(end.x_0, Tensor)
        return end.x_0

    latents, base = finished(tuned.denoiser), finished(tuned.views.frozen)
    images = reference.decode(latents).cpu()
    tensors = {"noise": noise, "latents": latents, "base_latents": base}
    plain = {name: value.detach().float() for name, value in tensors.items()}
    write_tensors(folder / SAMPLES, {**plain, "images": (images * 255).round().to(torch.uint8)})
    names = _shown(images, folder, Image)
    task = {
        "prompts": list(draws.conditions),
        "seeds": draws.seeds.tolist(),
        "draws": draws.draw.tolist(),
        "images": names,
        "sampler": settings["sampler"]["verified_with"],
        "note": "noise and latents are in verify.safetensors: a generator of the pipeline draws other noise by a seed",
        "tolerance": TOLERANCE[settings["dtype"]],
        "pixel_tolerance": PIXEL_TOLERANCE[settings["dtype"]],
        "device": str(device),
        "effect": float((latents - base).abs().max() / latents.std()),
    }
    return task


def _shown(images: Tensor, folder: Path, library: Any) -> Sequence[str]:
    names = [f"sample-{number}.png" for number in range(len(images))]
    for name, pixels in zip(names, to_pixels(images), strict=True):
        with replacing(folder / name) as temporary:
            library.fromarray(pixels).save(temporary, format="PNG")
    return names
