"""Figures and images for loggers and reports."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor

from graft_lightning.callbacks.board import Board, settings_of
from graft_lightning.callbacks.colours import ACCEPTED, BEFORE, REJECTED
from graft_lightning.callbacks.loggers import boards, log_picture, tag_on, takes_pictures
from graft_lightning.callbacks.two_rows import Row, two_rows
from graft_lightning.durable import replacing
from graft_lightning.modules.sampled import SampledModule
from graft_lightning.rejection.pool import Round
from graft_lightning.rejection.selection import Selection
from graft_lightning.statistics import Interval
from graft_lightning.types import on_device, take

SAMPLES_SHOWN = 16
"""Images on a contact sheet."""

CARD, SHARP = (5.4, 3.5), 140
"""Inches, and pixels an inch, of a figure whose letters can be read on a card of TensorBoard, 325 pixels wide."""

PANELS = 3
"""Scores in one figure, at most."""

LAYOUT: Literal["constrained"] | None = "constrained"
"""Letters and axes make room for each other, which takes two fifths of the time."""


def new_figure(width: float = 9, height: float = 4, columns: int = 1) -> tuple[Any, Any]:
    """A figure and its axes, without pyplot: nothing is registered globally, nothing needs a screen."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=LAYOUT)
    axes = figure.subplots(1, columns)
    for axis in [axes] if columns == 1 else axes:
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def accepted_figure(selection: Selection, conditions: Sequence[str], round_index: int = 0) -> Any:
    """Acceptance per condition, and the rewards of accepted and rejected draws; of soft acceptance, by their shares."""
    figure, (left, right) = new_figure(*CARD, columns=2)
    figure.set_dpi(SHARP)
    rates = selection.share.mean(1).sort(descending=True)
    # one outline each, where bars are a thing to draw for each condition and bin
    left.stairs(rates.values.numpy(), torch.arange(len(conditions) + 1).numpy() - 0.5, fill=True, color=ACCEPTED)
    left.set(xlabel=f"{len(conditions)} conditions, sorted", ylabel="accepted share")
    left.set(title=f"Accepted: {selection.acceptance_rate:.1%}", ylim=(0, None))
    finite = selection.rewards.isfinite()
    rewards, share = selection.rewards[finite], selection.share[finite]
    right.hist(
        [rewards.tolist()] * 2,
        weights=[(1 - share).tolist(), share.tolist()],
        bins=30,
        stacked=True,
        histtype="stepfilled",
        color=[REJECTED, ACCEPTED],
        label=[f"rejected ({float((1 - share).sum()):.0f})", f"accepted ({float(share.sum()):.0f})"],
    )
    right.set(xlabel="reward", ylabel="samples", title=f"Round {round_index}", ylim=(0, 1.3 * right.get_ylim()[1]))
    right.legend(frameon=False, fontsize=8, loc="upper center")  # above all bars
    return figure


def scores_figure(records: Sequence[Mapping[str, Any]]) -> Any:
    """Held-out scores over the steps with their intervals, beside the base's; None where nothing is scored.

    Args:
        records: evaluations of one stage, as they come.
    """
    found = {r["step"]: r for r in records if r["method"] != "base"}
    base = next((r for r in records if r["method"] == "base"), None)
    names = [name for name in (records[-1]["scores"] if records else ()) if found][:PANELS]
    if not names:
        return None
    figure, axes = new_figure(*CARD, columns=len(names))
    figure.set_dpi(SHARP)
    for axis, name in zip([axes] if len(names) == 1 else axes, names, strict=True):
        if base is not None and name in base["metrics"]:
            before = base["metrics"][name]
            axis.axhline(before["mean"], color=BEFORE, label=f"base {before['mean']:.3g}")
            axis.axhspan(before["low"], before["high"], color=BEFORE, alpha=0.2, linewidth=0)
        rows: dict[int, Interval] = {step: r["metrics"][name] for step, r in found.items() if name in r["metrics"]}
        means = [row["mean"] for row in rows.values()]
        reach = [
            [row["mean"] - row["low"] for row in rows.values()],
            [row["high"] - row["mean"] for row in rows.values()],
        ]
        last = f"now {means[-1]:.3g}" if means else None
        axis.errorbar(list(rows), means, yerr=reach, color=ACCEPTED, marker="o", ms=4, capsize=3, label=last)
        axis.set(xlabel="gradient steps", ylabel=name)
        axis.legend(frameon=False, fontsize=8)
    return figure


def log_figure(trainer: L.Trainer, tag: str, figure: Any, file: Path | None = None, step: int | None = None) -> None:
    """A figure to every logger of the trainer that shows pictures, and to a file for reports."""
    if not takes_pictures(trainer) and file is None:
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # once for all
    pixels = torch.frombuffer(bytearray(canvas.buffer_rgba()), dtype=torch.uint8)
    width, height = canvas.get_width_height()
    log_sheet(trainer, tag, pixels.view(height, width, 4)[..., :3].permute(2, 0, 1), file, step)


def log_layout(trainer: L.Trainer, module: Any, names: Sequence[str], of_sets: Sequence[str] = ()) -> None:
    """The pages CUSTOM SCALARS, held-out scores with their intervals before the losses, and HPARAMS.

    Args:
        trainer: gives the TensorBoards.
        module: what is trained, whose settings runs are compared by.
        names: of the held-out scores.
        of_sets: names of the metrics of all samples together, which have no interval.
    """
    for board in boards(trainer):

        def shown(tag: str, board: Any = board) -> str:
            return tag_on(board, tag)

        ends = {
            name: [f"validate/{name}", *(f"interval/validate/{name}/{end}" for end in ("low", "high"))]
            for name in names
        }
        scores = {name: ["Margin", list(map(shown, tags))] for name, tags in ends.items()}
        scores |= {name: ["Multiline", [shown(f"validate/{name}")]] for name in of_sets}
        losses = {
            "loss": ["Multiline", [shown("train/loss")]],
            "loss by noise level": ["Multiline", [shown("loss_by_level/.*")]],
        }
        board.experiment.add_custom_scalars(
            {"Held-out samples, with 95 % intervals; step 0 is the base": scores, "Training": losses}
        )
        if isinstance(board, Board):
            board.compare(settings_of(trainer, module), [f"validate/{name}" for name in (*names, *of_sets)])


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
        write_sheet(sheet, file)


def write_sheet(sheet: Tensor | None, file: Path) -> None:
    """The same as a PNG; None writes nothing."""
    if sheet is None:
        return
    from PIL import Image

    with replacing(file) as temporary:
        Image.fromarray(sheet.permute(1, 2, 0).numpy()).save(temporary, format="PNG")


def sheet_of(module: SampledModule, samples: Any, captions: Sequence[str]) -> Tensor | None:
    """A contact sheet by the domain's own hand, or None where it draws nothing."""
    return module.decoder.draw(samples, list(captions) if any(captions) else None)


def log_samples(trainer: L.Trainer, module: SampledModule, opened: Round, selection: Selection, folder: Path) -> None:
    """Accepted and rejected samples of the same conditions: two sheets, which a folder keeps for reports, and a card.

    One a condition, in the middle of those that there are, each as long as its share: under soft acceptance too the
    first sheet shows what training mostly sees.
    """
    found: dict[str, dict[int, tuple[Any, float]]] = {}
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
        found[name] = {
            chosen[k] // opened.draws: (on_device(take(samples, slice(k, k + 1)), "cpu"), float(rewards[k]))
            for k in range(len(chosen))
        }
    both = [i for i in found.get("accepted", {}) if i in found.get("rejected", {})]
    rows = [
        Row(
            f"{name}, with reward",
            [found[name][i][0] for i in both],
            [f"{found[name][i][1]:.2g}" for i in both],
            [colour] * len(both),
        )
        for name, colour in (("accepted", ACCEPTED), ("rejected", REJECTED))
        if both
    ]
    sheet = two_rows(module.decoder, rows, [opened.conditions[i] for i in both])
    log_sheet(trainer, "collect/accepted_and_rejected", sheet)


def _middle(shares: Tensor) -> int:
    """The draw at which half of all shares ``(draws,)`` is reached."""
    reached = shares.cumsum(0)
    return int(torch.searchsorted(reached, reached[-1] / 2))
