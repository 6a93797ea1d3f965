"""VQAScore against probabilities worked out by hand from the logits of one image and question, without padding."""

import functools
import shutil

import pytest
import torch

from graft_lightning.domains.base.loading import ModelUnavailableError
from graft_lightning.domains.text_to_image.images import to_pil
from graft_lightning.domains.text_to_image.rewards import VQAScore
from graft_lightning.refusals import Refusal
from tests.domains.weight_damage import DAMAGE, damage

IMAGES = torch.rand(4, 3, 20, 32, generator=torch.Generator().manual_seed(5))
PROMPTS = ["a cat", "a much longer prompt about two dogs", "b", "a cat"]
QUESTIONS = [
    'Does this figure show "{}"? Please answer Yes or No.',
    'Does this figure show "{}"? Please answer yes or no.',
    'Question: Does this figure show "{}"? Please answer yes or no.',
    "{}?",
]
RTOL = 1e-4


def scorer(folder, **settings):
    return VQAScore(folder, dtype="float32", **settings)


def one_by_one(reward):
    return torch.cat([reward(IMAGES[i : i + 1], PROMPTS[i : i + 1]) for i in range(4)])


def differ(scores):
    """Prompts and images matter: no two of the four scores are alike."""
    return all(abs(a / b - 1) > 0.01 for i, a in enumerate(scores) for b in scores[:i])


@functools.cache
def parts(folder):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(folder)
    return processor, AutoModelForImageTextToText.from_pretrained(folder).eval()


def decoder_by_hand(folder, texts, answer, types=None):
    """P(a_i | ...) of a decoder: the answer stands behind the prompt, one forward pass, logits one place earlier."""
    processor, network = parts(folder)
    ids = processor.tokenizer(answer, add_special_tokens=False).input_ids
    rows = []
    for image, text in zip(to_pil(IMAGES), texts, strict=True):
        inputs = processor(images=image, text=text, return_tensors="pt")
        inputs.pop("labels", None)
        width = inputs["input_ids"].shape[1]
        inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([ids])], 1)
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        if types is not None:
            inputs["token_type_ids"] = torch.tensor([[0] * width + [types] * len(ids)])
        with torch.no_grad():
            p = network(**inputs).logits[0].softmax(-1)
        rows.append([p[width - 1 + i, token] for i, token in enumerate(ids)])
    return torch.tensor(rows)


def chat_text(question):
    return f"USER: <image>\n{question} ASSISTANT:"


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("answer", ["Yes", "yes", "Yes or so"])
def test_decoder_with_a_chat_template(model_folder, question, answer):
    folder = model_folder("llava")
    reward = scorer(folder, question=question, answer=answer)
    texts = [chat_text(question.replace("{}", prompt)) for prompt in PROMPTS]
    p = decoder_by_hand(folder, texts, answer)
    assert p.shape[1] == {"Yes": 1, "yes": 1, "Yes or so": 7}[answer]
    scores = reward(IMAGES, PROMPTS)
    torch.testing.assert_close(scores, p.prod(1), rtol=RTOL, atol=0)
    torch.testing.assert_close(one_by_one(reward), scores, rtol=RTOL, atol=0)
    assert differ(scores)


@pytest.mark.parametrize("question", QUESTIONS)
def test_geometric_mean_with_the_end_of_sequence(model_folder, question):
    folder = model_folder("llava")
    reward = scorer(folder, question=question, reduction="geometric_mean", include_end=True)
    texts = [chat_text(question.replace("{}", prompt)) for prompt in PROMPTS]
    p = decoder_by_hand(folder, texts, "Yes</s>")
    assert p.shape == (4, 2)
    torch.testing.assert_close(reward(IMAGES, PROMPTS), (p[:, 0] * p[:, 1]).sqrt(), rtol=RTOL, atol=0)


@pytest.mark.filterwarnings("ignore:__array__ implementation")
@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("answer", ["Yes", "Yes No"])
def test_decoder_that_reads_its_prompt_both_ways(model_folder, question, answer):
    """A prefix language model: the answer must not be seen by the prompt, nor the padding by anything."""
    folder = model_folder("paligemma")
    reward = scorer(folder, question=f"<image>{question}", answer=answer, chat=False)
    texts = [f"<image>{question}".replace("{}", prompt) for prompt in PROMPTS]
    p = decoder_by_hand(folder, texts, answer, types=1)
    scores = reward(IMAGES, PROMPTS)
    torch.testing.assert_close(scores, p.prod(1), rtol=RTOL, atol=0)
    torch.testing.assert_close(one_by_one(reward), scores, rtol=RTOL, atol=0)
    assert differ(scores)


@pytest.mark.parametrize("question", QUESTIONS)
def test_encoder_decoder(model_folder, question):
    folder = model_folder("instructblip")
    reward = scorer(folder, question=question, answer="yes", chat=False, reduction="geometric_mean", include_end=True)
    processor, network = parts(folder)
    yes, end = processor.tokenizer("yes").input_ids
    by_hand = []
    for image, prompt in zip(to_pil(IMAGES), PROMPTS, strict=True):
        inputs = processor(images=image, text=question.replace("{}", prompt), return_tensors="pt")
        with torch.no_grad():
            first = network(**inputs, decoder_input_ids=torch.tensor([[0]])).logits[0, -1].softmax(-1)
            second = network(**inputs, decoder_input_ids=torch.tensor([[0, yes]])).logits[0, -1].softmax(-1)
        by_hand.append((first[yes] * second[end]).sqrt())
    scores = reward(IMAGES, PROMPTS)
    torch.testing.assert_close(scores, torch.stack(by_hand), rtol=RTOL, atol=0)
    torch.testing.assert_close(one_by_one(reward), scores, rtol=RTOL, atol=0)
    assert differ(scores)


def test_batch_size_does_not_matter(model_folder):
    folder = model_folder("llava")
    torch.testing.assert_close(
        scorer(folder, batch_size=3)(IMAGES, PROMPTS), scorer(folder)(IMAGES, PROMPTS), rtol=RTOL, atol=0
    )


def test_braces_in_a_prompt_are_text(model_folder):
    scores = scorer(model_folder("llava"))(IMAGES[:1].expand(2, -1, -1, -1), ["a {} {0} {cat}", "a cat"])
    assert differ(scores)


def test_small_grey_pictures(model_folder):
    """Handwritten digits: one channel, eight pixels."""
    digits = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    reward = scorer(model_folder("llava"))
    scores = reward(digits, ["three", "three"])
    torch.testing.assert_close(reward(digits.expand(-1, 3, -1, -1), ["three", "three"]), scores)
    assert differ(scores)


def test_no_chat_template(model_folder):
    with pytest.raises(ValueError, match="has no chat template; set `chat: false` and write into `question`"):
        scorer(model_folder("paligemma"))(IMAGES, PROMPTS)


def test_an_answer_that_the_tokenizer_does_not_know(model_folder):
    reward = scorer(model_folder("instructblip"), answer="\u00fc", chat=False)
    with pytest.raises(ValueError, match="does not know '\u00fc'"):
        reward(IMAGES, PROMPTS)


def test_wrong_settings():
    with pytest.raises(ValueError, match=r"has no \{\} for the prompt"):
        VQAScore("anywhere", question="Is it good?")
    with pytest.raises(ValueError, match="'sum' is not product or geometric_mean"):
        VQAScore("anywhere", reduction="sum")


def test_an_absent_model(tmp_path):
    with pytest.raises(ModelUnavailableError, match=r"VQAScore, setting `model`: .*absent' is no folder here"):
        VQAScore(str(tmp_path / "absent"))(IMAGES, PROMPTS)


@pytest.mark.parametrize("kind", DAMAGE)
def test_weights_that_are_not_all_there_do_not_judge(model_folder, tmp_path, kind):
    folder = shutil.copytree(model_folder("llava"), tmp_path / "llava")
    damage(next(folder.glob("*.safetensors")), kind)
    with pytest.raises(Refusal) as error:
        scorer(str(folder))(IMAGES, PROMPTS)
    assert str(folder) in str(error.value)
