"""Judges that put a question about an image to an image-text model of transformers."""

from typing import TYPE_CHECKING, Any

from graft_lightning.domains.text_to_image.rewards.base import NetworkJudge

if TYPE_CHECKING:
    from PIL.Image import Image


class QuestionJudge(NetworkJudge):
    """A `NetworkJudge` whose network is any image-text-to-text model of transformers.

    Args:
        model: a folder or an id on the Hugging Face hub.
        chat: ask in the model's chat template; False for models without one: a question is then the whole text, with
            the model's image token where its processor does not put one by itself.
        dtype: of the network's weights.
        batch_size: images judged at a time.
    """

    def __init__(self, model: str, chat: bool = True, dtype: str = "bfloat16", batch_size: int = 16) -> None:
        super().__init__(dtype, batch_size)
        self.model = model
        self.chat = chat
        self._processor: Any = None

    def load(self) -> Any:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self._processor = self.fetch(AutoProcessor.from_pretrained)
        if self.chat and not getattr(self._processor, "chat_template", None):
            raise ValueError(
                f"chat: {self.model!r} has no chat template; set `chat: false` and write into `question` the whole "
                "text that the model expects, with its image token if its processor does not add one"
            )
        network = self.fetch_network(AutoModelForImageTextToText)
        # A decoder goes on at the right end, so that shorter questions are filled up on the left. An encoder measures
        # distances between tokens: filling must not come between the image and the question.
        encodes = network.config.get_text_config().is_encoder_decoder or network.config.is_encoder_decoder
        self._processor.tokenizer.padding_side = "right" if encodes else "left"
        return network

    def asked(self, images: "list[Image]", questions: list[str]) -> Any:
        """What the network is given for images and questions, as the processor makes it."""
        if not self.chat:
            return self._processor(images=images, text=questions, padding=True, return_tensors="pt")
        conversations = [
            [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": question}]}]
            for image, question in zip(images, questions, strict=True)
        ]
        return self._processor.apply_chat_template(
            conversations,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True},
        )
