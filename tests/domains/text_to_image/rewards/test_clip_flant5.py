"""CLIP-FlanT5 token by token, against its parts called one after the other."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from graft_lightning.domains.base.loading import ModelUnavailableError
from graft_lightning.domains.text_to_image.images import to_pil
from graft_lightning.domains.text_to_image.rewards import CLIPFlanT5Score
from tests.domains.text_to_image.tiny_models import t5_tokenizer

IMAGES = torch.rand(3, 3, 20, 32, generator=torch.Generator().manual_seed(5))
PROMPTS = ["a cat", "a much longer prompt about two dogs", "b"]
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
ASKED = 'Does this figure show "{}"? Please answer yes or no.'
YES, END = 4, 1


@pytest.fixture(scope="module")
def folder(model_folder):
    return model_folder("clip_flant5")


@pytest.fixture(scope="module")
def reward(folder):
    return CLIPFlanT5Score(folder, dtype="float32")


def pixels_by_hand(image, corner=(0, 6)):
    """Centred on CLIP's mean colour, to 336 pixels by bicubic interpolation, normalised."""
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    square = Image.new("RGB", (32, 32), (122, 116, 104))
    square.paste(image, corner)
    levels = np.asarray(square.resize((336, 336), Image.Resampling.BICUBIC), dtype=np.float32) / 255
    return torch.from_numpy(((levels - mean) / std).transpose(2, 0, 1)).float()[None]


def score_by_hand(network, image, before, after):
    """The two probabilities, decoding one token at a time, no batch, no padding, no labels."""
    tokenizer = t5_tokenizer()
    with torch.no_grad():
        hidden = network.vision(pixels_by_hand(image), output_hidden_states=True).hidden_states
        assert len(hidden) == 4, "embeddings and three layers: -2 is the output of the second"
        first, _, second = network.projector
        seen = second(F.gelu(first(hidden[2][0, 1:])))
        assert seen.shape == (576, 32)
        embed = network.t5.shared
        left, right = (embed(torch.tensor(tokenizer(text).input_ids)) for text in (before, after))
        encoded = network.t5.encoder(inputs_embeds=torch.cat([left, seen, right])[None]).last_hidden_state
        p = []
        for given, token in (([0], YES), ([0, YES], END)):
            out = network.t5.decoder(input_ids=torch.tensor([given]), encoder_hidden_states=encoded)
            logits = network.t5.lm_head(out.last_hidden_state[0, -1])
            p.append(logits[: len(tokenizer)].softmax(-1)[token])
    return p


@pytest.mark.parametrize(
    ("conversation", "before", "after"),
    [
        ("chat", f"{SYSTEM} USER: ", f"\n{ASKED} ASSISTANT: "),
        ("no_system", "USER: ", f"\n{ASKED} ASSISTANT: "),
        ("no_user", "", f"\n{ASKED} : "),
        ("plain", "", ASKED),
    ],
)
def test_token_by_token(folder, conversation, before, after):
    reward = CLIPFlanT5Score(folder, conversation=conversation, dtype="float32")
    scores = reward(IMAGES, PROMPTS)
    by_hand = []
    for image, prompt in zip(to_pil(IMAGES), PROMPTS, strict=True):
        yes, end = score_by_hand(reward.network, image, before, after.replace("{}", prompt))
        by_hand.append((yes * end).sqrt())
        assert abs(by_hand[-1] / yes - 1) > 0.01, "the end of sequence counts"
    torch.testing.assert_close(scores, torch.stack(by_hand), rtol=1e-4, atol=0)


def test_batch_equals_one_by_one(folder, reward):
    scores = reward(IMAGES, PROMPTS)
    alone = torch.cat([reward(IMAGES[i : i + 1], PROMPTS[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(alone, scores, rtol=1e-4, atol=0)
    torch.testing.assert_close(CLIPFlanT5Score(folder, dtype="float32", batch_size=2)(IMAGES, PROMPTS), scores)
    assert all(abs(a / b - 1) > 0.01 for i, a in enumerate(scores) for b in scores[:i])


def test_both_texts_end_in_the_end_token(reward):
    reward.network  # noqa: B018 - loads the tokenizer
    for prompt in ["a cat", "a much longer prompt about two dogs"]:
        before, after = reward.texts(prompt)
        assert [before[-1], after[-1]] == [END, END]
        assert (torch.cat([before, after]) == END).sum() == 2


def test_an_empty_first_text_is_an_end_token(folder):
    reward = CLIPFlanT5Score(folder, conversation="plain", dtype="float32")
    reward.network  # noqa: B018
    assert reward.texts("a cat")[0].tolist() == [END]


def test_texts_are_cut_at_2048_tokens_with_the_image_as_one(reward):
    reward.network  # noqa: B018
    before, after = reward.texts("x " * 3000)
    assert len(before) + 1 + len(after) == 2048


def test_pixels(reward):
    reward.network  # noqa: B018
    for image in to_pil(IMAGES):
        torch.testing.assert_close(reward.pixels([image]), pixels_by_hand(image), rtol=0, atol=1e-5)
    upright = to_pil(IMAGES[:1])[0].transpose(Image.Transpose.TRANSPOSE)
    torch.testing.assert_close(reward.pixels([upright]), pixels_by_hand(upright, (6, 0)), rtol=0, atol=1e-5)


def test_half_precision_is_close(folder, reward):
    rough = CLIPFlanT5Score(folder)
    assert rough.network.dtype == torch.bfloat16
    assert {parameter.dtype for parameter in rough.network.parameters()} == {torch.bfloat16}
    # eight bits of mantissa through the sharpened attention of random weights
    ratio = rough(IMAGES, PROMPTS) / reward(IMAGES, PROMPTS)
    assert ratio.log().abs().max() < 0.7
    assert not torch.equal(ratio, torch.ones(3))


def test_a_saved_folder_is_complete(reward, tmp_path):
    scores = reward(IMAGES, PROMPTS)
    reward.save(str(tmp_path / "copy"))
    moved = tmp_path / "elsewhere"
    (tmp_path / "copy").rename(moved)
    again = CLIPFlanT5Score(str(moved), dtype="float32")
    assert torch.equal(again(IMAGES, PROMPTS), scores)


def test_no_model(tmp_path):
    with pytest.raises(ModelUnavailableError, match=r"CLIP-FlanT5, setting `model`: .* is no folder here"):
        CLIPFlanT5Score(str(tmp_path / "absent"))(IMAGES, PROMPTS)
    with pytest.raises(ModelUnavailableError, match="hf download zhiqiulin/clip-flant5-xxl"):
        CLIPFlanT5Score()(IMAGES, PROMPTS)


def test_wrong_settings():
    with pytest.raises(ValueError, match=r"has no \{\} for the prompt"):
        CLIPFlanT5Score(question="Is it good?")
    with pytest.raises(ValueError, match="'t5_chat' is not one of chat, no_system"):
        CLIPFlanT5Score(conversation="t5_chat")
