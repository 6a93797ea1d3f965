"""ImageReward from weights in the authors' names, against the layers of their vision transformer written out."""

import pytest
import torch
from torch.nn import functional as F

from graft_lightning.domains.text_to_image.images import to_pil
from graft_lightning.domains.text_to_image.rewards import ImageReward
from graft_lightning.domains.text_to_image.rewards.image_reward import LONGEST, read_blip
from tests.domains.text_to_image.rewards.test_aesthetic import by_hand, published
from tests.domains.text_to_image.tiny_models import CHARACTERS

WIDTH, HEADS, LAYERS, TOKENS = 16, 4, 2, 5
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *CHARACTERS, *(f"##{c}" for c in CHARACTERS)]
VISION = {
    "hidden_size": WIDTH,
    "intermediate_size": 32,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "image_size": 32,
}
TEXT = {
    "vocab_size": len(PIECES),
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "encoder_hidden_size": WIDTH,
}
IMAGES = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(5))
PROMPTS = ["a cat", "a much longer prompt about two dogs and so on and on", "b"]


def transformer_block(name, width, attentions):
    """Names and shapes of one layer of the authors' text encoder."""
    shapes = {}
    for attention, keys in attentions.items():
        for part, wide in (("query", width), ("key", keys), ("value", keys)):
            shapes |= {f"{name}.{attention}.self.{part}.weight": (width, wide)}
            shapes |= {f"{name}.{attention}.self.{part}.bias": (width,)}
        shapes |= {f"{name}.{attention}.output.dense.weight": (width, width)}
        shapes |= {f"{name}.{attention}.output.{part}": (width,) for part in ("dense.bias", "LayerNorm.weight")}
        shapes |= {f"{name}.{attention}.output.LayerNorm.bias": (width,)}
    shapes |= {f"{name}.intermediate.dense.weight": (32, width), f"{name}.intermediate.dense.bias": (32,)}
    shapes |= {f"{name}.output.dense.weight": (width, 32), f"{name}.output.dense.bias": (width,)}
    return shapes | {f"{name}.output.LayerNorm.{part}": (width,) for part in ("weight", "bias")}


def authors_weights():
    """A checkpoint as the authors' module tree names it, with the leftovers of BLIP's pre-training."""
    eye, read = "blip.visual_encoder", "blip.text_encoder"
    shapes = {
        f"{eye}.cls_token": (1, 1, WIDTH),
        f"{eye}.pos_embed": (1, TOKENS, WIDTH),
        f"{eye}.patch_embed.proj.weight": (WIDTH, 3, 16, 16),
        f"{eye}.patch_embed.proj.bias": (WIDTH,),
        f"{eye}.norm.weight": (WIDTH,),
        f"{eye}.norm.bias": (WIDTH,),
        f"{read}.embeddings.word_embeddings.weight": (len(PIECES), 24),
        f"{read}.embeddings.position_embeddings.weight": (512, 24),
        f"{read}.embeddings.LayerNorm.weight": (24,),
        f"{read}.embeddings.LayerNorm.bias": (24,),
        "blip.vision_proj.weight": (256, WIDTH),
        "blip.text_proj.weight": (256, 24),
    }
    for i in range(LAYERS):
        block = f"{eye}.blocks.{i}"
        shapes |= {f"{block}.norm{n}.{part}": (WIDTH,) for n in (1, 2) for part in ("weight", "bias")}
        shapes |= {f"{block}.attn.qkv.weight": (3 * WIDTH, WIDTH), f"{block}.attn.qkv.bias": (3 * WIDTH,)}
        shapes |= {f"{block}.attn.proj.weight": (WIDTH, WIDTH), f"{block}.attn.proj.bias": (WIDTH,)}
        shapes |= {f"{block}.mlp.fc1.weight": (32, WIDTH), f"{block}.mlp.fc1.bias": (32,)}
        shapes |= {f"{block}.mlp.fc2.weight": (WIDTH, 32), f"{block}.mlp.fc2.bias": (WIDTH,)}
        attentions = {"attention": 24, "crossattention": WIDTH}
        shapes |= transformer_block(f"{read}.encoder.layer.{i}", 24, attentions)
    generator = torch.Generator().manual_seed(1)
    weights = {name: torch.randn(shape, generator=generator) / 2 for name, shape in shapes.items()}
    weights[f"{read}.embeddings.position_ids"] = torch.arange(512)[None]
    return weights | {f"mlp.{name}": tensor for name, tensor in published(24).items()}


@pytest.fixture
def reward(tmp_path):
    from transformers import BertTokenizer

    torch.save(authors_weights(), tmp_path / "ImageReward.pt")
    BertTokenizer(vocab={piece: number for number, piece in enumerate(PIECES)}).save_pretrained(tmp_path)
    return ImageReward(str(tmp_path / "ImageReward.pt"), str(tmp_path), VISION, TEXT)


def vision_transformer(w, pixels):
    """The authors' image encoder, written out."""
    w = {name.removeprefix("blip.visual_encoder."): tensor for name, tensor in w.items()}

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x, name):
        return F.layer_norm(x, (WIDTH,), w[f"{name}.weight"], w[f"{name}.bias"], 1e-6)

    x = F.conv2d(pixels, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=16)
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([w["cls_token"].expand(len(x), -1, -1), x], 1) + w["pos_embed"]
    for i in range(LAYERS):
        qkv = linear(norm(x, f"blocks.{i}.norm1"), f"blocks.{i}.attn.qkv")
        q, k, v = qkv.reshape(len(x), TOKENS, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        attended = ((q @ k.transpose(2, 3)) * (WIDTH // HEADS) ** -0.5).softmax(-1) @ v
        x = x + linear(attended.transpose(1, 2).flatten(2), f"blocks.{i}.attn.proj")
        x = x + linear(F.gelu(linear(norm(x, f"blocks.{i}.norm2"), f"blocks.{i}.mlp.fc1")), f"blocks.{i}.mlp.fc2")
    return norm(x, "norm")


def test_the_image_encoder_is_the_authors():
    weights, pixels = authors_weights(), torch.randn(2, 3, 32, 32)
    blip, _ = read_blip(weights, {**VISION, "patch_size": 16, "layer_norm_eps": 1e-6}, TEXT)
    with torch.no_grad():
        found = blip.eval().vision_model(pixels).last_hidden_state
    torch.testing.assert_close(found, vision_transformer(weights, pixels), rtol=1e-4, atol=1e-4)


def test_the_score_is_the_standardised_head_of_the_first_token(reward):
    scores = reward(IMAGES, PROMPTS)
    weights, blip = authors_weights(), reward.network["blip"]
    mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    for image, pil_image, prompt, score in zip(IMAGES, to_pil(IMAGES), PROMPTS, scores, strict=True):
        levels = (image * 255).round() / 255
        seen = vision_transformer(weights, ((levels - mean[:, None, None]) / std[:, None, None])[None])
        assert pil_image.size == (32, 32), "no resizing in the way"
        pieces = [found for word in prompt.split() for found in spelled(word)]
        ids = [2, *pieces[: LONGEST - 2], 3]
        with torch.no_grad():
            read = blip.text_encoder(input_ids=torch.tensor([ids]), encoder_hidden_states=seen).last_hidden_state
        head = by_hand({name.removeprefix("mlp."): tensor for name, tensor in weights.items()}, read[:, 0])
        torch.testing.assert_close(score, (head[0] - 0.16717362830052426) / 1.0333394966054072, rtol=1e-3, atol=1e-4)
    alone = torch.cat([reward(IMAGES[i : i + 1], PROMPTS[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(alone, scores, rtol=1e-3, atol=1e-4)


def spelled(word):
    return [PIECES.index(word[0]), *(PIECES.index(f"##{letter}") for letter in word[1:])]


def test_prompt_and_picture_matter(reward):
    scores = reward(IMAGES[[0, 0, 1]], ["a cat", "a dog", "a cat"])
    assert min(abs(scores[0] - scores[1]), abs(scores[0] - scores[2])) > 5e-3


def test_missing_weights_are_named():
    weights = authors_weights()
    del weights["blip.visual_encoder.blocks.1.attn.qkv.weight"]
    with pytest.raises(ValueError, match=r"nothing for vision_model\.encoder\.layers\.1\.self_attn\.qkv\.weight and 0"):
        read_blip(weights, {**VISION, "patch_size": 16}, TEXT)


def test_an_absent_file_says_where_it_comes_from(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"ImageReward\.pt in huggingface\.co/THUDM/ImageReward; set `weights`"):
        ImageReward(str(tmp_path / "absent.pt"))(IMAGES, PROMPTS)
