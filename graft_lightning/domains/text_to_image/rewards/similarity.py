"""How close an image and its prompt lie in a common embedding: CLIPScore, PickScore, HPS.

References:
    Hessel et al., CLIPScore (2021), arXiv 2104.08718. Kirstain et al., Pick-a-Pic (2023), arXiv 2305.01569.
    Wu et al., Human Preference Score v2 (2023), arXiv 2306.09341.
"""

from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.nn import functional as F

from graft_lightning.domains.text_to_image.images import squared
from graft_lightning.domains.text_to_image.rewards.base import NetworkJudge

if TYPE_CHECKING:
    from PIL.Image import Image


class EmbeddingSimilarity(NetworkJudge):
    """cos(image, prompt) by any dual encoder that transformers loads (CLIP, SigLIP).

    Prompts are cut at the length of the text encoder (77 tokens for CLIP).

    Args:
        model: a folder or an id on the Hugging Face hub.
        processor: where tokenizer and image preprocessing come from; the model's own by default.
        prefix: put before every prompt.
        dtype: of the network's weights.
        batch_size: images judged at a time.
    """

    def __init__(
        self,
        model: str,
        processor: str | None = None,
        prefix: str = "",
        dtype: str = "float32",
        batch_size: int = 32,
    ) -> None:
        super().__init__(dtype, batch_size)
        self.model = model
        self.processor = processor
        self.prefix = prefix
        self._processor: Any = None

    def load(self) -> Any:
        from transformers import AutoModel, AutoProcessor

        self._processor = self.fetch(AutoProcessor.from_pretrained, "processor" if self.processor else "model")
        return self.fetch_network(AutoModel)

    def judge(self, images: "list[Image]", conditions: list[str]) -> Tensor:
        return self.from_cosine(self.cosine(images, conditions))

    def from_cosine(self, cosine: Tensor) -> Tensor:
        """The score, of a cosine ``(batch,)``."""
        return cosine

    def cosine(self, images: "list[Image]", conditions: list[str]) -> Tensor:
        """Cosine of the angle between each image and its prompt, float32 ``(batch,)``."""
        network = self.network
        inputs = self._processor(
            text=[self.prefix + condition for condition in conditions],
            images=images,
            # to the full length always: SigLIP was trained so, and CLIP's causal text encoder does not see it
            padding="max_length",
            truncation=True,
            max_length=network.config.text_config.max_position_embeddings,
            return_tensors="pt",
        ).to(self._device, network.dtype)
        pixels = inputs.pop("pixel_values")
        text = features(network.get_text_features(**inputs))
        return F.cosine_similarity(features(network.get_image_features(pixel_values=pixels)), text, dim=-1)


class CLIPScore(EmbeddingSimilarity):
    """w max(cos, 0) (Hessel et al., their Eq. 1); T2I-CompBench's is w = 1 without prefix.

    Args:
        model: a folder or an id on the Hugging Face hub.
        processor: where tokenizer and image preprocessing come from; the model's own by default.
        prefix: put before every prompt.
        weight: w.
        dtype: of the network's weights.
        batch_size: images judged at a time.
    """

    def __init__(
        self,
        model: str = "openai/clip-vit-base-patch32",
        processor: str | None = None,
        prefix: str = "A photo depicts ",
        weight: float = 2.5,
        dtype: str = "float32",
        batch_size: int = 32,
    ) -> None:
        super().__init__(model, processor, prefix, dtype, batch_size)
        self.weight = weight

    def from_cosine(self, cosine: Tensor) -> Tensor:
        return self.weight * cosine.clamp(min=0)


class PickScore(EmbeddingSimilarity):
    """exp(logit scale) cos: the utility whose difference between two images is the log odds of preferring one.

    Args:
        model: a folder or an id on the Hugging Face hub.
        processor: where tokenizer and image preprocessing come from.
        dtype: of the network's weights.
        batch_size: images judged at a time.
    """

    def __init__(
        self,
        model: str = "yuvalkirstain/PickScore_v1",
        processor: str | None = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        dtype: str = "float32",
        batch_size: int = 32,
    ) -> None:
        super().__init__(model, processor, "", dtype, batch_size)

    def from_cosine(self, cosine: Tensor) -> Tensor:
        return self.network.logit_scale.exp().float() * cosine


class HPSv2(EmbeddingSimilarity):
    """cos by the human-preference CLIP; an image that is not square is first put on a black one.

    The authors publish weights of open_clip; transformers needs a converted copy, such as the default's.

    Args:
        model: a folder or an id on the Hugging Face hub, in the layout of transformers' CLIPModel.
        processor: where tokenizer and image preprocessing come from; all CLIP models at 224 pixels share it.
        dtype: of the network's weights.
        batch_size: images judged at a time.
    """

    def __init__(
        self,
        model: str = "adams-story/HPSv2-hf",
        processor: str | None = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        dtype: str = "float32",
        batch_size: int = 32,
    ) -> None:
        super().__init__(model, processor, "", dtype, batch_size)

    def cosine(self, images: "list[Image]", conditions: list[str]) -> Tensor:
        return super().cosine([squared(image, (0, 0, 0)) for image in images], conditions)


def features(output: Any) -> Tensor:
    """The embeddings ``(batch, features)`` in what ``get_image_features`` and ``get_text_features`` return, float32."""
    # transformers 5 returns an output object where 4 returned the tensor
    return getattr(output, "pooler_output", output).float()
