"""Every prompt set and reward is named in YAML, and naming it loads nothing."""

import subprocess
import sys

import pytest
from jsonargparse import ArgumentParser

from graft_lightning.domains.text_to_image import prompts, rewards
from graft_lightning.domains.text_to_image.prompts import PromptSet
from graft_lightning.identity import describe
from graft_lightning.rejection.reward import Reward

HERE = "graft_lightning.domains.text_to_image"
GENERIC = "graft_lightning.rejection.rewards"
REWARDS = {
    f"{HERE}.rewards.VQAScore": {"model": "owner/name", "reduction": "geometric_mean", "include_end": True},
    f"{HERE}.rewards.SoftTIFA": {"model": "owner/name", "questions": "questions.jsonl", "reduction": "mean"},
    f"{HERE}.rewards.WrittenScore": {"model": "owner/name", "pattern": "Score: (\\d+)", "max_new_tokens": 64},
    f"{HERE}.rewards.CLIPFlanT5Score": {},
    f"{HERE}.rewards.EmbeddingSimilarity": {"model": "owner/name"},
    f"{HERE}.rewards.CLIPScore": {"weight": 1.0},
    f"{HERE}.rewards.PickScore": {},
    f"{HERE}.rewards.HPSv2": {"dtype": "float16"},
    f"{HERE}.rewards.ImageReward": {"weights": "ImageReward.pt"},
    f"{HERE}.rewards.AestheticScore": {"head": "head.pth"},
    f"{HERE}.rewards.JPEGCompressibility": {},
    f"{HERE}.rewards.JPEGIncompressibility": {"quality": 80},
    f"{HERE}.rewards.JPEGCompressed": {"reward": {"class_path": f"{HERE}.rewards.CLIPFlanT5Score"}},
    f"{GENERIC}.FunctionReward": {"function": "my_rewards.score", "arguments": {"power": 2}},
    f"{GENERIC}.RemoteReward": {"url": "http://127.0.0.1:8000", "quantise": True},
    f"{GENERIC}.CachedReward": {"reward": {"class_path": f"{HERE}.rewards.PickScore"}, "folder": "scores"},
    f"{GENERIC}.WeightedSum": {
        "rewards": [{"class_path": f"{HERE}.rewards.PickScore"}, {"class_path": f"{HERE}.rewards.CLIPScore"}],
        "weights": [1.0, 0.5],
    },
}
PROMPTS = {
    f"{HERE}.prompts.PromptFile": {"path": "prompts.txt"},
    f"{HERE}.prompts.JSONLines": {"path": "prompts.jsonl", "tags": "kind"},
    f"{HERE}.prompts.GenAIBench": {"folder": "data/genai1600"},
    f"{HERE}.prompts.T2ICompBench": {"folder": "data/t2i", "split": "train", "categories": ["color"]},
    f"{HERE}.prompts.GenEval": {"path": "data/geneval"},
    f"{HERE}.prompts.GenEval2": {"path": "data/geneval2_data.jsonl"},
    f"{HERE}.prompts.Selected": {
        "prompts": {"class_path": f"{HERE}.prompts.GenAIBench", "init_args": {"folder": "x"}},
        "tags": ["counting"],
        "max_words": 12,
    },
    f"{HERE}.prompts.Split": {
        "prompts": {"class_path": f"{HERE}.prompts.PromptFile", "init_args": {"path": "x"}},
        "part": "b",
        "fractions": {"a": 0.5, "b": 0.5},
    },
}


def instantiated(base, class_path, settings):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--it", type=base)
    config = parser.parse_object({"it": {"class_path": class_path, "init_args": settings}})
    return parser.instantiate(config).it


@pytest.mark.parametrize(("class_path", "settings"), REWARDS.items())
def test_rewards(class_path, settings):
    reward = instantiated(Reward, class_path, settings)
    assert reward.to("cpu") is reward
    assert not reward.groupwise
    described = str(describe(reward))
    assert "device" not in described
    assert "batch_size" not in described, "the batch size does not decide the score"
    for key, value in settings.items():
        if key not in ("reward", "rewards", "folder"):
            assert f"'{key}': {value!r}" in described


@pytest.mark.parametrize(("class_path", "settings"), PROMPTS.items())
def test_prompt_sets(class_path, settings):
    assert isinstance(instantiated(PromptSet, class_path, settings), PromptSet)


def test_none_is_left_out():
    listed = {f"{HERE}.rewards.{name}" for name in rewards.__all__} | {f"{HERE}.prompts.{n}" for n in prompts.__all__}
    no_class = {f"{HERE}.prompts.{name}" for name in ("Prompt", "PromptSet", "MissingPromptsError")}
    assert listed - no_class <= REWARDS.keys() | PROMPTS.keys()


def test_naming_a_reward_loads_nothing():
    code = (
        # what the domains share loads torchmetrics, and that much of transformers; conditions are TensorDicts
        "import sys\nimport tensordict\nimport graft_lightning.domains.base\nbefore = set(sys.modules)\n"
        f"from {HERE}.rewards import *\nfrom {HERE}.prompts import *\n"
        "CLIPFlanT5Score(), VQAScore('a/b'), PickScore(), ImageReward('x'), AestheticScore('x'), GenAIBench('x')\n"
        "print([name for name in set(sys.modules) - before if not name.startswith('graft_lightning')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
