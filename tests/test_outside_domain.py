"""A domain of two files outside the package, one Gaussian and one categorical field, goes through every command."""

import json
import subprocess
import sys

import pytest
import torch
import yaml

from graft_lightning.cli.main import main
from graft_lightning.rejection.pool import TrajectoryPool

REFERENCE = '''
"""Coloured points of the plane: where each of three points lies, and which of four colours it has."""

import torch
from torch import nn

from graft_lightning.processes.interleaved import Interleaved
from graft_lightning.processes.paths import CategoricalPath, GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.schedules import Cosine, Trigonometric
from graft_lightning.processes.times import VisitedLevels
from graft_lightning.rejection.reference import Reference


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.where, self.colour = nn.Linear(8, 16), nn.Linear(16, 2), nn.Linear(16, 4)

    def forward(self, where, colour, t):
        colours = nn.functional.one_hot(colour, 4).to(where)
        h = torch.tanh(self.hidden(torch.cat([where, colours, t[:, None].expand(-1, 3, -1).to(where)], -1)))
        return self.where(h), self.colour(h)


class Points(Reference):
    output = {"where": "v_prediction", "colour": "logits"}

    def __init__(self, steps: int = 4):
        super().__init__(Interleaved(steps))

    @property
    def process(self):
        paths = {"where": GaussianPath(Trigonometric()), "colour": CategoricalPath(Trigonometric(), 4, "absorbing")}
        return Process(paths, VisitedLevels(self.sampler.training_levels(Process(paths))))

    def build(self, pretrained=True):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return Network()

    def denoise(self, network, x_t, t, condition):
        t = t if t.ndim == 2 else t[:, None].expand(-1, 2)
        where, colour = network(x_t["where"], x_t["colour"], t)
        return {"where": where, "colour": colour}

    def encode(self, conditions, device):
        return torch.zeros(len(conditions), 0, device=device)

    def shape(self, conditions):
        return {"where": (3, 2), "colour": (3,)}
'''

REWARDS = '''
"""Rewards of coloured points."""

from graft_lightning.rejection.reward import Reward


class Right(Reward):
    """How far to the right the points of colour 0 lie."""

    def __call__(self, samples, conditions):
        return (samples["where"][..., 0] * (samples["colour"] == 0)).mean(1)
'''

CONFIG = {
    "seed_everything": 1,
    "data": {
        "class_path": "AcceptedTrajectories",
        "init_args": {
            "conditions": {"class_path": "Texts", "init_args": {"values": ["a", "b"]}},
            "acceptance": {"class_path": "TopK", "init_args": {"k": 2}},
            "pool": "run/pool",
            "batch_size": 4,
            "steps_per_epoch": 3,
            "validation": {"class_path": "Texts", "init_args": {"values": ["c"]}},
            "eval_draws": 4,
        },
    },
    "collect": {"reward": {"class_path": "points.rewards.Right"}, "draws": 6, "keep": [0.5]},
    "evaluate": {"rewards": [{"class_path": "points.rewards.Right"}]},
    "model": {
        "class_path": "PGraft",
        "init_args": {"handoff": 0.5, "reference": {"class_path": "points.reference.Points"}},
    },
    "trainer": {
        "max_steps": 3,
        "accelerator": "cpu",
        "num_sanity_val_steps": 0,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": 1,
        "logger": {"class_path": "TensorBoardLogger", "init_args": {"save_dir": ".", "name": "run", "version": ""}},
        "callbacks": [
            {"class_path": "ModelCheckpoint", "init_args": {"save_last": True}},
            {"class_path": "WriteSamples"},
        ],
    },
}


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """The working directory of somebody who has a domain of their own."""
    (tmp_path / "points").mkdir()
    (tmp_path / "points/reference.py").write_text(REFERENCE)
    (tmp_path / "points/rewards.py").write_text(REWARDS)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(CONFIG))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] == "points"]:
        del sys.modules[name]


def test_every_command_runs_on_a_domain_from_outside(outside, capsys):
    main(["plan", "--config=run.yaml"])
    assert "12 trajectories" in capsys.readouterr().out.replace("12 samples", "12 trajectories")
    main(["fit", "--config=run.yaml"])
    opened = TrajectoryPool.open("run/pool").round(0)
    assert opened.complete
    data = opened.read(torch.arange(12), ["x_0", "states/2"])
    assert data["x_0"]["where"].shape == (12, 3, 2)
    assert data["states", "2", "colour"].max() <= 3
    rewards = (data["x_0"]["where"][..., 0] * (data["x_0"]["colour"] == 0)).mean(1)
    torch.testing.assert_close(opened.rewards("Right").flatten(), rewards)

    main(["diagnose", "--config=run.yaml", "--states=6", "--continuations=3"])
    diagnosed = json.loads((outside / "run/diagnose.json").read_text())
    assert diagnosed["levels"][0]["score_distance"]["n"] == 6

    checkpoint = "run/checkpoints/last.ckpt"
    main(["predict", "--config=run.yaml", f"--ckpt_path={checkpoint}"])
    lines = [json.loads(line) for line in (outside / "run/samples/samples.jsonl").read_text().splitlines()]
    assert [line["condition"] for line in lines] == ["c"]
    assert (outside / "run/samples" / lines[0]["file"]).is_file()
    main(["test", "--config=run.yaml", f"--ckpt_path={checkpoint}"])
    main(["report", "run"])
    text = (outside / "run/report.md").read_text()
    assert "pgraft@0.5" in text
    assert "Right" in text


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_the_domain_need_not_be_on_the_path(outside):
    """`python -m` from the folder where the files lie, as its author would run it."""
    done = subprocess.run(
        [sys.executable, "-m", "graft_lightning", "plan", "--config=run.yaml"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
