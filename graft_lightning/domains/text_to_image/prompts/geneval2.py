"""GenEval 2: 800 prompts of growing compositionality, each with questions about its parts.

References:
    Kamath et al., GenEval 2: Addressing Benchmark Drift in Text-to-Image Evaluation (2025), arXiv 2512.16853.
"""

from pathlib import Path
from typing import Any

from graft_lightning.domains.text_to_image.prompts.base import Prompt, PromptSet, read_text
from graft_lightning.domains.text_to_image.prompts.plain import json_lines
from graft_lightning.types import SettingsError

_WHERE = (
    "GenEval 2's is geneval2_data.jsonl in github.com/facebookresearch/GenEval2 (CC BY-NC 4.0); set the path to a copy "
    'of it, or to a file of your own with lines such as {"prompt": "two cats", "vqa_list": [["How many cats?", "two"]]}'
)
_FORM = 'expected a list of [question, answer], such as [["How many cats are in the image?", "two"]]'

Questions = dict[str, list[tuple[str, str]]]
"""The questions about each prompt, with their right answers."""


class GenEval2(PromptSet):
    """The prompts of GenEval 2, tagged with the number of their atoms ("3 atoms").

    Args:
        path: ``geneval2_data.jsonl``, or a file of that form.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self) -> list[Prompt]:
        """Reads the file.

        Raises:
            MissingPromptsError: if it is absent.
            SettingsError: if an object has no prompt; names it.
        """
        prompts = []
        for number, record in enumerate(_records(self.path)):
            atoms = record.get("atom_count")
            prompts.append(Prompt(f"{number:04d}", record["prompt"], () if atoms is None else (f"{atoms} atoms",)))
        return prompts


def read_questions(path: str) -> Questions:
    """The questions of ``geneval2_data.jsonl``, or of a file of that form, by the text of the prompt.

    Raises:
        MissingPromptsError: if it is absent.
        SettingsError: if an object has no prompt, or no questions with answers, or two ask different ones about the
            same prompt; names them.
    """
    found: Questions = {}
    numbers: dict[str, int] = {}
    for number, record in enumerate(_records(path), start=1):
        pairs = record.get("vqa_list")
        if not isinstance(pairs, list) or not pairs or not all(_is_pair(pair) for pair in pairs):
            raise SettingsError(f"{path}: object {number} has vqa_list={pairs!r}; {_FORM}")
        prompt, asked = record["prompt"], [(question, answer.strip()) for question, answer in pairs]
        first = numbers.setdefault(prompt, number)
        if found.setdefault(prompt, asked) != asked:
            raise SettingsError(
                f"{path}: objects {first} and {number} ask different questions about the same prompt {prompt!r}; write "
                "all of them into one"
            )
    return found


def _records(path: str) -> list[dict[str, Any]]:
    records = json_lines(read_text(Path(path).expanduser(), _WHERE), path)
    for number, record in enumerate(records, start=1):
        if not isinstance(record.get("prompt"), str):
            raise SettingsError(f"{path}: object {number} has prompt={record.get('prompt')!r}; expected a text")
    return records


def _is_pair(pair: Any) -> bool:
    return (
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) and bool(text.strip()) for text in pair)
    )
