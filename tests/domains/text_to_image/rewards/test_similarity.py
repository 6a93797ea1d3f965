import pytest
import torch

from graft_lightning.domains.base.loading import ModelUnavailableError
from graft_lightning.domains.text_to_image.images import to_pil
from graft_lightning.domains.text_to_image.rewards import CLIPScore, EmbeddingSimilarity, HPSv2, PickScore

IMAGES = torch.rand(4, 3, 28, 40, generator=torch.Generator().manual_seed(5))
PROMPTS = ["a cat", "a much longer prompt about two dogs and a bird", "b", "word " * 100]


def cosine_by_hand(folder, prefix="", images=None, length=77):
    """One at a time, without padding (CLIP) or to the full length (SigLIP), from the projected embeddings."""
    from transformers import AutoModel, AutoProcessor

    network, processor = AutoModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    found = []
    for image, prompt in zip(images or to_pil(IMAGES), PROMPTS, strict=True):
        padding = {} if length == 77 else {"padding": "max_length"}
        inputs = processor(
            text=prefix + prompt, images=image, return_tensors="pt", truncation=True, max_length=length, **padding
        )
        with torch.no_grad():
            out = network(**inputs)
        text, image = out.text_embeds[0], out.image_embeds[0]
        found.append(text @ image / text.norm() / image.norm())
    return torch.stack(found), network


def test_clip_score(model_folder):
    folder = model_folder("clip")
    cosine, _ = cosine_by_hand(folder, "A photo depicts ")
    assert cosine.min() < 0 < cosine.max(), "the test needs both signs"
    reward = CLIPScore(folder)
    torch.testing.assert_close(reward(IMAGES, PROMPTS), 2.5 * cosine.clamp(min=0))
    alone = torch.cat([reward(IMAGES[i : i + 1], PROMPTS[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(alone, 2.5 * cosine.clamp(min=0))
    plain, _ = cosine_by_hand(folder)
    torch.testing.assert_close(CLIPScore(folder, prefix="", weight=1.0)(IMAGES, PROMPTS), plain.clamp(min=0))


def test_pick_score(model_folder):
    folder = model_folder("clip")
    cosine, network = cosine_by_hand(folder)
    expected = network.logit_scale.exp().detach() * cosine
    torch.testing.assert_close(PickScore(folder, processor=None)(IMAGES, PROMPTS), expected)
    torch.testing.assert_close(PickScore(folder, processor=folder)(IMAGES, PROMPTS), expected)


def test_hps_puts_pictures_on_black_squares(model_folder):
    folder = model_folder("clip")
    black = torch.zeros(4, 3, 40, 40)
    black[:, :, 6:34] = IMAGES
    cosine, _ = cosine_by_hand(folder, images=to_pil(black))
    torch.testing.assert_close(HPSv2(folder, processor=None)(IMAGES, PROMPTS), cosine)


def test_siglip(model_folder):
    folder = model_folder("siglip")
    cosine, _ = cosine_by_hand(folder, length=64)
    torch.testing.assert_close(EmbeddingSimilarity(folder)(IMAGES, PROMPTS), cosine)


def test_half_precision_is_close(model_folder):
    folder = model_folder("clip")
    exact, rough = (EmbeddingSimilarity(folder, dtype=dtype)(IMAGES, PROMPTS) for dtype in ("float32", "bfloat16"))
    torch.testing.assert_close(rough, exact, rtol=0, atol=0.05)
    assert rough.dtype == torch.float32


def test_the_missing_part_is_named(model_folder):
    with pytest.raises(ModelUnavailableError, match="PickScore, setting `processor`: 'laion/CLIP-ViT-H-14"):
        PickScore(model_folder("clip"))(IMAGES, PROMPTS)
    with pytest.raises(ModelUnavailableError, match=r"HPSv2, setting `model`: '\./absent' is no folder here"):
        HPSv2("./absent", processor=model_folder("clip"))(IMAGES, PROMPTS)


def test_weights_that_would_be_random_are_an_error(model_folder, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(model_folder("clip"), tmp_path / "clip")
    weights = load_file(f"{folder}/model.safetensors")
    weights.pop("visual_projection.weight")
    save_file(weights, f"{folder}/model.safetensors")
    with pytest.raises(ModelUnavailableError, match=r"no weights for visual_projection\.weight and 0 more"):
        CLIPScore(str(folder))(IMAGES, PROMPTS)
