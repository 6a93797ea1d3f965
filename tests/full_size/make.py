"""Makes what a cell needs, in a process of its own, whose memory is given back when it ends.

python -m tests.full_size.make KIND FOLDER [--dtype bf16] [--tiny]
"""

import argparse
from pathlib import Path

import torch

from graft_lightning.domains.images.architectures import PUBLISHED
from tests.full_size.judges import save_clip, save_clip_flant5
from tests.full_size.pipelines import made_in, save_pipeline
from tests.full_size.sizes import DDPM, DDPM_TINY, IDS, MOLECULES, NCSNPP

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
IMAGES = 4


def make(kind: str, folder: Path, dtype: str = "fp32", tiny: bool = False) -> None:
    """Writes a folder that a user might have downloaded.

    Args:
        kind: a pipeline of `sizes.IDS`, "clip", "clip_flant5", "ncsnpp", "ddpm", "images" or "egnn".
        folder: made if absent.
        dtype: of a pipeline's weights.
        tiny: cut down.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if kind in IDS:
        save_pipeline(kind, folder, DTYPES[dtype], tiny)
    elif kind == "clip":
        save_clip(folder, tiny)
    elif kind == "clip_flant5":
        save_clip_flant5(folder, tiny)
    elif kind == "ncsnpp":
        _ncsnpp(folder, tiny)
    elif kind == "ddpm":
        _ddpm(folder, tiny)
    elif kind == "images":
        _images(folder, NCSNPP["tiny" if tiny else "full"]["size"])
    else:
        _egnn(folder, tiny)


def _ncsnpp(folder: Path, tiny: bool) -> None:
    """A flow whose branches do not start at zero, as a trained one's do not."""
    from diffusers import UNet2DModel

    from graft_lightning.domains.images import NCSNpp

    with made_in(torch.float32):
        UNet2DModel.from_config(NCSNpp(**NCSNPP["tiny" if tiny else "full"]).config()).save_pretrained(folder)


def _ddpm(folder: Path, tiny: bool) -> None:
    """A pipeline, as the hub has it."""
    import diffusers

    network, scheduler = PUBLISHED[DDPM]
    with made_in(torch.float32):
        unet = diffusers.UNet2DModel.from_config({**network, **(DDPM_TINY if tiny else {})})
    diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler.from_config(scheduler)).save_pretrained(folder)


def _images(folder: Path, side: int) -> None:
    """Smooth random images as PNG files."""
    from PIL import Image

    for number in range(IMAGES):
        generator = torch.Generator().manual_seed(number)
        coarse = torch.rand(1, 3, 8, 8, generator=generator)
        image = torch.nn.functional.interpolate(coarse, size=side, mode="bicubic").clamp(0, 1)[0]
        Image.fromarray((image * 255).to(torch.uint8).permute(1, 2, 0).numpy()).save(folder / f"{number}.png")


def _egnn(folder: Path, tiny: bool) -> None:
    """A reference of molecules."""
    from graft_lightning.domains.molecules import MoleculeReference

    arguments = MOLECULES["tiny" if tiny else "full"]
    reference = MoleculeReference(network=arguments["network"], max_atoms=arguments["max_atoms"])
    with made_in(torch.float32):
        network = reference.build(pretrained=False)
    reference.save(network, folder / "reference.safetensors", {"steps": 0})


def main() -> None:
    """Makes one thing."""
    parser = argparse.ArgumentParser(prog="python -m tests.full_size.make", description=__doc__)
    parser.add_argument("kind", choices=[*IDS, "clip", "clip_flant5", "ncsnpp", "ddpm", "images", "egnn"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument("--tiny", action="store_true", help="cut down")
    options = parser.parse_args()
    make(options.kind, options.folder, options.dtype, options.tiny)


if __name__ == "__main__":
    main()
