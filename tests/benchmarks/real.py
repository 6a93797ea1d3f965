"""The real architectures with random weights, made on the device from their configurations; nothing is fetched."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from graft_lightning.domains.images import ImageFlow, NCSNpp
from graft_lightning.domains.molecules import MoleculeReference
from graft_lightning.domains.text_to_image import DiffusersReference
from graft_lightning.domains.text_to_image.architectures import ARCHITECTURES
from graft_lightning.processes.grids import Uniform
from graft_lightning.processes.samplers import DDIM, DDPM, Euler
from graft_lightning.rejection.reference import LoRA, Reference
from tests.full_size import sizes


@dataclass(frozen=True)
class Subject:
    """One architecture as it is trained and sampled.

    Attributes:
        name: of the table's row.
        reference: with random weights.
        texts: conditions of a sampled batch.
        batch: examples of a training step.
        lora: adapters; without them everything is trained.
        mixed: whether states have types beside positions.
    """

    name: str
    reference: Reference
    texts: list[str]
    batch: int
    lora: LoRA | None = None
    mixed: bool = False


class Pipeline(DiffusersReference):
    """A pipeline's network without its weights, text encoders or VAE: embeddings are random too."""

    def build(self, pretrained: bool = True) -> nn.Module:
        return super().build(pretrained=False)

    def prepare(self, conditions: Sequence[str]) -> None:
        """Nothing is stored."""

    def encode(self, conditions: Sequence[str], device: torch.device | str) -> Any:
        generator = torch.Generator().manual_seed(len(conditions))
        blank = self.blank(conditions)
        drawn = {
            name: torch.randn(value.shape, generator=generator) if value.ndim > 2 else value
            for name, value in blank.items()
        }
        return blank.replace(drawn).to(device)


class Flow(ImageFlow):
    """A flow whose network is not read."""

    def build(self, pretrained: bool = True) -> nn.Module:
        network = super().build(pretrained=False)
        with torch.no_grad():  # branches that start at zero would make an inversion trivial
            for parameter in network.parameters():
                if not parameter.any():
                    parameter.normal_(0, 0.01)
        return network


class Molecules(MoleculeReference):
    """EDM's network, not read."""

    def build(self, pretrained: bool = True) -> nn.Module:
        return super().build(pretrained=False)


def pipeline(name: str, folder: Path, dtype: str, compiled: bool, tiny: bool) -> Subject:
    """SD 2, SDXL or SD 3; their own images' size, the collection's batch and steps of the shipped files."""
    batch, count, steps, scale = {"sd2": (8, 20, 50, 9.0), "sdxl": (2, 4, 30, 5.0), "sd3": (2, 4, 28, 7.0)}[name]
    if tiny:
        batch, count, steps = 2, 2, 3
    sampler = Euler(steps) if name == "sd3" else DDIM(steps, eta=1.0)
    model = str(configured(name, folder, tiny))
    reference = Pipeline(model, sampler, scale, dtype, gradient_checkpointing=not tiny, compile=compiled)  # type: ignore[arg-type]
    title = {"sd2": "SD 2", "sdxl": "SDXL", "sd3": "SD 3"}[name]
    return Subject(f"{title}, LoRA", reference, ["a red cube", "two dogs"] * (count // 2), batch, LoRA(32))


def flow(compiled: bool, tiny: bool) -> Subject:
    """The NCSN++ of 65 M of CelebA-HQ."""
    network = NCSNpp(**sizes.NCSNPP["tiny" if tiny else "full"])
    reference = Flow(network=network, sampler=Euler(3 if tiny else 20))
    reference.compile = compiled
    return Subject("NCSN++ 65 M", reference, [""] * (2 if tiny else 16), 2 if tiny else 16)


def corrector(tiny: bool) -> Subject:
    """Its corrector of 16 M."""
    size = dict(sizes.NCSNPP["tiny" if tiny else "full"])
    size["width"] = size["width"] if tiny else size["width"] // 2
    reference = Flow(network=NCSNpp(**size), sampler=Euler(3 if tiny else 20))
    return Subject("corrector 16 M", reference, [""] * (2 if tiny else 16), 2 if tiny else 16)


def molecules(compiled: bool, tiny: bool) -> Subject:
    """EDM's EGNN at the size of QM9, all fields moved together."""
    arguments = sizes.MOLECULES["tiny" if tiny else "full"]
    sampler = DDPM(3 if tiny else 50, grid=Uniform())
    reference = Molecules(sampler=sampler, train_steps=0, **arguments)
    reference.compile = compiled
    return Subject("EGNN QM9", reference, ["n=18"] * (4 if tiny else 512), 4 if tiny else 64, mixed=True)


def configured(name: str, folder: Path, tiny: bool) -> Path:
    """A folder with a pipeline's configurations and no weights."""
    published = ARCHITECTURES[sizes.IDS[name]]
    network = "transformer" if name == "sd3" else "unet"
    contents = {
        "model_index.json": published["index"],
        "scheduler/scheduler_config.json": published["scheduler"],
        f"{network}/config.json": sizes.network(name, tiny),
        "vae/config.json": sizes.vae(name, tiny),
    }
    for file, content in contents.items():
        path = folder / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")
    return folder / name
