"""The plan of an inverse noise correction, held against what a run does."""

import re

import pytest
import torch

from graft_lightning.rejection.pool import TrajectoryPool
from graft_lightning.rejection.reference import FrozenDenoiser, TrainableDenoiser
from graft_lightning.reports.memory import size_of
from tests.corrections import STEPS, gaussian, invert, launch

AT_ONCE = {"tolerance": 1e6, "max_iterations": 1}
"""A solver that takes the first iterate for a solution: the one case in which the evaluations are known."""
CHECKPOINT = {"class_path": "ModelCheckpoint", "init_args": {"save_last": True, "enable_version_counter": False}}


def with_solver(**settings):
    solver = {"class_path": "graft_lightning.inversion.solvers.FixedPoint", "init_args": AT_ONCE}
    return {"trainer.callbacks": [invert(solver=solver, **settings), CHECKPOINT]}


@pytest.fixture
def counted(monkeypatch):
    """Samples through each network without gradient."""
    counts = {"flow": 0, "corrector": 0}
    for view in (FrozenDenoiser, TrainableDenoiser):

        def call(self, x_t, t, condition, original=view.__call__):
            if not torch.is_grad_enabled():
                counts["flow" if self.reference.path_name == "linear" else "corrector"] += len(t)
            return original(self, x_t, t, condition)

        monkeypatch.setattr(view, "__call__", call)
    return counts


def through(text):
    """The samples through each network that a plan announces."""
    line = re.search(r"^  model calls .*", text, re.MULTILINE)[0]
    found = {"flow": 0, "corrector": 0}
    return found | {
        name: int(n.replace(",", "")) for n, name in re.findall(r"([\d,]+) (?:samples )?through the (\w+)", line)
    }


HEUN = {"class_path": "Heun", "init_args": {"steps": STEPS}}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"evaluate.metrics": [{"class_path": "graft_lightning.domains.base.Diversity"}]},
        {"evaluate.metrics": [{"class_path": "graft_lightning.domains.base.Diversity"}], "evaluate.baseline": False},
        {"evaluate.alarms": {"on": False}},
        {"model.flow.sampler": HEUN},
        {"trainer.max_steps": 2},
        {"data.validation": None},
        with_solver(start_level=0),
        "gaussian",
    ],
    ids=lambda changes: changes if isinstance(changes, str) else " ".join(changes) or "as it is",
)
def test_what_is_planned_is_what_happens(tmp_path, capsys, counted, changes):
    changes = with_solver() | (gaussian(tmp_path) if changes == "gaussian" else changes)
    launch("plan", tmp_path, changes, "--measure=false")
    planned = through(capsys.readouterr().out)
    assert counted == {"flow": 0, "corrector": 0}
    launch("fit", tmp_path, changes)
    assert planned == counted


def test_counts_by_hand(tmp_path, capsys):
    launch("plan", tmp_path, {}, "--measure=false")
    printed = capsys.readouterr().out
    assert "20 samples x 3 steps x about 8 evaluations (at most 1,070) = 480" in printed
    assert "+ 60 for their round trips; at the very most 64,260 together" in printed
    # two validations of 6 samples, each with 2 samples of the base; 4 steps of the flow and 2 of the corrector
    assert through(printed) == {"flow": 540 + 2 * (6 + 2) * 4, "corrector": 2 * 6 * 2}
    assert f"disk             {20 * (32 + 2 * 4 * 64 + 3 * 32 + 5) / 1000:.3g} KB for the pool" in printed


def test_a_row_of_the_pool_takes_what_was_planned(tmp_path):
    launch("fit", tmp_path, {"trainer.max_steps": 1})
    row = TrajectoryPool.open(tmp_path / "pool").round(0).read([0])
    assert size_of(row.values(include_nested=True, leaves_only=True)) == 32 + 2 * 4 * 64 + 3 * 32 + 5


def test_everything_is_measured_where_the_flow_is_there(tmp_path, capsys):
    launch("plan", tmp_path)
    printed = capsys.readouterr().out
    assert re.search(r"time\s+about .*: sampling .*, inversion .*, training", printed)
    assert re.search(r"activations\s+[\d.]+ KB in a step of 4 examples", printed)
    assert not (tmp_path / "pool").exists()


@pytest.mark.parametrize("measure", ["true", "false"])
def test_without_the_flow_everything_but_time_is_said(tmp_path, capsys, measure):
    cli = launch("plan", tmp_path, {"model.flow.weights": str(tmp_path / "absent")}, f"--measure={measure}")
    printed = capsys.readouterr().out
    flow, corrector = (
        sum(p.numel() for p in reference.build(pretrained=False).parameters())
        for reference in (cli.model.flow, cli.model.reference)
    )
    assert f"parameters       {flow:,} in the flow, {corrector:,} in the corrector, {corrector:,} trained" in printed
    total = (flow + 4 * corrector) * 4 / 1000  # the corrector, its gradients and two moments
    assert re.search(rf"memory\s+{total:.3g} KB in training = {4 * flow / 1000:.3g} KB frozen flow \+", printed)
    assert re.search(r"operations\s+[\d.]+ KFLOP an evaluation of the corrector, [\d.]+ KFLOP an evaluation", printed)
    assert re.search(r"time\s+not measured: " + (".*absent" if measure == "true" else "not asked for"), printed)


def test_a_gaussian_is_counted_in_full(tmp_path, capsys):
    launch("plan", tmp_path)
    changes = gaussian(tmp_path)
    capsys.readouterr()
    launch("plan", tmp_path, changes)
    printed = capsys.readouterr().out
    assert "gradient steps   none" in printed
    assert re.search(r"time\s+about .*: sampling .*, inversion [^,]*$", printed, re.MULTILINE)
    corrector, noise = launch("fit", tmp_path, changes).model.closed_form_bytes(20)
    # mean, 19 directions and variances (the mean of 20 samples takes one), the rest
    assert corrector == 4 * (64 + 19 * 65 + 1)
    assert noise == 20 * 64 * 8
    assert f"checkpoint       {corrector / 1000:.3g} KB" in printed


@pytest.mark.parametrize(
    "form", [{}, {"covariance": "diagonal"}, {"covariance": "mean"}, {"covariance": "low_rank", "rank": 5}]
)
def test_bytes_of_a_gaussian(tmp_path, form):
    from graft_lightning.domains.digits import DigitFlow
    from graft_lightning.modules import GaussianNoise

    module = GaussianNoise(DigitFlow(), limit=30, **form)
    module.fit_noise(torch.randn(30, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert module.closed_form_bytes(50)[0] == size_of(module.fitted().buffers())


def test_a_run_without_the_callback_is_told(tmp_path, capsys):
    launch("plan", tmp_path, {"trainer.callbacks": [CHECKPOINT]}, "--measure=false")
    assert "inversion        none: the callback Invert is missing" in capsys.readouterr().out
