"""LAION's aesthetic predictor: a linear probe of CLIP embeddings, fitted to human ratings of images.

References:
    Schuhmann, Improved Aesthetic Predictor (2022), github.com/christophschuhmann/improved-aesthetic-predictor.
"""

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn import functional as F

from graft_lightning.domains.text_to_image.rewards.base import NetworkJudge
from graft_lightning.domains.text_to_image.rewards.score_head import ScoreHead, read_weights
from graft_lightning.domains.text_to_image.rewards.similarity import features
from graft_lightning.tensors import load_into

if TYPE_CHECKING:
    from PIL.Image import Image

_WHERE = (
    "LAION's is sac+logos+ava1-l14-linearMSE.pth in github.com/christophschuhmann/improved-aesthetic-predictor; "
    "set `head` to a copy of it"
)


class AestheticScore(NetworkJudge):
    """A rating of about 1 to 10 of the normalised CLIP embedding of the image; the prompt is not looked at.

    Args:
        head: the file of the head's weights, ``layers.{0,2,4,6,7}.{weight,bias}``.
        model: the CLIP model whose embeddings the head was fitted to, a folder or an id on the Hugging Face hub.
        dtype: of the network's weights.
        batch_size: images judged at a time.
    """

    def __init__(
        self,
        head: str,
        model: str = "openai/clip-vit-large-patch14",
        dtype: str = "float32",
        batch_size: int = 32,
    ) -> None:
        super().__init__(dtype, batch_size)
        self.head = head
        self.model = model
        self._processor: Any = None

    def load(self) -> Any:
        from transformers import AutoImageProcessor, CLIPModel

        weights = read_weights(self.head, _WHERE)
        self._processor = self.fetch(AutoImageProcessor.from_pretrained)
        clip = self.fetch_network(CLIPModel)
        head = ScoreHead(clip.config.projection_dim)
        load_into(head, weights, f"head={self.head}")
        return nn.ModuleDict({"clip": clip, "head": head})

    def judge(self, images: "list[Image]", conditions: list[str]) -> Tensor:
        network = self.network
        pixels = self._processor(images, return_tensors="pt").to(self._device, network["clip"].dtype)
        return network["head"](F.normalize(features(network["clip"].get_image_features(**pixels)), dim=-1))
