"""Fine-tuned small pipelines, without training: trained weights are moved at random."""

import pytest
import torch

from graft_lightning.datamodules.evaluation import draws_of
from graft_lightning.domains.base import Texts
from graft_lightning.domains.text_to_image import DiffusersReference
from graft_lightning.domains.text_to_image.export import Tuned
from graft_lightning.modules import PGraft
from graft_lightning.processes.samplers import DDIM
from graft_lightning.rejection.reference import LoRA
from tests.domains.text_to_image.tiny_pipelines import PIPELINES

PROMPTS = ["a red cube", "two dogs"]
STEPS = 8
ADAPTERS = LoRA(rank=4, alpha=6)


@pytest.fixture
def tuned_of(pipeline_folder):
    """A `Tuned` of a small pipeline, by name or folder; trained weights are moved by the deviation ``moved``."""

    def model_of(name):
        return str(pipeline_folder(name)) if name in PIPELINES else name

    def make(
        name, lora=ADAPTERS, handoff=0.25, sampler=None, scale=3.0, moved=0.05, reverse=False,
        guidance="composed", **settings,
    ):  # fmt: skip
        reference = DiffusersReference(model_of(name), sampler or DDIM(STEPS), scale, **settings)
        module = PGraft(handoff=handoff, reverse=reverse, guidance=guidance, lora=lora, reference=reference)
        module.configure_model()
        generator = torch.Generator().manual_seed(5)
        for parameter in module.network.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
                size = 1.0 if lora else parameter.data.float().square().mean().sqrt()
                parameter.data = parameter.data + moved * size * noise
        if moved == 0:
            for name, parameter in module.network.named_parameters():
                if "lora_B" in name:
                    parameter.data.zero_()
        module.eval()
        return Tuned(
            reference, module.opened(), module.sampling_denoiser(), module.state_index, module.handoff_level,
            reverse, guidance, lora, module.method, 10,
        )  # fmt: skip

    return make


@pytest.fixture
def draws():
    return draws_of(Texts(PROMPTS), 1, 3, "test")
