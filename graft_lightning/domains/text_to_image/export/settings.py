"""``handoff.json``: what a plain pipeline has to know to sample as the run did."""

import itertools
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch

from graft_lightning.domains.base.scheduler import scheduler_of, stepped
from graft_lightning.domains.text_to_image.reference import DTYPES, DiffusersReference
from graft_lightning.processes.denoiser import Denoiser
from graft_lightning.processes.samplers import DDIM, Sampler
from graft_lightning.rejection.reference import LoRA, Views
from graft_lightning.types import SettingsError


@dataclass(frozen=True)
class Tuned:
    """A fine-tuned reference, as a module holds it.

    Attributes:
        reference: the reference.
        views: its views.
        denoiser: the stitched model.
        state: N_I, index of the state at which the reference takes over; 0 for none.
        level: s, its level; 0 for none.
        reverse: whether the fine-tuned model has the levels at and below s.
        guidance: "composed" or "absorbed".
        lora: the adapters' settings; None after full fine-tuning.
        method: the model's name in reports.
        steps_trained: gradient steps.
    """

    reference: DiffusersReference
    views: Views
    denoiser: Denoiser
    state: int
    level: float
    reverse: bool
    guidance: Literal["composed", "absorbed"]
    lora: LoRA | None
    method: str
    steps_trained: int

    @property
    def everywhere(self) -> bool:
        """Whether the fine-tuned model makes every step."""
        return self.state == 0


def deterministic(sampler: Sampler) -> DDIM:
    """The same grid without noise on the way: what a pipeline of diffusers can repeat exactly.

    Raises:
        SettingsError: for a sampler that no scheduler of diffusers repeats.
    """
    if not sampler.is_ddim:
        raise SettingsError(
            f"sampler={type(sampler).__name__} has no equal in diffusers; set model.reference.sampler to DDIM (to "
            "Euler for a flow) with the same steps and evaluate that"
        )
    if sampler.clip_sample is not None:
        raise SettingsError(
            f"sampler.clip_sample={sampler.clip_sample}: pipelines clip without changing eps, so that they cannot "
            "repeat these samples; leave it out"
        )
    return DDIM(sampler.steps, 0.0, sampler.grid)


def settings_of(tuned: Tuned, weights: str) -> dict[str, Any]:
    """The content of ``handoff.json``.

    Args:
        tuned: the fine-tuned reference.
        weights: file or folder of the exported weights, below the export.

    Raises:
        SettingsError: if no pipeline of diffusers can sample so.
    """
    reference = tuned.reference
    scale = reference.guidance_scale
    family, schedule = reference.family, reference.process.schedule
    level = torch.tensor(tuned.level, dtype=torch.float64)
    alpha, sigma = (float(value) for value in schedule.alpha_sigma(level))
    source = Path(reference.model).expanduser()
    config = reference._source.described_by
    height, width = reference.size
    return {
        "format": 1,
        "written_by": f"graft_lightning {version('graft_lightning')}, diffusers {version('diffusers')}",
        "method": tuned.method,
        "steps_trained": tuned.steps_trained,
        "base_model": str(source.resolve()) if source.exists() else reference.model,
        "base_config": str(Path(config).resolve()) if config and Path(config).exists() else config,
        "variant": reference._source.variant,
        "without": reference.left_out,
        "pipeline": family.pipeline,
        "component": family.network,
        "kind": "full" if tuned.lora is None else "lora",
        "weights": weights,
        "prediction_type": reference.output,
        "handoff": {
            "timestep": timestep_of(tuned),
            "alpha": alpha,
            "sigma": sigma,
            "state": tuned.state,
            "steps_share": tuned.state / reference.sampler.steps,
            "fine_tuned": "below" if tuned.reverse else "above",
        },
        "guidance": {"mode": tuned.guidance, "scale": scale},
        "sampler": {
            "of_the_run": type(reference.sampler).__name__,
            "steps": reference.sampler.steps,
            "eta_of_the_run": getattr(reference.sampler, "eta", None),
            "verified_with": "Euler" if family.output == "flow" else "DDIM with eta = 0",
        },
        "scheduler": scheduler_settings(reference),
        "dtype": str(DTYPES[reference.dtype]).removeprefix("torch."),
        "height": height,
        "width": width,
    }


def timestep_of(tuned: Tuned) -> float:
    """The hand-off as the timestep that the network is given; -1 if there is none."""
    if tuned.everywhere:
        return -1.0
    if tuned.reference.process.schedule.discrete:
        return tuned.level - 1
    return tuned.level * tuned.reference.family.scheduler.get("num_train_timesteps", 1000)


def scheduler_settings(reference: DiffusersReference) -> dict[str, Any]:
    """Class and configuration of a scheduler that visits the levels of the reference's sampler.

    Raises:
        SettingsError: if there is none.
    """
    config = reference.family.scheduler_config()
    wanted = reference.sampler.levels(reference.process)
    flow = not reference.process.schedule.discrete
    name = "FlowMatchEulerDiscreteScheduler" if flow else "DDIMScheduler"
    reason = ""
    for spacing, to_one in itertools.product((None, "leading", "trailing"), (None, True, False)):
        changes = {"timestep_spacing": spacing, "set_alpha_to_one": to_one}
        tried = config | {key: value for key, value in changes.items() if value is not None}
        scheduler = scheduler_of(name, tried)
        try:
            levels = stepped(scheduler, len(wanted) - 1)
        except SettingsError as error:
            reason = f" ({error})"
            continue
        if len(levels) == len(wanted) and all(abs(a - b) < 1e-6 for a, b in zip(levels, wanted, strict=True)):
            return {"class": name, "config": {k: v for k, v in scheduler.config.items() if not k.startswith("_")}}
    raise SettingsError(
        f"the grid of {type(reference.sampler.grid).__name__} at steps={len(wanted) - 1} is none that {name} steps "
        f"through; leave sampler.grid out, or take Uniform with steps that divide the timesteps, and evaluate that"
        f"{reason}"
    )
