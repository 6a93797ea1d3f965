"""A judge of images and prompts serves any domain that decodes to images, by the YAML file alone."""

import json

import pytest
import torch

from graft_lightning.domains.text_to_image.rewards import VQAScore
from graft_lightning.rejection.pool import TrajectoryPool
from tests.runs import DRAWS, PROMPTS, launch


@pytest.mark.slow
def test_a_question_answering_judge_rewards_digits(model_folder, tmp_path):
    settings = {"model": model_folder("llava"), "dtype": "float32"}
    judge = {"class_path": "graft_lightning.domains.text_to_image.rewards.VQAScore", "init_args": settings}
    changes = {"collect.reward": judge, "evaluate.rewards": [judge], "trainer.max_steps": 2, "data.steps_per_epoch": 2}
    cli = launch("fit", tmp_path, changes)
    assert cli.trainer.global_step == 2

    opened = TrajectoryPool.open(tmp_path / "pool").round(0)
    found = opened.rewards("VQAScore")
    images = cli.model.reference.decode(opened.column("x_0").flatten(0, 1))
    assert images.shape[1] == 1, "grey images, which the judge was not made for"
    texts = [text for text in PROMPTS for _ in range(DRAWS)]
    torch.testing.assert_close(found.flatten(), VQAScore(**settings)(images, texts), rtol=1e-4, atol=0)
    assert (found.std(1) > 0).all(), "it sees the images"

    record = json.loads((tmp_path / "run/collected.json").read_text())
    best = found.topk(2, dim=1).values
    assert record["rewards"]["VQAScore"]["accepted"] == pytest.approx(float(best.mean()), rel=1e-5)
    rows = [json.loads(line) for line in (tmp_path / "run/evaluation.jsonl").read_text().splitlines()]
    assert [(row["method"], row["step"]) for row in rows] == [("base", 0), ("pgraft@0.25", 2)]
    assert rows[0]["scores"]["VQAScore"] != rows[1]["scores"]["VQAScore"]
