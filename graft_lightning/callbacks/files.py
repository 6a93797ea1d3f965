"""Files that a run leaves: samples of ``predict``, weights of a pre-trained reference."""

import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import BasePredictionWriter

from graft_lightning.durable import append_line, write_text
from graft_lightning.runs import run_folder
from graft_lightning.types import Draws, SettingsError

log = logging.getLogger(__name__)


class WriteSamples(BasePredictionWriter):
    """Writes the samples of ``predict`` to files, with an index ``samples.jsonl`` of conditions and seeds.

    Args:
        folder: where; ``samples`` in the run's folder by default.
    """

    def __init__(self, folder: str | None = None) -> None:
        super().__init__("batch")
        self.folder = folder

    def place(self, run: Path) -> Path:
        """The folder of the samples of a run."""
        return Path(self.folder) if self.folder else run / "samples"

    def write_on_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: Any,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Draws,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        folder = Path(self.folder) if self.folder else self.place(run_folder(trainer))
        folder.mkdir(parents=True, exist_ok=True)
        rows = list(zip(batch.conditions, batch.draw.tolist(), batch.seeds.tolist(), strict=True))
        if (batch.draw < 0).all():  # a process had nothing left to draw
            rows, paths = [], []
        else:
            names = [f"{slug(text)}-{number}-{seed % 10**6:06d}" for text, number, seed in rows]
            paths = pl_module.decoder.write(prediction, names, folder)
        index = folder / ("samples.jsonl" if trainer.world_size == 1 else f"samples-{trainer.global_rank}.jsonl")
        if batch_idx == 0:
            write_text(index, "")
        told = [
            {"file": path.name, "condition": text, "draw": number, "seed": seed}
            for (text, number, seed), path in zip(rows, paths, strict=True)
        ]
        if told:
            append_line(index, "\n".join(json.dumps(line, ensure_ascii=False) for line in told))


class SaveReference(L.Callback):
    """Writes the weights that a fit has ended with as a reference that configurations can name.

    Args:
        path: of the safetensors file, or of the folder where the reference is one; where the module's own reference
            reads its weights by default.
    """

    def __init__(self, path: str | None = None) -> None:
        self.path = path

    def teardown(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        """Not when the fit ends: then other callbacks choose the weights."""
        if stage != "fit" or not trainer.is_global_zero or not getattr(pl_module, "trains", False):
            return
        provenance = {
            "steps": trainer.global_step,
            "seed": trainer.datamodule.seed,  # type: ignore[attr-defined]
            "class": type(pl_module.reference).__qualname__,
            "method": pl_module.method,
        }
        reference = pl_module.reference
        path = Path(self.path).expanduser() if self.path else reference.weights_file
        if path is None:
            raise SettingsError(
                f"SaveReference.path is not set, and {type(reference).__name__} names no file of its own: set it"
            )
        reference.save(pl_module.network, path, provenance)
        log.info("the reference is in %s", path)


def slug(text: str) -> str:
    """A text as a file name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or "sample"
