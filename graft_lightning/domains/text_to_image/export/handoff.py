"""A fine-tuned model with a hand-off, in a plain diffusers pipeline; needs torch and diffusers, nothing else.

    from handoff import Handoff, load_pipeline

    pipe = load_pipeline()                 # the base model; or a pipeline of your own, of the same base
    handoff = Handoff(pipe)                # reads handoff.json and the weights beside this file
    image = pipe("a red cube", **handoff.arguments).images[0]

`handoff` is a ``callback_on_step_end``: it puts the adapter (or the fine-tuned network) to work in the noise levels
that were trained, and out of work in the others, where the base model finishes what was started. If guidance is
*composed*, the unconditional half of every step belongs to the base model, in all levels; no callback can reach inside
a step, so `Handoff` also wraps the network's ``forward``, which then treats the two halves of the batch apart.
`handoff.remove()` takes both away.

Where nothing is guided (guidance_scale = 1), `switch` alone does the same for a LoRA:

    pipe.load_lora_weights(folder)
    image = pipe("a red cube", guidance_scale=1.0, callback_on_step_end=switch).images[0]
"""

import hashlib
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

FOLDER = Path(__file__).parent
LORA = "pytorch_lora_weights.safetensors"
ADAPTER = "graft"
SUMS = "SHA256SUMS"
"""Checksums of what was exported, as ``sha256sum -c`` reads them; written last."""


def read_settings(folder: Path = FOLDER) -> dict[str, Any]:
    """What was exported: base model, hand-off, guidance, scheduler."""
    return json.loads((folder / "handoff.json").read_text(encoding="utf-8"))


def changed(folder: Path = FOLDER, below: str = "") -> list[str]:
    """What is wrong with the files of an export, one text each: absent, or other bytes than were written.

    Args:
        folder: of the export.
        below: a file or folder in it to which this is confined; all of it by default.
    """
    listed = folder / SUMS
    if not listed.is_file():
        return []
    found = []
    for line in listed.read_text(encoding="utf-8", errors="replace").splitlines():
        known, _, name = line.partition("  ")
        if not name or len(known) != 64:
            found.append(f"{listed} is damaged")
        elif below and name != below and not name.startswith(f"{below}/"):
            continue
        elif not (folder / name).is_file():
            found.append(f"{folder / name} is absent")
        else:
            hasher = hashlib.sha256()
            with open(folder / name, "rb") as file:
                while block := file.read(1 << 20):
                    hasher.update(block)
            if hasher.hexdigest() != known:
                found.append(f"{folder / name} is not as it was exported")
    return found


def refuse_changed(folder: Path, weights: str) -> None:
    """Holds the weights of an export against their checksums, where it has a list of them.

    Raises:
        ValueError: if they are not those that were exported; names the file.
    """
    if wrong := changed(folder, weights):
        raise ValueError(f"{'; '.join(wrong)}; export again")


def refuse_damaged(file: Path) -> None:
    """Reads a file of adapters.

    Raises:
        ValueError: if it cannot be read, or a number in it is not finite; names it.
    """
    from safetensors.torch import load_file

    try:
        tensors = load_file(file)
    except Exception as error:
        raise ValueError(f"{file} is damaged ({error}); export again") from None
    for name, value in tensors.items():
        if not bool(value.isfinite().all()):
            raise ValueError(f"{file} is damaged: {name} is not finite; export again")


def whole(network: Any, report: dict[str, Any], where: Path) -> Any:
    """A network that was loaded, if it has all of its weights.

    Raises:
        ValueError: if weights are missing, unexpected or not finite; names the first of them and the folder.
    """
    for key in ("missing_keys", "unexpected_keys"):
        if names := sorted(report[key]):
            raise ValueError(f"{where} is damaged: {names[0]} and {len(names) - 1} more {key}; export again")
    for name, value in network.named_parameters():
        if not bool(value.isfinite().all()):
            raise ValueError(f"{where} is damaged: {name} is not finite; export again")
    return network


def load_pipeline(folder: Path = FOLDER, base: str | None = None, device: str = "cpu") -> Any:
    """The base model's pipeline with the scheduler of the export.

    Args:
        folder: of the export.
        base: folder, hub id or single file of the base model; that of the export by default.
        device: of the pipeline.
    """
    import diffusers

    settings = read_settings(folder)
    kind = getattr(diffusers, settings["pipeline"])
    options: dict[str, Any] = dict.fromkeys(settings["without"])
    if settings["pipeline"] == "StableDiffusionPipeline":
        options |= {"safety_checker": None, "requires_safety_checker": False}
    if settings["pipeline"] == "StableDiffusionXLPipeline":
        options["add_watermarker"] = False
    options["torch_dtype"] = getattr(torch, settings["dtype"])
    source = base or settings["base_model"]
    if source.endswith(".safetensors"):
        pipe = kind.from_single_file(source, config=settings["base_config"], **options)
    else:
        pipe = kind.from_pretrained(source, variant=settings["variant"], **options)
    scheduler = getattr(diffusers, settings["scheduler"]["class"])
    pipe.scheduler = scheduler.from_config(settings["scheduler"]["config"])
    return pipe.to(device)


class Handoff:
    """Runs a pipeline with the fine-tuned model in its own noise levels and the base model in the others.

    Args:
        pipe: a pipeline of the base model, on its device.
        folder: of the export.
    """

    def __init__(self, pipe: Any, folder: Path = FOLDER) -> None:
        self.pipe, self.settings = pipe, read_settings(Path(folder))
        self.network = getattr(pipe, self.settings["component"])
        self.tuned_network: Any = None
        refuse_changed(Path(folder), LORA if self.settings["kind"] == "lora" else self.settings["weights"])
        if self.settings["kind"] == "lora":
            refuse_damaged(Path(folder) / LORA)
            pipe.load_lora_weights(str(folder), weight_name=LORA, adapter_name=ADAPTER)
        else:
            where = Path(folder) / self.settings["weights"]
            dtype = next(self.network.parameters()).dtype
            network, report = type(self.network).from_pretrained(where, torch_dtype=dtype, output_loading_info=True)
            self.tuned_network = whole(network, report, where).to(pipe.device).eval()
        self.on = True
        # Loading a LoRA renews the hooks of offloading, which live in `forward` too.
        self.hooked = "forward" in vars(self.network)
        self.base_forward: Callable[..., Any] = self.network.forward
        self.network.forward = self._forward

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of the pipeline as the model was trained and evaluated, this callback among them."""
        settings = self.settings
        found = {
            "num_inference_steps": settings["sampler"]["steps"],
            "guidance_scale": settings["guidance"]["scale"],
            "height": settings["height"],
            "width": settings["width"],
            "callback_on_step_end": self,
        }
        if "eta" in inspect.signature(type(self.pipe).__call__).parameters:
            found["eta"] = 0.0
        return found

    def __call__(self, pipe: Any, step: int, timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Called by the pipeline after every step: makes ready the model of the next one."""
        self._use(belongs_to_tuned(self.settings, next_timestep(pipe, step)))
        return kwargs

    def remove(self) -> None:
        """Gives the pipeline back as it was."""
        if self.hooked:
            self.network.forward = self.base_forward
        else:
            del self.network.forward
        if self.tuned_network is None:
            self._use(True)
            self.pipe.delete_adapters(ADAPTER)
            if not getattr(self.network, "peft_config", None):  # no other LoRA is left
                self.network.unload_lora()
        self.tuned_network = None

    def _use(self, tuned: bool) -> None:
        if tuned != self.on and self.tuned_network is None:
            self.network.enable_lora() if tuned else self.network.disable_lora()
        self.on = tuned

    def _forward(self, *args: Any, **kwargs: Any) -> Any:
        timestep = kwargs["timestep"] if "timestep" in kwargs else args[1]
        tuned = belongs_to_tuned(self.settings, timestep)
        if not tuned:
            return self._answer(False, args, kwargs)
        if not self.pipe.do_classifier_free_guidance:
            return self._answer(True, args, kwargs)
        batch = len(kwargs["hidden_states"] if "hidden_states" in kwargs else args[0])
        first, second = (
            [half(value, batch, which) for value in (args, kwargs)] for which in (0, 1)
        )  # the unconditional half comes first
        conditional = self._answer(True, *second)
        if self.settings["guidance"]["mode"] == "composed":
            return joined(self._answer(False, *first), conditional)
        return joined(conditional, conditional)  # the fine-tuned model has absorbed the guidance

    def _answer(self, tuned: bool, args: Any, kwargs: Any) -> Any:
        self._use(tuned)
        forward = self.tuned_network if tuned and self.tuned_network is not None else self.base_forward
        return forward(*args, **kwargs)


def switch(pipe: Any, step: int, timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """A ``callback_on_step_end`` for an unguided pipeline with the LoRA loaded: on in its own levels, off elsewhere."""
    settings = read_settings()
    network = getattr(pipe, settings["component"])
    network.enable_lora() if belongs_to_tuned(settings, next_timestep(pipe, step)) else network.disable_lora()
    return kwargs


def next_timestep(pipe: Any, step: int) -> Any:
    """The timestep after step ``step``; after the last, the first of the next call."""
    timesteps = pipe.scheduler.timesteps
    return timesteps[step + 1] if step + 1 < len(timesteps) else timesteps[0]


def belongs_to_tuned(settings: dict[str, Any], timestep: Any) -> bool:
    """Whether a step from ``timestep`` (in the network's units) is the fine-tuned model's: a step belongs to its input.

    Timesteps of a flow are float32 numbers, equal to the hand-off's only to a few digits.
    """
    handoff = settings["handoff"]
    above = float(torch.as_tensor(timestep).flatten()[0]) > handoff["timestep"] + 1e-3
    return above != (handoff["fine_tuned"] == "below")


def half(value: Any, batch: int, which: int) -> Any:
    """One half of every tensor that has ``batch`` rows, in lists and dictionaries too."""
    if isinstance(value, torch.Tensor):
        return value.chunk(2)[which] if value.ndim and len(value) == batch else value
    if isinstance(value, dict):
        return {name: half(item, batch, which) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(half(item, batch, which) for item in value)
    return value


def joined(first: Any, second: Any) -> Any:
    """Two answers of a network as one batch."""
    if isinstance(first, tuple):
        return (torch.cat([first[0], second[0]]), *first[1:])
    return type(first)(sample=torch.cat([first.sample, second.sample]))
