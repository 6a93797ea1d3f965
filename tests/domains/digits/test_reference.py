import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open

from graft_lightning.domains.digits import (
    CaptionedDigits,
    DigitPairJudge,
    DigitPairReward,
    DigitPrompts,
    DigitReference,
)
from graft_lightning.processes.noise import Noise
from graft_lightning.rejection.reference import open_views
from graft_lightning.types import SettingsError

ROOT = Path(__file__).parents[3]


def test_the_shipped_weights_are_small_and_what_their_configuration_makes() -> None:
    config = yaml.safe_load((ROOT / "experiments/digits/pretrain.yaml").read_text())
    reference = config["model"]["init_args"]["reference"]
    path = DigitReference().weights_file
    assert path.samefile(ROOT / reference["init_args"].pop("weights"))
    assert path.stat().st_size <= 2_000_000
    DigitReference(**reference["init_args"]).build()  # refuses weights of another network
    with safe_open(str(path), "pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["provenance"]) == {
        "class": reference["class_path"].rpartition(".")[2],
        "method": {"Pretrain": "pretrained"}[config["model"]["class_path"]],
        "seed": config["seed_everything"],
        "steps": config["trainer"]["max_steps"],
    }


def test_the_shipped_weights_belong_to_the_default_network() -> None:
    network = DigitReference().build()
    fresh = DigitReference().build(pretrained=False)
    assert {k: v.shape for k, v in network.state_dict().items()} == {k: v.shape for k, v in fresh.state_dict().items()}
    with pytest.raises(SettingsError, match="depth: file 4, configuration 3"):
        DigitReference(network={"depth": 3}).build()


def test_absent_weights_are_named_with_the_command_that_makes_them(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"pretrain\.yaml"):
        DigitReference(weights=str(tmp_path / "none.safetensors")).build()


def test_the_shipped_reference_draws_digits_and_half_follows_its_prompts() -> None:
    """The figures that experiments and README start from: reward about 0.2, judge about 0.3 on held-out prompts."""
    reference = DigitReference()
    views = open_views(reference, reference.build())
    texts = DigitPrompts("tune").texts() * 4
    noise = Noise(torch.arange(len(texts)))
    trajectory = reference.sampler.sample(
        views.frozen, reference.process, reference.encode(texts, "cpu"), noise, reference.shape(texts)
    )
    images = reference.decode(trajectory.x_0)
    assert 0.12 < DigitPairReward()(images, texts).mean() < 0.32
    assert 0.18 < DigitPairJudge()(images, texts).mean() < 0.42


def test_examples_are_a_function_of_the_position_and_hold_the_stated_shares() -> None:
    examples = CaptionedDigits(wrong_captions=0.4, no_captions=0.1)
    images, captions = examples.batch(range(2000), seed=3)
    again, words = examples.batch([1500, 7], seed=3)
    assert torch.equal(again, images[[1500, 7]])
    assert words == [captions[1500], captions[7]]
    empty = [not caption for caption in captions]
    assert abs(sum(empty) / 2000 - 0.1) < 0.01
    told = [i for i, none in enumerate(empty) if not none]
    right = DigitPairJudge()((images[told] + 1) / 2, [captions[i] for i in told]).mean()
    assert abs(right - 0.6) < 0.06, "60 % of the captions are right, give or take the judge's own errors"
