"""A judge that writes its score: an image-text model is asked for a number, and the number is read from its answer."""

import math
import re
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from graft_lightning.domains.text_to_image.rewards.questions import QuestionJudge

if TYPE_CHECKING:
    from PIL.Image import Image

_QUESTION = (
    'How well does this image show "{}"? Answer with one number, from 0 (not at all) to 10 (perfectly), and no more.'
)


class WrittenScore(QuestionJudge):
    r"""The number that an image-text model of transformers writes, decoded greedily.

    An answer without a number, or with one outside of the scale, is worth NaN: it is counted, and never accepted. The
    same image and prompt always have the same score; `CachedReward` around it remembers them on disk.

    Args:
        model: a folder or an id on the Hugging Face hub.
        question: ``{}`` stands for the prompt.
        pattern: a regular expression; the score is the first group of its first match in the answer, or the whole
            match if it has no group. A model that reasons before it decides is asked to end with, say,
            "Score: 7", and given ``Score: (\d+)`` and more tokens.
        lowest: the low end of the scale.
        highest: its high end.
        max_new_tokens: the longest answer.
        chat: ask in the model's chat template; False for models without one: ``question`` is then the whole text,
            with the model's image token where its processor does not put one by itself.
        dtype: of the network's weights.
        batch_size: images judged at a time.
    """

    def __init__(
        self,
        model: str,
        question: str = _QUESTION,
        pattern: str = r"-?\d+(?:\.\d+)?",
        lowest: float = 0.0,
        highest: float = 10.0,
        max_new_tokens: int = 16,
        chat: bool = True,
        dtype: str = "bfloat16",
        batch_size: int = 16,
    ) -> None:
        super().__init__(model, chat, dtype, batch_size)
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"pattern: {pattern!r} is no regular expression ({error})") from None
        if not lowest < highest:
            raise ValueError(f"highest: {highest} is not above lowest, {lowest}")
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens: {max_new_tokens} is not at least 1")
        self.question = question
        self.pattern = pattern
        self.lowest = lowest
        self.highest = highest
        self.max_new_tokens = max_new_tokens

    def judge(self, images: "list[Image]", conditions: list[str]) -> Tensor:
        answers = self.answers(images, conditions)
        return torch.tensor([read_number(text, self.pattern, self.lowest, self.highest) for text in answers])

    def answers(self, images: "list[Image]", conditions: list[str]) -> list[str]:
        """What the model writes about each image and its prompt."""
        network = self.network  # loads the processor too
        inputs = self.asked(images, [self.question.replace("{}", condition) for condition in conditions])
        inputs.pop("labels", None)  # PaliGemma's processor makes some, for training
        generated = network.generate(
            **inputs.to(self._device, network.dtype),
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
            num_beams=1,
            # what a model's own configuration would do to the answers: greedy is greedy
            temperature=None,
            top_p=None,
            top_k=None,
            repetition_penalty=1.0,
            output_scores=True,
            return_dict_in_generate=True,
        )
        # sequences begin with the question, or a start token, or neither, as the architecture has it; scores do not
        tokens = torch.stack([scores.argmax(-1) for scores in generated.scores], 1).tolist()
        return [self._processor.tokenizer.decode(ended(row, self._ends()), skip_special_tokens=True) for row in tokens]

    def _ends(self) -> set[int]:
        configured = self.network.generation_config.eos_token_id
        found = configured if isinstance(configured, list) else [configured]
        return {token for token in [*found, self._processor.tokenizer.eos_token_id] if token is not None}


def ended(tokens: list[int], ends: set[int]) -> list[int]:
    """The tokens before the first that ends an answer."""
    return tokens[: next((place for place, token in enumerate(tokens) if token in ends), len(tokens))]


def read_number(text: str, pattern: str, lowest: float, highest: float) -> float:
    """The number in an answer; NaN if there is none, or one outside of the scale."""
    match = re.search(pattern, text)
    if match is None:
        return math.nan
    try:
        number = float(match[1] if match.re.groups else match[0])
    except (TypeError, ValueError):
        return math.nan
    return number if lowest <= number <= highest else math.nan
