"""The written score: what is read from an answer, and answers against tokens that are chosen one by one by hand."""

import math

import pytest
import torch

from graft_lightning.domains.text_to_image.images import to_pil
from graft_lightning.domains.text_to_image.rewards import WrittenScore
from graft_lightning.domains.text_to_image.rewards.written import ended, read_number
from graft_lightning.rejection.reward import score
from graft_lightning.rejection.rewards import CachedReward
from tests.domains.text_to_image.rewards.test_vqa import IMAGES, PROMPTS, chat_text, parts

NUMBER = r"-?\d+(?:\.\d+)?"


@pytest.mark.parametrize(
    ("text", "pattern", "number"),
    [
        ("7", NUMBER, 7.0),
        ("8/10", NUMBER, 8.0),
        (" **9.5** of 10", NUMBER, 9.5),
        ("seven", NUMBER, math.nan),
        ("", NUMBER, math.nan),
        ("11", NUMBER, math.nan),
        ("-1", NUMBER, math.nan),
        ("9" * 400, NUMBER, math.nan),
        ("It shows 3 cats, not 2. Score: 6", r"Score: (\d+)", 6.0),
        ("It shows 3 cats.", r"Score: (\d+)", math.nan),
        ("Score: high", r"Score: (\w+)", math.nan),
        ("good", r"good|(\d+)", math.nan),
    ],
)
def test_the_number_in_an_answer(text, pattern, number):
    assert read_number(text, pattern, 0.0, 10.0) == pytest.approx(number, nan_ok=True)


def test_an_answer_ends_at_the_first_end():
    assert ended([5, 6, 2, 7, 2], {2, 3}) == [5, 6]
    assert ended([5, 6], {2}) == [5, 6]
    assert ended([2, 5], {2}) == []


def greedy_by_hand(folder, image, question, steps):
    """The most probable token, one forward pass over everything at a time, until the end."""
    processor, network = parts(folder)
    inputs = processor(images=image, text=chat_text(question), return_tensors="pt")
    width = inputs["input_ids"].shape[1]
    for _ in range(steps):
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        with torch.no_grad():
            token = network(**inputs).logits[0, -1].argmax()
        if token == processor.tokenizer.eos_token_id:
            break
        inputs["input_ids"] = torch.cat([inputs["input_ids"], token[None, None]], 1)
    return processor.tokenizer.decode(inputs["input_ids"][0, width:], skip_special_tokens=True)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_answers_are_greedy_whatever_the_models_configuration_says(model_folder, batch_size):
    folder = model_folder("llava")
    reward = WrittenScore(folder, question="Rate {}!", max_new_tokens=6, dtype="float32", batch_size=batch_size)
    settings = reward.network.generation_config
    settings.do_sample, settings.temperature, settings.repetition_penalty = True, 0.5, 3.0
    images = to_pil(IMAGES)
    expected = [greedy_by_hand(folder, i, f"Rate {p}!", 6) for i, p in zip(images, PROMPTS, strict=True)]
    assert reward.answers(images, PROMPTS) == expected
    assert len(set(expected)) > 1


def test_scores_are_the_numbers_of_the_answers(model_folder, monkeypatch):
    reward = WrittenScore(model_folder("llava"), batch_size=3)
    written = iter([["7", "no idea", "3.5 of 10"], ["12"]])
    monkeypatch.setattr(reward, "answers", lambda images, conditions: next(written))
    scores = reward(IMAGES, PROMPTS)
    assert scores.tolist() == pytest.approx([7.0, math.nan, 3.5, math.nan], nan_ok=True)


def test_an_encoder_and_decoder_writes_too(model_folder):
    reward = WrittenScore(model_folder("instructblip"), question="{}?", chat=False, dtype="float32", max_new_tokens=5)
    together = reward.answers(to_pil(IMAGES), PROMPTS)
    alone = [reward.answers([image], [p])[0] for image, p in zip(to_pil(IMAGES), PROMPTS, strict=True)]
    assert together == alone


def test_it_is_cached_by_what_was_asked(model_folder, tmp_path):
    """A second judge of the same settings asks nothing; another question is another judge."""
    folder = model_folder("llava")

    def judge(**settings):
        reward = WrittenScore(folder, pattern="[!-~]", lowest=-1e9, highest=1e9, dtype="float32", **settings)
        return CachedReward(reward, str(tmp_path))

    first, again, other = judge(), judge(), judge(question="Well, {}?")
    torch.testing.assert_close(score(first, IMAGES, PROMPTS), score(again, IMAGES, PROMPTS), equal_nan=True)
    score(other, IMAGES, PROMPTS)
    assert (first.hit_rate, again.hit_rate, other.hit_rate) == (0.0, 1.0, 0.0)
    assert again.reward._network is None


def test_wrong_settings():
    with pytest.raises(ValueError, match=r"pattern: '\(' is no regular expression"):
        WrittenScore("anywhere", pattern="(")
    with pytest.raises(ValueError, match=r"highest: 0\.0 is not above lowest, 1\.0"):
        WrittenScore("anywhere", lowest=1.0, highest=0.0)
    with pytest.raises(ValueError, match="max_new_tokens: 0 is not at least 1"):
        WrittenScore("anywhere", max_new_tokens=0)
