"""GenAI-Bench: compositional prompts tagged with the skills that they ask for, and human ratings of six models.

References:
    Li et al., GenAI-Bench: Evaluating and Improving Compositional Text-to-Visual Generation (2024), arXiv 2406.13743.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from graft_lightning.domains.text_to_image.prompts.base import Prompt, PromptSet, read_text
from graft_lightning.types import SettingsError

IMAGES, SKILLS = "genai_image.json", "genai_skills.json"
_WHERE = (
    f"GenAI-Bench is the two files {IMAGES} and {SKILLS}, from https://huggingface.co/datasets/BaiqiL/GenAI-Bench-1600 "
    "or .../zhiqiulin/GenAI-Bench-527, copied in github.com/PKU-YuanGroup/UniWorld-V1 under "
    "univa/eval/genai/eval_prompts; set `folder` to the folder that holds both"
)


class GenAIBench(PromptSet):
    """The 1,600 prompts of GenAI-Bench, or the 527 of the VQAScore paper; the files decide.

    Skills are matched by prompt id (ids count from 0 in the large set and from 1 in the small one). The official
    overall metric is the mean over the prompts that carry a tag: 1,593 of the 1,600.

    Args:
        folder: holds ``genai_image.json`` and ``genai_skills.json``.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def read(self) -> list[Prompt]:
        """Reads both files.

        Raises:
            MissingPromptsError: if one is absent.
            ValueError: if they do not belong together, or are of another form; names the entry.
        """
        tags: dict[int, list[str]] = {}
        for tag, ids in self._json(SKILLS).items():
            if not isinstance(ids, list) or not all(type(number) is int for number in ids):
                raise SettingsError(
                    f"{self.folder}: {SKILLS} has {tag!r}: {ids!r:.80}; expected the numbers of prompts"
                )
            for number in ids:
                tags.setdefault(number, []).append(tag)
        images = self._json(IMAGES)
        for key, entry in images.items():
            if not key.isdecimal() or not isinstance(entry, dict) or not isinstance(entry.get("prompt"), str):
                raise SettingsError(
                    f"{self.folder}: {IMAGES} has {key!r}: {entry!r:.80}; expected a number and a prompt"
                )
        if foreign := sorted(tags.keys() - set(map(int, images))):
            raise ValueError(
                f"{self.folder}: {SKILLS} tags prompt {foreign[0]}, which {IMAGES} does not hold; "
                "the two files come from different sizes of the benchmark"
            )
        return [Prompt(key, entry["prompt"], tuple(tags.get(int(key), ()))) for key, entry in images.items()]

    def overall(self, prompts: Sequence[Prompt], scores: Tensor) -> float:
        tagged = [row for row, prompt in enumerate(prompts) if prompt.tags]
        return float(scores[tagged].mean())

    def human_ratings(self) -> dict[str, list[float]]:
        """By model, the mean of the three human ratings (1 to 5) of every prompt, in the order of `prompts`."""
        ratings: dict[str, list[float]] = {}
        for entry in self._json(IMAGES).values():
            for model, given in entry["models"].items():
                ratings.setdefault(model, []).append(sum(given) / len(given))
        return ratings

    def _json(self, name: str) -> dict[str, Any]:
        file = Path(self.folder).expanduser() / name
        try:
            found = json.loads(read_text(file, _WHERE))
        except json.JSONDecodeError as error:
            raise ValueError(f"{file}, line {error.lineno}: not JSON ({error.msg})") from error
        if not isinstance(found, dict):
            raise ValueError(f"{file}: a {type(found).__name__}, expected an object")
        return found
