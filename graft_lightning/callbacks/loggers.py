"""Curves, pictures and text to every logger of a trainer that takes them."""

from collections.abc import Mapping
from typing import Any

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from graft_lightning.callbacks.board import Board, shown_as


def boards(trainer: L.Trainer) -> list[TensorBoardLogger]:
    """The TensorBoard loggers of a trainer."""
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]


def tag_on(board: TensorBoardLogger, tag: str) -> str:
    """What a tag is called on a TensorBoard: in the order of a page where it is ours."""
    return shown_as(tag) if isinstance(board, Board) else tag


def log_curves(trainer: L.Trainer, curves: Mapping[str, float], step: int) -> None:
    """Scalars by tag, to every logger: `trainer.logger` is only the first of several."""
    for logger in trainer.loggers:
        logger.log_metrics(dict(curves), step=step)


def takes_pictures(trainer: L.Trainer) -> bool:
    """Whether a logger shows pictures: TensorBoard's, and those with a method `log_image` as Weights & Biases' has."""
    return any(isinstance(logger, TensorBoardLogger) or _shows(logger, "log_image") for logger in trainer.loggers)


def log_picture(trainer: L.Trainer, tag: str, sheet: Tensor, step: int) -> None:
    """An image ``(3, height, width)`` uint8 to every logger that shows pictures."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(tag_on(logger, tag), sheet, global_step=step)
        elif _shows(logger, "log_image"):
            from PIL import Image

            shown: Any = logger
            shown.log_image(tag, [Image.fromarray(sheet.permute(1, 2, 0).numpy())], step=step)


def log_lines(trainer: L.Trainer, tag: str, lines: Mapping[str, str], step: int) -> None:
    """Named lines of text to every logger that shows text: a list in TensorBoard, a table where there is `log_text`."""
    for logger in trainer.loggers if lines else ():
        if isinstance(logger, TensorBoardLogger):
            text = "\n".join(f"- **{name}**: {line}" for name, line in lines.items())
            logger.experiment.add_text(tag, text, global_step=step)
        elif _shows(logger, "log_text"):
            shown: Any = logger
            shown.log_text(tag, columns=["name", "line"], data=[list(line) for line in lines.items()], step=step)


def _shows(logger: Any, method: str) -> bool:
    return callable(getattr(logger, method, None))
