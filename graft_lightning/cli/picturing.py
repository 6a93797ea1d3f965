"""Samples of runs before and after fine-tuning, of the same seeds, drawn and put into one image."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graft_lightning.callbacks.trained_reward import trained_reward
from graft_lightning.cli.exporting import cli_of, load
from graft_lightning.cli.written import read_yaml
from graft_lightning.datamodules.evaluation import draws_of
from graft_lightning.domains.base import Texts, contact_sheet, listed
from graft_lightning.durable import replacing
from graft_lightning.lettering import font_of
from graft_lightning.rejection.reward import Reward, score
from graft_lightning.runs import CONFIG, newest_checkpoint
from graft_lightning.types import Draws, SettingsError

TITLE, GAP = 30, 28
"""Pixels above a sheet, and between two."""
SIDE = 84
"""Least pixels of one sample."""


def titled(text: str) -> tuple[str, Path]:
    """A title and a folder, of ``TITLE=FOLDER`` or of the folder alone, which is then its own title."""
    title, _, folder = text.rpartition("=")
    return (title, Path(folder)) if title and not Path(text).exists() else (Path(text).name, Path(text))


def draw_picture(
    runs: Sequence[tuple[str, Path]], out: Path, samples: int = 24, columns: int = 6, device: str = "cpu"
) -> list[str]:
    """Writes one row of two sheets for every run: its base's samples, and its own of the same seeds.

    Args:
        runs: titles and folders.
        out: the PNG.
        samples: of a sheet.
        columns: of a sheet.
        device: where they are drawn.

    Returns:
        A line for every run.

    Raises:
        FileNotFoundError: if a run lacks its configuration or a checkpoint.
        SettingsError: if a run has no base to compare with, or its samples cannot be drawn; or of a wrong number.
    """
    for name, value in (("samples", samples), ("columns", columns)):
        if value < 1:
            raise SettingsError(f"{name}={value}; it must be at least 1")
    rows = [(title, *before_and_after(folder, samples, columns, device)) for title, folder in runs]
    lines, panels = [], []
    for title, sheets, means in rows:
        titles = [
            f"{title}, {when}" + ("" if mean is None else f" (mean reward {mean:.2f})")
            for when, mean in zip(("before", "after"), means, strict=True)
        ]
        panels.append(_beside([_under(title, sheet) for title, sheet in zip(titles, sheets, strict=True)]))
        change = "" if None in means else f", mean reward {means[0]:.3f} before and {means[1]:.3f} after"
        lines.append(f"{title}: {samples} samples of the same seeds{change}")
    _write(_below(panels), out)
    return lines


def before_and_after(
    folder: Path, samples: int, columns: int, device: str
) -> tuple[tuple[Tensor, Tensor], tuple[float | None, float | None]]:
    """The two sheets of a run, uint8 ``(3, height, width)``, and the mean reward of the samples on each."""
    file = folder / CONFIG
    if not file.is_file():
        raise FileNotFoundError(f"{file} is absent; `picture` takes the folder of a run, where `fit` leaves it")
    cli = cli_of(read_yaml(file))
    module = cli.model
    if not module.has_base:
        raise SettingsError(f"{folder} holds a {type(module).__name__}, which has no base to compare with")
    load(module, newest_checkpoint(folder), folder)
    module.to(device).eval()
    draws = held_out(cli.datamodule, samples)
    with torch.no_grad():
        found = [module.decoder.decode(states(draws)) for states in (module.sample_base, module.sample)]
    captions = draws.conditions if any(draws.conditions) else None
    sheets = [_sheet(module.decoder, images, captions, columns, folder) for images in found]
    reward = trained_reward(cli.trainer, cli.datamodule)[1]
    means = [_mean(reward, images, draws.conditions) for images in found]
    return (sheets[0], sheets[1]), (means[0], means[1])


def held_out(data: Any, samples: int) -> Draws:
    """The first samples of the test conditions (validation's, else training's), with the seeds of `test`."""
    texts = listed(data.test or data.validation or data.conditions)
    each = -(-samples // len(texts))
    found = draws_of(Texts(texts[: -(-samples // each)]), each, data.seed, "test")
    return Draws(found.conditions[:samples], found.draw[:samples], found.seeds[:samples])


def _sheet(decoder: Any, samples: Any, captions: list[str] | None, columns: int, folder: Path) -> Tensor:
    if isinstance(samples, Tensor) and samples.ndim == 4:
        return contact_sheet(samples, captions, columns, SIDE)
    sheet = decoder.draw(samples, captions)
    if sheet is None:
        raise SettingsError(f"{folder}: {type(decoder).__name__} draws no samples")
    drawn: Tensor = sheet
    return drawn


def _mean(reward: Reward | None, samples: Any, conditions: Sequence[str]) -> float | None:
    if reward is None:
        return None
    mean = float(score(reward, samples, conditions).nanmean())
    return mean if math.isfinite(mean) else None


def _under(title: str, sheet: Tensor) -> Any:
    """A sheet with its title above."""
    from PIL import Image, ImageDraw

    image, font = Image.fromarray(sheet.permute(1, 2, 0).contiguous().numpy()), font_of(TITLE // 2)
    width = max(image.width, 8 + round(font.getlength(title)))  # of a narrow sheet the title is the wider one
    whole = Image.new("RGB", (width, image.height + TITLE), "white")
    whole.paste(image, (0, TITLE))
    ImageDraw.Draw(whole).text((4, 4), title, fill="black", font=font)
    return whole


def _beside(images: Sequence[Any]) -> Any:
    from PIL import Image

    width = sum(image.width for image in images) + GAP * (len(images) - 1)
    whole, left = Image.new("RGB", (width, max(image.height for image in images)), "white"), 0
    for image in images:
        whole.paste(image, (left, 0))
        left += image.width + GAP
    return whole


def _below(images: Sequence[Any]) -> Any:
    from PIL import Image

    size = max(image.width for image in images), sum(image.height for image in images)
    whole, top = Image.new("RGB", size, "white"), 0
    for image in images:
        whole.paste(image, (0, top))
        top += image.height
    return whole


def _write(image: Any, out: Path) -> None:
    """As a PNG of 256 colours: an image for a page, not a measurement."""
    from PIL import Image

    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as temporary:
        image.quantize(256, dither=Image.Dither.NONE).save(temporary, format="PNG", optimize=True)
