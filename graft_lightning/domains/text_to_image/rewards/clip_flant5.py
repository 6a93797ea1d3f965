"""VQAScore by CLIP-FlanT5, computed as its authors compute it.

References:
    Lin et al., Evaluating Text-to-Visual Generation with Image-to-Text Generation (2024), arXiv 2404.01291;
    github.com/linzhiqiu/t2v_metrics, version 3.0 (the last with this model).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from graft_lightning.domains.base.loading import loaded
from graft_lightning.domains.text_to_image.images import squared
from graft_lightning.domains.text_to_image.rewards.base import DTYPES, NetworkJudge
from graft_lightning.domains.text_to_image.rewards.clip_flant5_network import (
    CLIPFlanT5,
    load_network,
    read_config,
    save_network,
    vision_source,
)
from graft_lightning.durable import replacing_folder
from graft_lightning.refusals import SettingsError

if TYPE_CHECKING:
    from PIL.Image import Image

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
CONVERSATIONS = {
    "chat": (f"{SYSTEM} USER: ", "\n{} ASSISTANT: "),
    "no_system": ("USER: ", "\n{} ASSISTANT: "),
    "no_user": ("", "\n{} : "),
    "plain": ("", "{}"),
}
"""Text before and after the image; ``{}`` stands for the question. The last is that of the authors' first stage."""
LONGEST = 2048
"""Tokens of both texts, the image counted as one."""


class CLIPFlanT5Score(NetworkJudge):
    """√(P(Yes) P(</s> | Yes)): the geometric mean over the tokens of the answer, end of sequence included.

    The number that GenAI-Bench tabulates as VQAScore; `VQAScore` with P(Yes) alone is its square where the end is
    certain. Text before and after the image is tokenized apart, so that *both* parts end in </s>. Images are put into
    the middle of a square of CLIP's mean colour.

    Args:
        model: a folder or an id on the Hugging Face hub, in the published layout
            (`graft_lightning.domains.text_to_image.rewards.clip_flant5_network.split_weights`).
        tokenizer: where the tokenizer comes from; by default the model's folder if it holds one, else
            google/flan-t5-xxl (all Flan-T5 share it).
        question: ``{}`` stands for the prompt.
        answer: the answer whose probability is the score.
        conversation: "chat" as published, or without the system message ("no_system"), also without roles ("no_user"),
            or the bare question ("plain").
        dtype: of the network's weights; as published bfloat16, computed under autocast.
        batch_size: images judged at a time.
    """

    def __init__(
        self,
        model: str = "zhiqiulin/clip-flant5-xxl",
        tokenizer: str | None = None,
        question: str = 'Does this figure show "{}"? Please answer yes or no.',
        answer: str = "Yes",
        conversation: Literal["chat", "no_system", "no_user", "plain"] = "chat",
        dtype: str = "bfloat16",
        batch_size: int = 16,
    ) -> None:
        super().__init__(dtype, batch_size)
        if "{}" not in question:
            raise ValueError(f"question: {question!r} has no {{}} for the prompt")
        if conversation not in CONVERSATIONS:
            raise ValueError(f"conversation: {conversation!r} is not one of {', '.join(CONVERSATIONS)}")
        self.model = model
        self.tokenizer = tokenizer
        self.question = question
        self.answer = answer
        self.conversation = conversation
        self._tokenizer: Any = None
        self._processor: Any = None

    def load(self) -> CLIPFlanT5:
        from transformers import CLIPImageProcessorPil, T5Tokenizer

        source = vision_source(self.model, read_config(self.model))
        # the processor that works on images, whatever else is installed: the other resizes differently
        self._processor = loaded(CLIPImageProcessorPil.from_pretrained, source, f"{self.name}, image encoder")
        kept = (Path(self.model).expanduser() / "tokenizer_config.json").is_file()
        own = self.model if kept else "google/flan-t5-xxl"
        self._tokenizer = loaded(
            T5Tokenizer.from_pretrained, self.tokenizer or own, f"{self.name}, setting `tokenizer`"
        )
        return load_network(self.model, DTYPES[self.dtype])

    def save(self, folder: str) -> None:
        """Writes network, tokenizer and image processor, so that the folder alone can be given as ``model``.

        All of it or nothing; what was there is replaced.

        Raises:
            SettingsError: if the folder holds something else.
        """
        target = Path(folder)
        if target.is_dir() and any(target.iterdir()) and not (target / "config.json").is_file():
            raise SettingsError(f"folder={folder} is there and holds no network (no config.json); name another one")
        network = self.network  # loads tokenizer and processor too
        with replacing_folder(target) as temporary:
            save_network(network, str(temporary))
            self._tokenizer.save_pretrained(temporary)
            self._processor.save_pretrained(str(temporary / "vision_tower"))

    def judge(self, images: "list[Image]", conditions: list[str]) -> Tensor:
        network = self.network  # loads tokenizer and processor too
        before, after = zip(*(self.texts(condition) for condition in conditions), strict=True)
        labels = self._ids(self.answer).expand(len(images), -1)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self.dtype == "bfloat16"):
            logits = network(self.pixels(images), before, after, labels)
        # the authors cut the vocabulary to the tokenizer's: Flan-T5 has 28 rows that no token uses
        log_p = logits[..., : len(self._tokenizer)].float().log_softmax(-1)
        return log_p.gather(2, labels[..., None]).squeeze(2).mean(1).exp()

    def texts(self, condition: str) -> tuple[Tensor, Tensor]:
        """Token ids of the texts before and after the image, for one prompt."""
        before, after = CONVERSATIONS[self.conversation]
        ids = self._ids(before)
        question = self.question.replace("{}", condition)
        return ids, self._ids(after.replace("{}", question))[: LONGEST - len(ids) - 1]

    def pixels(self, images: "list[Image]") -> Tensor:
        """Images as the image encoder wants them, on its device."""
        red, green, blue = (int(level * 255) for level in self._processor.image_mean)
        inputs = self._processor([squared(image, (red, green, blue)) for image in images], return_tensors="pt")
        return inputs["pixel_values"].to(self._device, self.network.dtype)

    def _ids(self, text: str) -> Tensor:
        return torch.tensor(self._tokenizer(text).input_ids, device=self._device)
