"""A script that starts processes without a guard is told so, and does not wait for itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BEGINNING = """
import torch
from graft_lightning import api
from graft_lightning.rejection.reward import score
from graft_lightning.rejection.rewards.parallel import ParallelReward
from tests.fakes import LinearReward, TinyReference

reward = ParallelReward(LinearReward(), workers=1, at_least=4)
"""
FILLS = """
model = TinyReference()
views = api.open_views(model, model.build())
pool = api.Collection(model, [reward], "pool", ["left"], draws=8)
pool.fill(views.frozen, model.fingerprint(views.original))
"""
SCORES = """
score(reward, torch.zeros(8, 2), ["left"] * 8)
"""


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("text", [FILLS, SCORES], ids=["fills", "scores"])
def test_a_script_without_a_guard_is_told_what_it_lacks(text, tmp_path):
    script = tmp_path / "unguarded.py"
    script.write_text(BEGINNING + text)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, str(script)]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1
    last = ended.stderr.strip().splitlines()[-1]
    assert "reward linear: one of its 1 processes has ended" in last
    assert "below `if __name__ == '__main__':`" in last
    assert f"{script} runs again in a process of one of its rewards" in ended.stderr
