"""Proof of an export: samples again with plain diffusers and compares with what the run itself made.

    python verify.py [FOLDER] [--base FOLDER_OR_ID] [--device cuda] [--tolerance 1e-3]

From the initial noise in verify.safetensors it draws the images of verify.json, once with the base model and once with
the fine-tuned one. It fails (exit status 1) where latents or images differ from the run's own beyond the tolerance, and
where fine-tuning has no effect; it refuses files that are not as they were exported (2). ``graft_lightning``, which
wrote this, cannot be imported here.
"""

import argparse
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve().parent
"""The folder of the code that runs; that of the export by default, of which otherwise only data is read."""


def main() -> int:
    """Compares, prints what it finds, and returns the exit status."""
    sys.modules["graft_lightning"] = None  # type: ignore[assignment]
    options = asked()
    if wrong := module("handoff").changed(options.folder):
        print(f"error: {'; '.join(wrong)}; export again", file=sys.stderr)
        return 2
    try:
        return compare(options)
    except Exception as error:
        if os.environ.get("GRAFT_DEBUG", "") not in ("", "0"):
            raise
        said = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        print(f"error: {options.folder}: {said}", file=sys.stderr)
        return 2


def asked() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=HERE, help="the export; that of this script by default")
    parser.add_argument("--base", help="folder, hub id or file of the base model; that of the export by default")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tolerance", type=float, help="greatest difference, as a share of the latents' size")
    options = parser.parse_args()
    options.folder = options.folder.resolve()
    return options


def compare(options: argparse.Namespace) -> int:
    """Draws again and compares."""
    from safetensors.torch import load_file

    handoff, folder = module("handoff"), options.folder
    task = json.loads((folder / "verify.json").read_text(encoding="utf-8"))
    run = load_file(folder / "verify.safetensors")
    tolerance = task["tolerance"] if options.tolerance is None else options.tolerance
    pipe = handoff.load_pipeline(folder, options.base, options.device)
    pipe.set_progress_bar_config(disable=True)
    wrapped = handoff.Handoff(pipe, folder)
    arguments = wrapped.arguments
    tuned, images = sample(pipe, task["prompts"], run["noise"], arguments)
    wrapped.remove()
    base, _ = sample(pipe, task["prompts"], run["noise"], {**arguments, "callback_on_step_end": None})

    size = float(run["latents"].double().std())
    differences = {
        "base model": float((base - run["base_latents"]).abs().max()) / size,
        "fine-tuned": float((tuned - run["latents"]).abs().max()) / size,
    }
    exact = merged(folder, task, run, arguments, wrapped.settings, options.device)
    if exact is not None:
        differences["pipeline/"] = float((exact - run["latents"]).abs().max()) / size
    effect = float((tuned - base).abs().max()) / size
    pixels = int((images.int() - run["images"].int()).abs().max())
    print(f"{len(task['prompts'])} images, {arguments['num_inference_steps']} steps, from the run's own noise")
    for name, difference in differences.items():
        print(f"  {name:10}  max difference of latents {difference:.2e} of their size (tolerance {tolerance:g})")
    print(f"  images      max difference {pixels} of 255 (tolerance {task['pixel_tolerance']})")
    print(f"  effect      fine-tuned and base differ by {effect:.2e}")
    wrong = [f"the {name} differs from the run's own" for name, d in differences.items() if not d <= tolerance]
    if pixels > task["pixel_tolerance"]:
        wrong.append("images differ from the run's own")
    if not effect > max(1e-5, 2 * differences["fine-tuned"]):
        wrong.append("fine-tuning has no effect")
    print("FAILED: " + "; ".join(wrong) if wrong else "verified")
    return 1 if wrong else 0


def merged(
    folder: Path,
    task: dict[str, Any],
    run: dict[str, torch.Tensor],
    arguments: dict[str, Any],
    settings: dict[str, Any],
    device: str,
) -> torch.Tensor | None:
    """Latents of the merged pipeline as it is; None if there is none, or if guidance asks for the base model too."""
    composed = settings["guidance"]["mode"] == "composed" and settings["guidance"]["scale"] != 1
    if not settings["merged"] or composed:
        return None
    import diffusers

    kind = getattr(diffusers, settings["pipeline"])
    options = dict.fromkeys(settings["without"]) | {"torch_dtype": getattr(torch, settings["dtype"])}
    pipe = kind.from_pretrained(folder / settings["merged"], **options).to(device)
    for network in (part for part in pipe.components.values() if isinstance(part, torch.nn.Module)):
        module("handoff").whole(network, {"missing_keys": [], "unexpected_keys": []}, folder / settings["merged"])
    pipe.set_progress_bar_config(disable=True)
    unguided = {**arguments, "callback_on_step_end": None, "guidance_scale": 1.0}
    return sample(pipe, task["prompts"], run["noise"], unguided)[0]


def sample(
    pipe: Any, prompts: list[str], noise: torch.Tensor, arguments: dict[str, Any]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents (float32, on the CPU) and images (uint8) of all prompts, from the given noise.

    The images are the pipeline's own: it decodes the latents that its last step made.
    """
    wanted = arguments["callback_on_step_end"]
    latents: list[torch.Tensor] = []

    def noted(pipe: Any, step: int, timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        latents[:] = [kwargs["latents"]]
        return kwargs if wanted is None else wanted(pipe, step, timestep, kwargs)

    dtype = next(getattr(pipe, component(pipe)).parameters()).dtype
    with torch.no_grad():
        start = noise.to(pipe.device, dtype)
        options = {**arguments, "callback_on_step_end": noted, "output_type": "pt"}
        images = pipe(prompts, latents=start, **options).images
    return latents[0].float().cpu(), (images.float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)


def component(pipe: Any) -> str:
    """The name of the part that denoises."""
    return "unet" if hasattr(pipe, "unet") else "transformer"


def module(name: str) -> Any:
    """A file beside this one as a module."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


if __name__ == "__main__":
    sys.exit(main())
