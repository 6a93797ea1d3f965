"""GenEval: 553 prompts about objects, their number, colour and position.

References:
    Ghosh et al., GenEval: An Object-Focused Framework for Evaluating Text-to-Image Alignment (2023), arXiv 2310.11513.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graft_lightning.domains.text_to_image.prompts.base import Prompt, PromptSet, read_text
from graft_lightning.domains.text_to_image.prompts.plain import json_lines

_WHERE = (
    "GenEval's prompts are prompts/evaluation_metadata.jsonl in github.com/djghosh13/geneval; "
    "set `path` to a copy of it"
)


class GenEval(PromptSet):
    """The prompts of GenEval, tagged with their task; the official overall metric is the mean over the six tasks.

    Args:
        path: ``evaluation_metadata.jsonl``, or the folder that holds it.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self) -> list[Prompt]:
        """Reads the file.

        Raises:
            MissingPromptsError: if it is absent.
            ValueError: if an object lacks prompt or tag; names it.
        """
        records = self.metadata()
        for number, record in enumerate(records, start=1):
            for field in ("prompt", "tag"):
                if not isinstance(record.get(field), str):
                    raise ValueError(f"{self.path}: object {number} has {field}={record.get(field)!r}; expected a text")
        return [Prompt(f"{number:05d}", record["prompt"], (record["tag"],)) for number, record in enumerate(records)]

    def metadata(self) -> list[dict[str, Any]]:
        """What every prompt asks for, as its file says it, in the order of `prompts`."""
        path = Path(self.path).expanduser()
        path = path / "evaluation_metadata.jsonl" if path.is_dir() else path
        return json_lines(read_text(path, _WHERE), self.path)

    def overall(self, prompts: Sequence[Prompt], scores: Tensor) -> float:
        tasks = sorted({tag for prompt in prompts for tag in prompt.tags})
        means = [scores[[row for row, p in enumerate(prompts) if task in p.tags]].mean() for task in tasks]
        return float(torch.stack(means).mean())
