import pytest
import torch
from safetensors.torch import save_file

from graft_lightning.domains.text_to_image.images import to_pil
from graft_lightning.domains.text_to_image.rewards import AestheticScore
from graft_lightning.domains.text_to_image.rewards.score_head import ScoreHead

IMAGES = torch.rand(3, 3, 28, 28, generator=torch.Generator().manual_seed(5))


def published(features, seed=0):
    """Weights as the published files name and shape them."""
    generator = torch.Generator().manual_seed(seed)
    widths = [features, 1024, 128, 64, 16, 1]
    weights = {}
    for place, before, after in zip([0, 2, 4, 6, 7], widths, widths[1:], strict=False):
        weights[f"layers.{place}.weight"] = torch.randn(after, before, generator=generator) / before**0.5
        weights[f"layers.{place}.bias"] = torch.randn(after, generator=generator) / 10
    return weights


def by_hand(weights, features):
    for place in (0, 2, 4, 6, 7):
        features = features @ weights[f"layers.{place}.weight"].T + weights[f"layers.{place}.bias"]
    return features[:, 0]


def test_head():
    weights = published(6)
    head = ScoreHead(6)
    head.load_state_dict(weights)
    x = torch.rand(5, 6)
    torch.testing.assert_close(head(x), by_hand(weights, x))


@pytest.mark.parametrize("name", ["head.pth", "head.safetensors"])
def test_linear_probe_of_the_normalised_embedding(model_folder, tmp_path, name):
    from transformers import AutoProcessor, CLIPModel

    folder, weights = model_folder("clip"), published(24)
    (save_file if name.endswith("safetensors") else torch.save)(weights, tmp_path / name)
    network, processor = CLIPModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    with torch.no_grad():
        out = network(**processor(text=[""] * 3, images=to_pil(IMAGES), return_tensors="pt", padding=True))
    expected = by_hand(weights, out.image_embeds / out.image_embeds.norm(dim=1, keepdim=True))
    reward = AestheticScore(str(tmp_path / name), folder)
    torch.testing.assert_close(reward(IMAGES, ["a", "b", "c"]), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(reward(IMAGES, ["x", "y", "z"]), expected, rtol=1e-4, atol=1e-5)


def test_an_absent_head_says_where_it_comes_from(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.pth' are absent; LAION's is sac\+logos.*set `head`"):
        AestheticScore(str(tmp_path / "absent.pth"))(IMAGES, ["", "", ""])
