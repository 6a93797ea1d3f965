"""VQAScore: the probability that a model answers "yes" when it is asked whether the image shows the prompt.

References:
    Lin et al., Evaluating Text-to-Visual Generation with Image-to-Text Generation (2024), arXiv 2404.01291.
"""

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from graft_lightning.domains.text_to_image.rewards.questions import QuestionJudge

if TYPE_CHECKING:
    from PIL.Image import Image


class VQAScore(QuestionJudge):
    r"""P(answer | image, question) by any image-text-to-text model of transformers, asked in its own chat template.

    The answer's tokens a_1, ..., a_n are forced one after the other, and their probabilities taken from the raw logits:
    Π P(a_i | a_<i, image, question), or its n-th root. What the authors of VQAScore use for some models:

    ============  ==========================================================================  ======  ==============
    model         question                                                                    answer  else
    ============  ==========================================================================  ======  ==============
    Qwen2.5-VL    Does this figure show "{}"? Please answer Yes or No.                        Yes     the defaults
    LLaVA 1.5     Does this figure show "{}"? Please answer yes or no.                        Yes     geometric_mean,
                                                                                                      include_end
    InstructBLIP  Question: Does this figure show "{}"? Please answer yes or no.              yes     geometric_mean,
                                                                                                      include_end,
                                                                                                      chat: false
    ============  ==========================================================================  ======  ==============

    Args:
        model: a folder or an id on the Hugging Face hub.
        question: ``{}`` stands for the prompt.
        answer: the answer whose probability is the score.
        reduction: "product", the probability of the answer, or "geometric_mean" of its tokens' probabilities.
        include_end: count the end-of-sequence token as the answer's last.
        chat: ask in the model's chat template; False for models without one: ``question`` is then the whole text,
            with the model's image token where its processor does not put one by itself.
        dtype: of the network's weights.
        batch_size: images judged at a time.
    """

    def __init__(
        self,
        model: str,
        question: str = 'Does this figure show "{}"? Please answer Yes or No.',
        answer: str = "Yes",
        reduction: Literal["product", "geometric_mean"] = "product",
        include_end: bool = False,
        chat: bool = True,
        dtype: str = "bfloat16",
        batch_size: int = 16,
    ) -> None:
        super().__init__(model, chat, dtype, batch_size)
        if "{}" not in question:
            raise ValueError(f"question: {question!r} has no {{}} for the prompt")
        if reduction not in ("product", "geometric_mean"):
            raise ValueError(f"reduction: {reduction!r} is not product or geometric_mean")
        self.question = question
        self.answer = answer
        self.reduction = reduction
        self.include_end = include_end

    def judge(self, images: "list[Image]", conditions: list[str]) -> Tensor:
        network = self.network  # loads the processor too
        inputs = self.asked(images, [self.question.replace("{}", condition) for condition in conditions])
        inputs.pop("labels", None)  # PaliGemma's processor makes some, for training
        log_p = answer_log_probabilities(network, inputs.to(self._device, network.dtype), self.answer_tokens())
        return (log_p.sum(1) if self.reduction == "product" else log_p.mean(1)).exp()

    def answer_tokens(self) -> list[int]:
        """The token ids of the answer.

        Raises:
            ValueError: if the tokenizer does not know the answer.
        """
        tokenizer = self._processor.tokenizer
        ids = tokenizer(self.answer, add_special_tokens=False).input_ids
        if not ids or tokenizer.unk_token_id in ids:
            raise ValueError(f"answer: the tokenizer of {self.model!r} does not know {self.answer!r}")
        return [*ids, tokenizer.eos_token_id] if self.include_end else ids


def answer_log_probabilities(network: Any, inputs: Any, answer: list[int]) -> Tensor:
    """Return log P(a_i | a_<i, inputs) of every token of the answer, float32 ``(batch, tokens)``.

    The network's own ``generate`` runs, with the answer forced upon it, because it knows what differs between
    architectures: positions under left padding, bidirectional prefixes, decoder start tokens, the logits of the last
    position alone. What is read are its raw logits, before any processing.
    """
    generated = network.generate(
        **inputs,
        max_new_tokens=len(answer),
        do_sample=False,
        num_beams=1,
        use_cache=len(answer) > 1,
        output_logits=True,
        return_dict_in_generate=True,
        logits_processor=[_Forced(answer)],
    )
    steps = [logits.float().log_softmax(-1)[:, a] for logits, a in zip(generated.logits, answer, strict=True)]
    return torch.stack(steps, 1)


class _Forced:
    """A logits processor that leaves one token possible at each step."""

    def __init__(self, tokens: list[int]) -> None:
        self.coming = iter(tokens)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        forced = torch.full_like(scores, float("-inf"))
        forced[:, next(self.coming)] = 0
        return forced
