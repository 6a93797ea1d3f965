"""Inversion as a callback: one pool whatever the processes and interruptions; what did not converge is never used."""

import json
import os
import signal

import pytest
import torch

from graft_lightning.callbacks.invert import Invert
from graft_lightning.rejection.pool import TrajectoryPool
from graft_lightning.rejection.pool.round import Round
from tests.corrections import STEPS, gaussian, invert, launch, tiny_flow
from tests.killing import killed
from tests.runs import assert_same_weights, weights_of

TWO = {"trainer.devices": 2, "trainer.strategy": "ddp_fork", "data.batch_size": 2}
SGD = {"model.optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.05}}}


def opened(folder):
    (found,) = TrajectoryPool.open(folder / "pool").rounds()
    return found


def assert_same_pools(first, second, atol=0.0):
    one, two = opened(first), opened(second)
    assert one.fields == two.fields
    for name in one.fields:
        a, b = one.column(name), two.column(name)
        torch.testing.assert_close(a, b, rtol=0, atol=atol, equal_nan=True, msg=name)


def test_the_pool_holds_what_the_flow_takes_back_to_the_data(tmp_path):
    cli = launch("fit", tmp_path)
    pool = opened(tmp_path)
    noise, converged = pool.column(f"states/{STEPS}")[0], pool.column("converged")[0]
    assert converged.all()
    assert pool.column("residual").shape == (1, 20, STEPS - 1)
    steps = cli.model.flow_steps()
    there = steps.generate(noise, stop_level=1)
    x_0 = pool.column("x_0")[0]
    # x_1 = (1 - t) x_0 + t z with z a standard normal, t = 1 / STEPS
    z = (there - (1 - 1 / STEPS) * x_0) * STEPS
    assert abs(float(z.mean())) < 0.1
    assert abs(float(z.std()) - 1) < 0.1
    assert float(pool.column("round_trip").max()) < 1e-5
    record = json.loads((tmp_path / "run/inverted.json").read_text())
    assert (record["samples"], record["newly_inverted"], record["converged"]) == (20, 20, 1.0)
    assert [row["k"] for row in record["by_step"]] == [2, 3, 4]


def test_in_float64_the_residuals_are_smaller_and_the_noise_the_same(tmp_path):
    """Single precision never comes to 1e-12 (every sample would be refused); double precision does."""
    for double, tolerance in ((False, 1e-6), (True, 1e-12)):
        solver = {"class_path": "FixedPoint", "init_args": {"max_iterations": 60, "tolerance": tolerance}}
        launch("fit", tmp_path / str(double), {"trainer.callbacks": [invert(solver=solver, double=double)]})
    single, double = (opened(tmp_path / name) for name in ("False", "True"))
    assert double.column("converged").all()
    assert double.column("residual").nan_to_num().max() < 1e-11
    assert double.column("round_trip").max() < 1e-10 < single.column("round_trip").min()
    noise = f"states/{STEPS}"
    assert double.column(noise).dtype == torch.float32
    torch.testing.assert_close(single.column(noise), double.column(noise), rtol=0, atol=1e-4, equal_nan=True)


def test_two_processes_do_what_one_does(tmp_path):
    one = launch("fit", tmp_path / "one", SGD)
    two = launch("fit", tmp_path / "two", {**SGD, **TWO})
    assert_same_pools(tmp_path / "one", tmp_path / "two")
    assert_same_weights(weights_of(one), weights_of(two), rtol=0, atol=2e-6)


def test_an_inversion_that_was_interrupted_goes_on(tmp_path, monkeypatch):
    launch("fit", tmp_path / "whole")
    write, written = Round.write, []

    def dies_at_the_second(self, shard, data):
        if len(written) == 1:
            raise KeyboardInterrupt
        written.append(shard.index)
        write(self, shard, data)

    with monkeypatch.context() as patch:
        patch.setattr(Round, "write", dies_at_the_second)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            launch("fit", tmp_path / "killed")
    assert len(opened(tmp_path / "killed").missing()) == 2
    launch("fit", tmp_path / "killed")
    assert json.loads((tmp_path / "killed/run/inverted.json").read_text())["newly_inverted"] == 12
    assert_same_pools(tmp_path / "whole", tmp_path / "killed")
    launch("fit", tmp_path / "killed")
    assert json.loads((tmp_path / "killed/run/inverted.json").read_text())["newly_inverted"] == 0


@pytest.mark.slow
@pytest.mark.parametrize(("when", "there"), [("before", 0), ("after", 8)])
def test_an_inversion_that_was_killed_goes_on(tmp_path, monkeypatch, when, there):
    """SIGKILL around the first shard: nothing can be tidied up, the pool's lock included."""
    write = Round.write

    def and_die(self, shard, data):
        if when == "after":
            write(self, shard, data)
        os.kill(os.getpid(), signal.SIGKILL)

    whole = launch("fit", tmp_path / "whole")
    monkeypatch.setattr(Round, "write", and_die)
    killed(lambda: launch("fit", tmp_path / "killed"))
    monkeypatch.undo()
    assert TrajectoryPool.open(tmp_path / "killed/pool").statistics()["trajectories"] == there
    assert not (tmp_path / "killed/run/inverted.json").exists()
    parts = launch("fit", tmp_path / "killed")
    assert json.loads((tmp_path / "killed/run/inverted.json").read_text())["newly_inverted"] == 20 - there
    assert_same_pools(tmp_path / "whole", tmp_path / "killed")
    assert_same_weights(weights_of(whole), weights_of(parts))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model.flow.sampler.steps": 3}, "sampler.steps"),
        ({"trainer.callbacks": [invert(start_level=2)]}, "inversion.start_level"),
        ({"data.examples.part": "held_out"}, "examples.part"),
        ({"seed_everything": 4}, "run_seed"),
    ],
    ids=["sampler", "start level", "data", "seed"],
)
def test_a_pool_of_another_inversion_is_refused(tmp_path, capsys, changes, words):
    launch("fit", tmp_path)
    with pytest.raises(SystemExit):
        launch("fit", tmp_path, changes)
    assert words in capsys.readouterr().err


def last_record(folder):
    """Of the last fit: one with other settings has a folder of its own."""
    return json.loads(max(folder.glob("run*/inverted.json"), key=lambda file: file.stat().st_mtime_ns).read_text())


def test_another_flow_is_told_from_its_weights(tmp_path, capsys):
    launch("fit", tmp_path)
    tiny_flow(tmp_path / "flow.safetensors", seed=8)
    with pytest.raises(SystemExit):
        launch("fit", tmp_path)
    assert "made for another model.flow (weights: " in capsys.readouterr().err


def test_more_data_are_inverted_where_more_are_asked_for_and_fewer_are_a_part(tmp_path):
    for folder, counts in (("grown", (8, 20, 12)), ("whole", (20,)), ("part", (12,))):
        for count in counts:
            cli = launch("fit", tmp_path / folder, {"data.count": count})
            record = last_record(tmp_path / folder)
            assert record["samples"] == len(cli.datamodule.converged) == count
            if folder == "grown":
                assert record["newly_inverted"] == {8: 8, 20: 12, 12: 0}[count]
    assert_same_pools(tmp_path / "grown", tmp_path / "whole", atol=1e-5)
    part = TrajectoryPool.open(tmp_path / "grown/pool").round(0, [""], 12)
    whole = opened(tmp_path / "part")
    for name in whole.fields:
        torch.testing.assert_close(part.column(name), whole.column(name), rtol=0, atol=1e-5, equal_nan=True)


def test_what_did_not_converge_is_never_used(tmp_path):
    """A budget of iterations that some samples keep to and others do not."""
    few = {"class_path": "FixedPoint", "init_args": {"max_iterations": 5, "tolerance": 1e-4}}
    for iterations in (3, 4, 5, 6):
        folder = tmp_path / str(iterations)
        few["init_args"]["max_iterations"] = iterations
        tiny_flow(_made(folder) / "flow.safetensors", scale=0.15)
        try:
            cli = launch("fit", folder, {"trainer.callbacks": [invert(solver=few)], "data.count": 60})
        except SystemExit:
            continue
        converged = opened(folder).column("converged")[0]
        noise = cli.datamodule.noise()
        assert len(noise) == converged.sum()
        assert noise.isfinite().all()
        assert opened(folder).column(f"states/{STEPS}")[0][~converged].isnan().all()
        seen = torch.cat([batch.x for batch in cli.datamodule.train_dataloader()])
        assert all(any(torch.equal(x, z) for z in noise) for x in seen)
        if 0 < int(converged.sum()) < 60:
            return
    pytest.fail("no budget separates the samples: the test shows nothing")


def test_where_nothing_converged_the_run_ends_with_advice(tmp_path, capsys):
    solver = {"class_path": "FixedPoint", "init_args": {"max_iterations": 1}}
    with pytest.raises(SystemExit):
        launch("fit", tmp_path, {"trainer.callbacks": [invert(solver=solver)]})
    error = capsys.readouterr().err
    assert "0 converged" in error
    assert "start_level" in error


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trainer.callbacks": [invert(start_level=STEPS)]}, f"one of 0 to {STEPS - 1}"),
        ({"model.flow.sampler": {"class_path": "DDPM", "init_args": {"steps": 4}}}, "draws noise"),
        ({"model.flow.sampler.clip_sample": 1.0}, "no inverse"),
        ({"model.flow.path": "trigonometric"}, "RectifiedFlow"),
        ({"data.count": 1}, "data.count=1"),
    ],
)
def test_settings_that_cannot_work_are_refused(tmp_path, capsys, changes, words):
    with pytest.raises(SystemExit):
        launch("fit", tmp_path, changes)
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(("name", "value"), [("start_level", -1), ("batch_size", 0), ("perturbation", -0.1)])
def test_numbers_out_of_range_are_named(name, value):
    with pytest.raises(ValueError, match=f"invert.{name}={value}"):
        Invert(**{name: value})


def test_the_gaussian_corrector_reads_the_same_pool(tmp_path):
    launch("fit", tmp_path)
    launch("fit", tmp_path, gaussian(tmp_path))
    assert last_record(tmp_path)["newly_inverted"] == 0


def _made(folder):
    folder.mkdir(parents=True)
    return folder
