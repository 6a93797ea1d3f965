"""Figures and images for loggers and reports."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from graft_lightning.callbacks.loggers import boards, log_picture, takes_pictures
from graft_lightning.durable import replacing
from graft_lightning.modules.sampled import SampledModule
from graft_lightning.rejection.pool import Round
from graft_lightning.rejection.selection import Selection
from graft_lightning.types import on_device

ACCEPTED, REJECTED, BEFORE = "#1b7f5c", "#c0502d", "#8a8f98"
"""One colour a meaning, in every figure."""

SAMPLES_SHOWN = 16
"""Images on a contact sheet."""


def new_figure(width: float = 9, height: float = 4, columns: int = 1) -> tuple[Any, Any]:
    """A figure and its axes, without pyplot: nothing is registered globally, nothing needs a screen."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, columns)
    for axis in [axes] if columns == 1 else axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def accepted_figure(selection: Selection, conditions: Sequence[str]) -> Any:
    """Acceptance per condition, and the rewards of accepted and rejected draws; of soft acceptance, by their shares."""
    figure, (left, right) = new_figure(columns=2)
    rates = selection.share.mean(1).sort(descending=True)
    left.bar(range(len(rates.values)), rates.values.tolist(), width=1.0, color=ACCEPTED)
    left.set(xlabel=f"{len(conditions)} conditions, sorted", ylabel="accepted share", title="Acceptance per condition")
    finite = selection.rewards.isfinite()
    rewards, share = selection.rewards[finite], selection.share[finite]
    right.hist(
        [rewards.tolist()] * 2,
        weights=[(1 - share).tolist(), share.tolist()],
        bins=30,
        stacked=True,
        color=[REJECTED, ACCEPTED],
        label=[f"rejected ({float((1 - share).sum()):.0f})", f"accepted ({float(share.sum()):.0f})"],
    )
    right.set(xlabel="reward", ylabel="trajectories", title="Rewards of one round")
    right.legend(frameon=False)
    return figure


def log_figure(trainer: L.Trainer, tag: str, figure: Any, file: Path | None = None) -> None:
    """A figure to every logger of the trainer that shows pictures, and to a file for reports."""
    if not takes_pictures(trainer) and file is None:
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # once for all
    pixels = torch.frombuffer(bytearray(canvas.buffer_rgba()), dtype=torch.uint8)
    width, height = canvas.get_width_height()
    log_sheet(trainer, tag, pixels.view(height, width, 4)[..., :3].permute(2, 0, 1), file)


def log_layout(trainer: L.Trainer, names: Sequence[str], of_sets: Sequence[str] = ()) -> None:
    """The page CUSTOM SCALARS: what a reader wants first, held-out scores with their intervals, then the losses.

    Args:
        trainer: gives the TensorBoards.
        names: of the held-out scores.
        of_sets: names of the metrics of all samples together, which have no interval.
    """
    scores = {
        name: ["Margin", [f"validate/{name}", f"interval/validate/{name}/low", f"interval/validate/{name}/high"]]
        for name in names
    }
    scores |= {name: ["Multiline", [f"validate/{name}"]] for name in of_sets}
    losses = {"loss": ["Multiline", ["train/loss"]], "loss by noise level": ["Multiline", ["loss_by_level/.*"]]}
    for board in boards(trainer):
        board.experiment.add_custom_scalars({"Held-out conditions": scores, "Training": losses})


def log_sheet(
    trainer: L.Trainer, tag: str, sheet: Tensor | None, file: Path | None = None, step: int | None = None
) -> None:
    """An image ``(3, height, width)`` uint8 to every logger of the trainer that shows pictures, and to a file.

    Args:
        trainer: gives the loggers.
        tag: there.
        sheet: the image; None draws nothing.
        file: where it is written too.
        step: that it belongs to; the trainer's own by default, which is 0 in a test.
    """
    if sheet is None:
        return
    log_picture(trainer, tag, sheet, trainer.global_step if step is None else step)
    if file is not None:
        from PIL import Image

        with replacing(file) as temporary:
            Image.fromarray(sheet.permute(1, 2, 0).numpy()).save(temporary, format="PNG")


def sheet_of(module: SampledModule, samples: Any, captions: Sequence[str]) -> Tensor | None:
    """A contact sheet by the domain's own hand, or None where it draws nothing."""
    return module.decoder.draw(samples, list(captions) if any(captions) else None)


def log_samples(trainer: L.Trainer, module: SampledModule, opened: Round, selection: Selection, folder: Path) -> None:
    """Accepted and rejected samples of the same conditions, two sheets, which a folder keeps for reports.

    One a condition, in the middle of those that there are, each as long as its share: under soft acceptance too the
    first sheet shows what training mostly sees.
    """
    for name, table in (
        ("accepted", selection.share),
        ("rejected", (1 - selection.share) * selection.rewards.isfinite()),
    ):
        chosen = [_middle(row) + i * opened.draws for i, row in enumerate(table) if row.any()][:SAMPLES_SHOWN]
        if not chosen:
            continue
        indices = torch.tensor(chosen)
        samples = module.decoder.decode(on_device(opened.read(indices, ["x_0"])["x_0"], module.device))
        rewards = selection.rewards.flatten()[indices]
        captions = [
            f"{opened.conditions[i]} ({r:.2f})"
            for i, r in zip((indices // opened.draws).tolist(), rewards.tolist(), strict=True)
        ]
        log_sheet(trainer, f"collect/{name}", sheet_of(module, samples, captions), folder / f"{name}.png")


def _middle(shares: Tensor) -> int:
    """The draw at which half of all shares ``(draws,)`` is reached."""
    reached = shares.cumsum(0)
    return int(torch.searchsorted(reached, reached[-1] / 2))
