"""Soft-TIFA, the score of GenEval 2: how probable the right answers to questions about a prompt's parts are.

References:
    Kamath et al., GenEval 2: Addressing Benchmark Drift in Text-to-Image Evaluation (2025), arXiv 2512.16853.
"""

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from graft_lightning.domains.text_to_image.prompts.geneval2 import Questions, read_questions
from graft_lightning.domains.text_to_image.rewards.questions import QuestionJudge
from graft_lightning.types import SettingsError

if TYPE_CHECKING:
    from PIL.Image import Image

_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_BLANKS = " \u0120\u2581"
"""As texts, as byte-level tokenizers and as SentencePiece write them."""
_REDUCTIONS = ("geometric_mean", "mean", "product")


class SoftTIFA(QuestionJudge):
    """The mean over a prompt's questions of P(right answer | image, question), by any image-text model of transformers.

    P is the probability of the answer's first token, summed over its spellings: with a capital or without, after a
    blank or not, a number up to ten as a word or in digits. A first token that is only a blank begins every answer, and
    is not counted. GenEval 2 is published with Qwen3-VL-8B-Instruct.

    Args:
        model: a folder or an id on the Hugging Face hub.
        questions: a file of JSON lines with ``prompt`` and ``vqa_list``, a list of [question, answer];
            ``geneval2_data.jsonl`` of GenEval 2, or one of your own for your own prompts.
        reduction: over the questions of a prompt: "geometric_mean" (Soft-TIFA GM, about whole prompts), "mean"
            (Soft-TIFA AM, about their parts) or "product" (the probability that every answer is right, if they were
            independent).
        question: what is asked; ``{}`` stands for the question of the file.
        chat: ask in the model's chat template; False for models without one: ``question`` is then the whole text,
            with the model's image token where its processor does not put one by itself.
        dtype: of the network's weights.
        batch_size: images, and questions, judged at a time.
    """

    def __init__(
        self,
        model: str,
        questions: str,
        reduction: Literal["geometric_mean", "mean", "product"] = "geometric_mean",
        question: str = "{} Answer in one word.",
        chat: bool = True,
        dtype: str = "bfloat16",
        batch_size: int = 16,
    ) -> None:
        super().__init__(model, chat, dtype, batch_size)
        if "{}" not in question:
            raise ValueError(f"question: {question!r} has no {{}} for the question of the file")
        if reduction not in _REDUCTIONS:
            raise ValueError(f"reduction: {reduction!r} is not one of {', '.join(_REDUCTIONS)}")
        self.questions = questions
        self.reduction = reduction
        self.question = question
        self._read: Questions | None = None

    def judge(self, images: "list[Image]", conditions: list[str]) -> Tensor:
        asked = [(row, *pair) for row, prompt in enumerate(conditions) for pair in self.of(prompt)]
        found = []
        for start in range(0, len(asked), self._batch_size):
            rows, questions, answers = zip(*asked[start : start + self._batch_size], strict=True)
            found.append(self.probabilities([images[row] for row in rows], questions, answers))
        parts = torch.cat(found).split([len(self.of(prompt)) for prompt in conditions])
        return torch.stack([reduced(part, self.reduction) for part in parts])

    def of(self, prompt: str) -> list[tuple[str, str]]:
        """The questions about a prompt, with their answers.

        Raises:
            SettingsError: if the file has none.
        """
        if self._read is None:
            self._read = read_questions(self.questions)
        if prompt not in self._read:
            raise SettingsError(
                f"questions: {self.questions} has no questions about {prompt!r}; it has them about {len(self._read)} "
                f"prompts, such as {next(iter(self._read))!r}. Draw those (GenEval2), or write questions about yours"
            )
        return self._read[prompt]

    def probabilities(self, images: "list[Image]", questions: tuple[str, ...], answers: tuple[str, ...]) -> Tensor:
        """P(answer | image, question), float32 ``(batch,)`` on the CPU."""
        network = self.network  # loads the processor too
        inputs = self.asked(images, [self.question.replace("{}", question) for question in questions])
        inputs.pop("labels", None)  # PaliGemma's processor makes some, for training
        generated = network.generate(
            **inputs.to(self._device, network.dtype),
            max_new_tokens=1,
            do_sample=False,
            num_beams=1,
            output_logits=True,
            return_dict_in_generate=True,
        )
        p = generated.logits[0].float().softmax(-1).cpu()
        return torch.stack([p[row, self.first_tokens(answer)].sum() for row, answer in enumerate(answers)])

    def first_tokens(self, answer: str) -> list[int]:
        """The token ids with which the spellings of an answer begin, each once.

        Raises:
            ValueError: if there are none.
        """
        tokenizer = self._processor.tokenizer
        found: dict[int, Any] = {}
        for spelling in spellings(answer):
            ids = tokenizer(spelling, add_special_tokens=False).input_ids
            if ids and ids[0] != tokenizer.unk_token_id and tokenizer.convert_ids_to_tokens(ids[0]).strip(_BLANKS):
                found[ids[0]] = None
        if not found:
            raise ValueError(f"questions: the tokenizer of {self.model!r} has no token that begins {answer!r}")
        return list(found)


def spellings(answer: str) -> list[str]:
    """How an answer may be written: "two" is also "Two" and "2", each also after a blank."""
    words = {answer, answer.lower(), answer.capitalize()}
    if answer.lower() in _NUMBERS:
        words.add(str(_NUMBERS.index(answer.lower())))
    elif answer.isdecimal() and int(answer) < len(_NUMBERS):
        words |= {_NUMBERS[int(answer)], _NUMBERS[int(answer)].capitalize()}
    return [blank + word for word in sorted(words) for blank in ("", " ")]


def reduced(p: Tensor, reduction: str) -> Tensor:
    """One number for the probabilities ``(questions,)`` of a prompt."""
    if reduction == "mean":
        return p.mean()
    return p.log().mean().exp() if reduction == "geometric_mean" else p.prod()
