"""Our sampler's throughput against the pipeline's own ``__call__`` on the same network: for ``make bench``.

Both draw their noise, and end in latents. The U-Net is large enough that its steps
cost what steps cost (a few milliseconds), and small enough for a CPU.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch

from graft_lightning.domains.text_to_image import DiffusersReference
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.samplers import DDIM
from graft_lightning.rejection.reference import open_views
from tests.domains.text_to_image import tiny_pipelines

SAMPLES, STEPS = 4, 20
TEXTS = ["a red cube", "two dogs"]


def loops(name: str, eta: float = 0.0) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Our loop and the pipeline's, with guidance, over the same weights.

    Args:
        name: of a pipeline of `tiny_pipelines`.
        eta: of DDIM.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        tiny_pipelines.PIPELINES[name](path)
        reference = DiffusersReference(str(path), DDIM(STEPS, eta), 4.0, height=32, width=32)
        pipeline = getattr(diffusers, reference.family.pipeline).from_pretrained(path)
        network = reference.build()
        reference.encode(["", *TEXTS], "cpu")  # neither side encodes texts while it is timed
    setattr(pipeline, reference.family.network, network)
    pipeline.set_progress_bar_config(disable=True)
    scheduled = {}
    if reference.output != "flow":
        pipeline.scheduler = diffusers.DDIMScheduler.from_config(pipeline.scheduler.config)
        scheduled = {"eta": eta}
    views = open_views(reference, network)
    texts = TEXTS * (SAMPLES // 2)
    prompts = {"prompt": texts} | ({"prompt_2": texts, "prompt_3": texts} if name == "sd3" else {})
    names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
    arguments = {"device": "cpu", "num_images_per_prompt": 1, "do_classifier_free_guidance": True}
    with torch.no_grad():
        embeddings = dict(zip(names, pipeline.encode_prompt(**prompts, **arguments), strict=False))

    def ours() -> Any:
        condition = reference.encode(texts, "cpu")
        noise, shape = Noise(torch.arange(SAMPLES)), reference.shape(texts)
        return reference.sampler.sample(views.frozen, reference.process, condition, noise, shape).x_0

    def theirs() -> Any:
        generators = [torch.Generator().manual_seed(seed) for seed in range(SAMPLES)]
        return pipeline(
            **embeddings,
            height=32,
            width=32,
            num_inference_steps=STEPS,
            guidance_scale=4.0,
            generator=generators,
            output_type="latent",
            **scheduled,
        ).images

    return ours, theirs
