"""Soft-TIFA against probabilities worked out by hand from the logits of one image and question, without padding."""

import json

import pytest
import torch

from graft_lightning.domains.text_to_image.images import to_pil
from graft_lightning.domains.text_to_image.prompts import GenEval2, MissingPromptsError
from graft_lightning.domains.text_to_image.rewards import SoftTIFA
from graft_lightning.domains.text_to_image.rewards.soft_tifa import reduced, spellings
from graft_lightning.refusals import Refusal
from tests.domains.text_to_image.rewards.test_vqa import IMAGES, chat_text, parts

ASKED = {
    "two cats": [["How many cats are in the image?", "two"], ["Are there any cats in the image?", "Yes"]],
    "a red cube": [["Is the cube red?", "Yes"]],
    "b": [["Is there a b?", "No"], ["How many?", "6"], ["Is it a letter of the alphabet, in your view?", "yes"]],
}
PROMPTS = ["two cats", "a red cube", "b", "two cats"]


@pytest.fixture
def questions(tmp_path):
    file = tmp_path / "questions.jsonl"
    lines = [{"prompt": p, "vqa_list": pairs, "atom_count": 1 + len(pairs)} for p, pairs in ASKED.items()]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(file)


def by_hand(folder, image, question, answers):
    """P of the first tokens of the spellings, from one forward pass."""
    processor, network = parts(folder)
    inputs = processor(images=image, text=chat_text(f"{question} Answer in one word."), return_tensors="pt")
    with torch.no_grad():
        p = network(**inputs).logits[0, -1].softmax(-1)
    tokens = {processor.tokenizer(answer, add_special_tokens=False).input_ids[0] for answer in answers}
    return p[sorted(tokens)].sum()


SPELLED = {"two": ["two", "Two", "2"], "Yes": ["Yes", "yes"], "yes": ["Yes", "yes"], "No": ["No", "no"]} | {
    "6": ["6", "six", "Six"]
}


@pytest.mark.parametrize("batch_size", [1, 3, 16])
@pytest.mark.parametrize("reduction", ["geometric_mean", "mean", "product"])
def test_it_is_the_mean_of_the_probabilities_of_the_right_answers(model_folder, questions, batch_size, reduction):
    """Of this tokenizer the spellings after a blank begin with the blank, which every answer does."""
    folder = model_folder("llava")
    reward = SoftTIFA(folder, questions, reduction, dtype="float32", batch_size=batch_size)
    expected = []
    for image, prompt in zip(to_pil(IMAGES), PROMPTS, strict=True):
        p = torch.stack([by_hand(folder, image, question, SPELLED[answer]) for question, answer in ASKED[prompt]])
        expected.append({"mean": p.mean(), "product": p.prod(), "geometric_mean": p.prod() ** (1 / len(p))}[reduction])
    scores = reward(IMAGES, PROMPTS)
    torch.testing.assert_close(scores, torch.stack(expected), rtol=1e-4, atol=0)
    assert all(abs(a / b - 1) > 0.01 for i, a in enumerate(scores) for b in scores[:i])


def test_without_a_chat_template_on_an_encoder_and_a_decoder(model_folder, tmp_path):
    file = tmp_path / "q.jsonl"
    lines = [{"prompt": p, "vqa_list": [[f"Is it {p}?", "Yes"], ["Is it a thing?", "No"]]} for p in set(PROMPTS)]
    file.write_text("\n".join(map(json.dumps, lines)))
    reward = SoftTIFA(model_folder("instructblip"), str(file), dtype="float32", chat=False)
    scores = reward(IMAGES, PROMPTS)
    alone = torch.cat([reward(IMAGES[[i]], PROMPTS[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(scores, alone, rtol=1e-4, atol=0)
    assert ((scores > 0) & (scores < 1)).all()


def test_spellings():
    assert set(spellings("two")) == {"two", "Two", "2", " two", " Two", " 2"}
    assert set(spellings("10")) == {"10", "ten", "Ten", " 10", " ten", " Ten"}
    assert set(spellings("Yes")) == {"Yes", "yes", " Yes", " yes"}
    assert set(spellings("11")) == {"11", " 11"}


def test_one_wrong_part_is_a_wrong_prompt_and_half_a_part():
    p = torch.tensor([1.0, 0.0])
    assert {kind: reduced(p, kind).item() for kind in ("geometric_mean", "mean", "product")} == {
        "geometric_mean": 0.0,
        "mean": 0.5,
        "product": 0.0,
    }


def test_a_sum_over_first_tokens_counts_each_once(model_folder, questions):
    """Two spellings that begin with one token must not give a probability above one."""
    reward = SoftTIFA(model_folder("llava"), questions, dtype="float32")
    reward.network  # noqa: B018
    tokens = reward.first_tokens("two")
    assert len(tokens) == len(set(tokens)) == 3
    assert reward._processor.tokenizer(" ", add_special_tokens=False).input_ids[0] not in tokens


def test_a_prompt_without_questions_is_named(model_folder, questions):
    with pytest.raises(Refusal, match=r"questions\.jsonl has no questions about 'a dog'; it has them about 3 prompts"):
        SoftTIFA(model_folder("llava"), questions)(IMAGES[:1], ["a dog"])


def test_an_answer_that_the_tokenizer_does_not_know(model_folder, tmp_path):
    file = tmp_path / "q.jsonl"
    file.write_text(json.dumps({"prompt": "a", "vqa_list": [["What?", "\u00fc"]]}))
    with pytest.raises(ValueError, match="has no token that begins '\u00fc'"):
        SoftTIFA(model_folder("instructblip"), str(file), chat=False)(IMAGES[:1], ["a"])


@pytest.mark.parametrize("pairs", [None, [], "Yes", [["Is it?"]], [["Is it?", ""]], [["Is it?", 2]], ["Is it?"]])
def test_a_line_without_questions_and_answers_is_named(tmp_path, pairs):
    file = tmp_path / "q.jsonl"
    file.write_text(json.dumps({"prompt": "a", "vqa_list": pairs}))
    with pytest.raises(Refusal, match=r"object 1 has vqa_list=.*expected a list of"):
        SoftTIFA("anywhere", str(file)).of("a")


def test_a_prompt_that_is_there_twice_has_the_same_questions(tmp_path):
    file = tmp_path / "q.jsonl"
    one, two = ({"prompt": "a", "vqa_list": [[question, "Yes"]]} for question in ("Is it?", "Was it?"))
    file.write_text("\n".join(map(json.dumps, [one, {**two, "prompt": "b"}, one])))
    assert SoftTIFA("anywhere", str(file)).of("a") == [("Is it?", "Yes")]
    file.write_text("\n".join(map(json.dumps, [one, {**two, "prompt": "b"}, two])))
    with pytest.raises(Refusal, match="objects 1 and 3 ask different questions about the same prompt 'a'"):
        SoftTIFA("anywhere", str(file)).of("a")


def test_wrong_settings(tmp_path):
    with pytest.raises(ValueError, match=r"has no \{\} for the question"):
        SoftTIFA("anywhere", "q.jsonl", question="Well?")
    with pytest.raises(ValueError, match="'gm' is not one of geometric_mean, mean, product"):
        SoftTIFA("anywhere", "q.jsonl", "gm")
    with pytest.raises(MissingPromptsError, match=r"geneval2_data\.jsonl in github\.com"):
        SoftTIFA("anywhere", str(tmp_path / "absent.jsonl")).of("a")


def test_its_prompts_are_those_of_the_file_by_the_number_of_their_atoms(questions):
    prompts = GenEval2(questions)
    assert prompts.texts() == list(ASKED)
    assert prompts.averages([1.0, 0.5, 0.0]) == {"overall": 0.5, "3 atoms": 1.0, "2 atoms": 0.5, "4 atoms": 0.0}


def test_a_line_without_a_prompt_is_named(tmp_path):
    file = tmp_path / "q.jsonl"
    file.write_text('{"prompt": "a"}\n{"text": "b"}\n')
    with pytest.raises(Refusal, match="object 2 has prompt=None; expected a text"):
        GenEval2(str(file)).texts()
