"""The reference of layouts: a denoiser of boxes and labels together, given their number and what is known of them."""

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from graft_lightning.domains.base.masks import mask_of
from graft_lightning.domains.base.weights import DATA, load_weights, save_weights
from graft_lightning.domains.layouts import drawing, given, vocabularies
from graft_lightning.domains.layouts.corrections import comparison
from graft_lightning.domains.layouts.coverage import coverage
from graft_lightning.domains.layouts.deduplication import layout_keys
from graft_lightning.domains.layouts.given import Given
from graft_lightning.domains.layouts.layout import unpadded
from graft_lightning.domains.layouts.network import LayoutTransformer
from graft_lightning.domains.layouts.partial import read, shortened
from graft_lightning.domains.layouts.states import layouts_of
from graft_lightning.domains.layouts.writing import write_layouts
from graft_lightning.processes.grids import Grid, Powered
from graft_lightning.processes.interleaved import Interleaved
from graft_lightning.processes.paths import CategoricalPath, GaussianPath
from graft_lightning.processes.paths import Path as NoisePath
from graft_lightning.processes.process import Process, Shape
from graft_lightning.processes.samplers import Sampler
from graft_lightning.processes.schedules import Schedule, Trigonometric
from graft_lightning.processes.times import VisitedLevels
from graft_lightning.rejection.reference import Reference
from graft_lightning.types import SettingsError, State

REMAKE = "python -m graft_lightning fit --config experiments/layouts/pretrain.yaml"


def near_the_data() -> Grid:
    """The default grid: alignment is decided by differences of some thousandths of the page."""
    return Powered(first=0.004)


class LayoutReference(Reference):
    """Layouts of a given number of elements, of which more may be known.

    Boxes are predicted by v, labels by the probabilities of the clean label. Conditions are ``n=<elements>``, with what
    is known behind it (`partial`): one model serves unconditional, label-conditioned and label-and-size-conditioned
    generation, completion and refinement.

    Args:
        weights: safetensors file; the shipped one, of the embedded pages, by default.
        sampler: by default 50 interleaved steps that crowd near the data.
        vocabulary: of the labels.
        network: arguments of `LayoutTransformer` that differ from its defaults.
        max_elements: elements per row of a batch; no condition may ask for more.
        labels: whether noise makes labels "uniform", or ("absorbing") takes them away.
        schedule: of boxes and of labels; the continuous cosine by default.
        train_steps: sampler steps N whose levels training draws; those of ``sampler`` by default. 0 draws every level.
        roughness: noise, in shares of the page's side, down to which coordinates that are known roughly are held; below
            it they are free.

    Raises:
        SettingsError: if an argument is out of its range.
    """

    lora_targets = ("qkv", "out", "boxes_out", "labels_out")

    def __init__(
        self,
        weights: str | None = None,
        sampler: Sampler | None = None,
        vocabulary: str = "publaynet",
        network: dict[str, Any] | None = None,
        max_elements: int = 16,
        labels: Literal["uniform", "absorbing"] = "uniform",
        schedule: Schedule | None = None,
        train_steps: int | None = None,
        roughness: float = 0.03,
    ) -> None:
        super().__init__(sampler or Interleaved(steps=50, grid=near_the_data()))
        if max_elements < 1:
            raise SettingsError(f"max_elements={max_elements}; it must be at least 1")
        if labels not in ("uniform", "absorbing"):
            raise SettingsError(f"labels={labels!r}; it is 'uniform' or 'absorbing'")
        if not roughness >= 0:
            raise SettingsError(f"roughness={roughness}; it is a share of the page's side, 0 or more")
        self.output = {"box": "v_prediction", "label": "logits"}
        self.weights, self.network, self.labels = weights, dict(network or {}), labels
        self.vocabulary = vocabularies.vocabulary(vocabulary)
        self.max_elements, self.roughness = max_elements, roughness
        self.schedule, self.train_steps = schedule or Trigonometric(), train_steps

    @property
    def classes(self) -> int:
        """Of the process's labels: those of the vocabulary, and that of taking away."""
        return len(self.vocabulary) + (self.labels == "absorbing")

    @cached_property
    def process(self) -> Process:
        paths: dict[str, NoisePath[Any]] = {
            "box": GaussianPath(self.schedule),
            "label": CategoricalPath(self.schedule, self.classes, self.labels),
        }
        grid: Grid = self.sampler.grid or near_the_data()
        if self.train_steps == 0:
            return Process(paths, grid=grid)
        visits = copy.copy(self.sampler)
        visits.steps = visits.steps if self.train_steps is None else self.train_steps
        return Process(paths, VisitedLevels(visits.training_levels(Process(paths, grid=grid))), grid)

    @property
    def weights_file(self) -> Path:
        """Where the weights are read."""
        return Path(self.weights) if self.weights else DATA / "layouts" / "reference.safetensors"

    def build(self, pretrained: bool = True) -> nn.Module:
        network = LayoutTransformer(self.classes, **self.network)
        if pretrained:
            load_weights(network, self.weights_file, self._architecture(), REMAKE)
        return network

    def _architecture(self) -> dict[str, Any]:
        return {"vocabulary": self.vocabulary.name, "labels": self.labels, **self.network}

    def save(self, network: nn.Module, path: Path, provenance: dict[str, Any]) -> None:
        """Writes weights that `build` reads."""
        save_weights(network, path, self._architecture(), provenance)

    def denoise(self, network: nn.Module, x_t: State, t: Tensor, condition: TensorDict) -> State:
        box, label, mask = x_t["box"], x_t["label"], x_t["mask"]
        t_box, t_label = (t, t) if t.ndim == 1 else t.unbind(1)
        alpha, sigma = self.schedule.coefficients(t_box)
        roughness = 2 * self.roughness  # boxes fill [-1, 1]
        known = Given.at(condition, alpha, sigma, roughness, box.shape[1])
        shares = ((level / self.process.t_max).to(box.dtype) for level in (t_box, t_label))
        velocity, logits = network(*known.into(box, label), *shares, mask, known.flags)
        return {"box": known.velocities(velocity, box, alpha, sigma), "label": known.logits(logits)}

    def encode(self, conditions: Sequence[str], device: torch.device | str) -> TensorDict:
        """What conditions ask for, as `given.encoded` has it.

        Raises:
            SettingsError: if a condition is not understood, or asks for more than ``max_elements``.
        """
        asked = [read(text, self.vocabulary) for text in conditions]
        counts, known = [count for count, _ in asked], [elements for _, elements in asked]
        if max(counts, default=0) > self.max_elements:
            raise SettingsError(
                f"condition n={max(counts)} asks for more elements than max_elements={self.max_elements}"
            )
        return given.encoded(counts, known, self.max_elements).to(device)

    def refuse(self, conditions: Sequence[str]) -> None:
        self.encode(conditions, "cpu")

    def shape(self, conditions: Sequence[str]) -> Mapping[str, Shape]:
        return {"box": (self.max_elements, 4), "label": (self.max_elements,)}

    def static_fields(self, conditions: Sequence[str], device: torch.device | str) -> State:
        return {"mask": mask_of(self.encode(conditions, device)["count"], self.max_elements)}

    def decode(self, x_0: State) -> TensorDict:
        return layouts_of(x_0, len(self.vocabulary))

    def keys(self, samples: Any) -> Tensor:
        return layout_keys(samples)

    def numbers(self, samples: Any) -> Tensor:
        return coverage(samples, len(self.vocabulary))

    def draw(self, samples: Any, captions: Sequence[str] | None = None) -> Tensor:
        """Pages side by side, elements coloured by label, uint8 ``(3, height, width)``."""
        texts = None if captions is None else [shortened(text) for text in captions]
        return drawing.as_tensor(drawing.sheet(samples, texts, self.vocabulary))

    def compare(self, before: Any, after: Any, captions: Sequence[str]) -> Tensor:
        """Pages before and after, side by side; elements that were off all guides and are on one now have a frame."""
        texts = [shortened(text) for text in captions]
        return drawing.as_tensor(comparison(before, after, texts, self.vocabulary))

    def write(self, samples: Any, names: Sequence[str], folder: Path) -> list[Path]:
        """One SVG file a layout, and a line of ``layouts.jsonl`` for each. Returns the paths of the SVG files."""
        return write_layouts(unpadded(samples), names, folder, self.vocabulary)
