"""Every code block of the guides is run: Python as it stands there, YAML built."""

import re
import sys
import threading
from pathlib import Path

import jsonargparse
import pytest
import torch
import yaml

from graft_lightning.domains.base import Conditions
from graft_lightning.modules.graft import PGraft
from graft_lightning.rejection.reward import Reward, score
from graft_lightning.rejection.rewards.server import RewardServer
from tests.domains.text_to_image import tiny_models

ROOT = Path(__file__).parents[1]
GUIDES = sorted((ROOT / "experiments/guides").glob("*.md"))
CODE = [ROOT / "README.md", ROOT / "graft_lightning/README.md", *GUIDES]
ELSEWHERE = {"own_loop.md", "own_data.md", "stable_diffusion.md"}
"""Run where what they print is looked at, or between their commands."""
RUN = [file for file in CODE if file.name not in ELSEWHERE and "```python" in file.read_text(encoding="utf-8")]
LINKED = [*CODE, *sorted((ROOT / "experiments").glob("*/README.md")), ROOT / "experiments/README.md"]


def blocks(file, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", file.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def run(file, folder):
    """Runs a guide's Python, top to bottom; a block that begins with ``# name.py`` is that file. Returns the names."""
    names = {"__name__": "guide"}
    for block in blocks(file, "python"):
        named = re.match(r"# (\w+\.py)\b", block)
        if named:
            (folder / named[1]).write_text(block)
        exec(compile(block, str(folder / named[1]) if named else f"{file.name} in a guide", "exec"), names)
    return names


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where a reader would work: files of his own can be imported from it, and are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


def built(kind, key, text):
    """What a block of YAML describes under a key."""
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument(f"--{key}", type=kind)
    return getattr(parser.instantiate_classes(parser.parse_object({key: text})), key)


def test_there_is_code_where_it_is_looked_for():
    assert {file.name for file in CODE if blocks(file, "python")} == {
        "README.md",
        "own_reward.md",
        "own_model.md",
        "own_loop.md",
        "own_data.md",
        "stable_diffusion.md",
    }


@pytest.mark.parametrize(
    "file", [f for f in CODE if f.name not in ELSEWHERE and blocks(f, "python")], ids=lambda f: f.name
)
def test_the_python_of_a_guide_runs(file, folder):
    run(file, folder)


def test_the_reward_of_the_readme_prefers_less_ink(folder):
    thin = run(ROOT / "README.md", folder)["thin"]
    samples = torch.stack([torch.full((1, 4, 4), ink) for ink in (0.5, 0.0, 1.0)])
    assert thin(samples, [""] * 3).argsort().tolist() == [2, 0, 1]


def test_the_rewards_of_the_guide_are_what_they_say(folder, capsys):
    names = run(ROOT / "experiments/guides/own_reward.md", folder)
    assert capsys.readouterr().out.count("same alone and in a batch: True") == 3
    stripes = torch.tensor([0.0, 1.0]).repeat(8).reshape(1, 1, 4, 4)
    torch.testing.assert_close(names["Contrast"](2.0)(stripes, [""]), torch.tensor([2 * (4 / 15) ** 0.5]))
    assert score(names["ByNetwork"]().to("cpu"), torch.rand(70, 1, 16, 16), [""] * 70).shape == (70,)


def test_the_rewards_in_yaml_are_built_and_score(folder):
    guide = ROOT / "experiments/guides/own_reward.md"
    names = run(guide, folder)
    images = torch.rand(5, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    thin, contrast, bright = -images.mean((1, 2, 3)), images.flatten(1).std(1), images.mean((1, 2, 3))
    expected = {
        "thin": thin,
        "Contrast": 2 * contrast,
        "WeightedSum": contrast + 0.5 * thin,
        "CachedReward": contrast,
        "bright": bright,
    }
    server = RewardServer(names["bright"], port=0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        for block in blocks(guide, "yaml"):
            text = yaml.safe_load(block)["collect"]["reward"]
            if text["class_path"] == "RemoteReward":
                text["init_args"]["url"] = f"http://127.0.0.1:{server.server_address[1]}"
            reward = built(Reward, "reward", text)
            name = type(reward).__name__ if type(reward).__name__ == "CachedReward" else reward.name
            torch.testing.assert_close(score(reward, images, [""] * 5), expected.pop(name))
    finally:
        server.shutdown()
        server.server_close()
    assert expected == {}


def test_the_model_in_yaml_is_built_and_sampled(folder):
    from graft_lightning import api

    guide = ROOT / "experiments/guides/own_model.md"
    run(guide, folder)
    (block,) = blocks(guide, "yaml")
    module = built(PGraft, "model", yaml.safe_load(block)["model"])
    model = module.reference
    assert (type(model).__name__, model.sampler.steps, module.handoff) == ("MyModel", 20, 0.25)
    views = api.open_views(model, model.build())
    images = api.sample(model, [""] * 3, denoiser=views.frozen)
    assert images.shape == (3, 1, 8, 8)
    assert 0 <= images.min() < images.max() <= 1
    assert not model.degenerate(images).any()


def test_the_data_of_the_guide_are_read_counted_and_refused(folder, capsys):
    run(ROOT / "experiments/guides/own_data.md", folder)
    said = capsys.readouterr().out.splitlines()
    assert said[:3] == [
        "['a red cup', 'two dogs']",
        "['a cup; and a plate', 'two dogs'] [('still',), ('animals',)]",
        "['the word \"stop\" on a sign']",
    ]
    assert [line.partition(":")[2].split(":")[0] for line in said if line.startswith("refused")] == [
        " old.txt, line 1",
        " ragged.csv, line 2",
        " short.xyz",
    ]
    assert said[5].endswith("in common: 0")
    assert sum(map(int, re.findall(r"\d+", said[5])[:3])) == 100
    assert said[6:8] == [f"{place} 2 to train on, 1 held out" for place in ("pictures", "pictures_lmdb")]
    assert said[8] == "1 molecules, left out: {'elements S': 1, 'elements Br': 1}"
    assert said[10] == "1 page, left out: {'off the page': 1, 'unknown category': 1}"


def test_the_part_in_yaml_is_built_and_read(folder):
    guide = ROOT / "experiments/guides/own_data.md"
    (folder / "many.txt").write_text("".join(f"{n} kites\n" for n in range(2, 402)))
    (block,) = blocks(guide, "yaml")
    part = built(Conditions, "conditions", yaml.safe_load(block)["data"]["conditions"])
    assert 160 < len(part.texts()) < 240, "half of them are to train on"


def test_the_judges_of_text_to_image_are_built_and_score(folder):
    """By a small model of a real architecture in place of the one that is named."""
    guide = ROOT / "experiments/text_to_image/README.md"
    tiny_models.llava(folder / "judge")
    (line,) = blocks(guide, "json")
    (folder / "questions.jsonl").write_text(line)
    images = torch.rand(3, 3, 20, 32, generator=torch.Generator().manual_seed(0))
    found = {}
    for block in blocks(guide, "yaml"):
        text = block.replace("Qwen/Qwen3-VL-8B-Instruct", str(folder / "judge"))
        reward = built(Reward, "reward", yaml.safe_load(text)["collect"]["reward"])
        found[reward.name] = score(reward, images, ["two white cats"] * 3)
    assert set(found) == {"SoftTIFA", "WrittenScore"}
    assert ((found["SoftTIFA"] > 0) & (found["SoftTIFA"] < 1)).all()
    assert found["WrittenScore"].isnan().all(), "random weights write no score"


@pytest.mark.parametrize(
    "file",
    [*CODE, *(ROOT / "experiments").glob("*/README.md"), ROOT / "experiments/README.md"],
    ids=lambda f: f.parent.name + f.name,
)
def test_links_lead_somewhere(file):
    for link in re.findall(r"\]\(([^)#]+)\)", file.read_text(encoding="utf-8")):
        if "://" not in link:
            assert (file.parent / link).exists(), link
