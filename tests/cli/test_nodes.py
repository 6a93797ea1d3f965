"""Two nodes, tried on one machine: each a process with the environment that torchrun, or SLURM, gives it."""

import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path

import lightning as L
import pytest
import torch

from graft_lightning.rejection.pool import TrajectoryPool
from graft_lightning.rejection.pool.round import Round
from tests.cli.test_resume import CHECKPOINT, EMA, assert_same_end, last, records, run
from tests.killing import killed
from tests.runs import Ink, arguments, assert_same_weights, launch, tiny_config
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]
SGD = {"model.optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.05}}}
NODES = {"trainer.num_nodes": 2, "trainer.devices": 1, "trainer.strategy": "ddp", "data.batch_size": 2}
SHARDED = {
    "class_path": "lightning.pytorch.strategies.ModelParallelStrategy",
    "init_args": {"data_parallel_size": 2, "tensor_parallel_size": 1, "save_distributed_checkpoint": False},
}


def free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


def torchrun(rank: int, port: str) -> dict[str, str]:
    """What torchrun's agent of a node gives to its only process."""
    return {
        "RANK": str(rank),
        "GROUP_RANK": str(rank),
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "TORCHELASTIC_RUN_ID": "two nodes",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_USE_AGENT_STORE": "False",
    }


def on_two_nodes(work, environment=torchrun) -> list[int]:
    """Does ``work`` as each node, in a forked process; returns how they ended. When one dies, the other is ended."""
    port, children = free_port(), []
    for rank in range(2):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.environ.update(environment(rank, port))
                work(rank)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        children.append(child)
    ended = {}
    while len(ended) < 2:
        child, status = os.wait()
        ended[child] = status
        if status:
            for other in set(children) - set(ended):
                time.sleep(0.2)
                os.kill(other, signal.SIGKILL)
    return [ended[child] for child in children]


def prepared(folder: Path) -> None:
    """A folder with the weights of the reference, which two processes must not write at once."""
    folder.mkdir(exist_ok=True)
    tiny_config(folder)


class SlowOnNodeOne(Ink):
    """Takes its time on one of two nodes."""

    def __call__(self, samples, conditions):
        time.sleep(0.05 if os.environ.get("RANK") == "1" else 0.0)
        return super().__call__(samples, conditions)


@pytest.mark.parametrize("strategy", ["ddp", SHARDED], ids=["ddp", "fsdp2"])
def test_two_nodes_do_what_one_process_does(tmp_path, strategy):
    """The pool bit for bit, and the weights up to the order in which gradients are summed."""
    changes = {**SGD, "trainer.callbacks": EMA + CHECKPOINT}
    launch("fit", tmp_path / "one", changes)
    two = {**changes, **NODES, "trainer.strategy": strategy}
    prepared(tmp_path / "two")
    assert on_two_nodes(lambda rank: launch("fit", tmp_path / "two", two)) == [0, 0]
    for one, other in zip(*(TrajectoryPool.open(tmp_path / n / "pool").rounds() for n in ("one", "two")), strict=True):
        for name in one.fields:
            assert torch.equal(one.column(name), other.column(name)), name
        assert torch.equal(one.rewards("Ink"), other.rewards("Ink"))
    first, second = last(tmp_path / "one"), last(tmp_path / "two")
    assert_same_weights(first["state_dict"], second["state_dict"], rtol=0, atol=2e-6)
    assert_same_weights(first["raw_parameters"], second["raw_parameters"], rtol=0, atol=2e-6)


@pytest.mark.parametrize("when", ["collecting", "training"])
def test_a_node_is_killed_and_the_run_goes_on_to_the_same_end(tmp_path, monkeypatch, when):
    changes = {**NODES, "collect.batch_size": 4}
    kill = {"class_path": "tests.cli.test_nodes.KillNodeOne", "init_args": {"step": 7}}
    for name in ("whole", "parts"):
        prepared(tmp_path / name)
    assert on_two_nodes(lambda rank: run(tmp_path / "whole", "average", **changes)) == [0, 0]
    broken = {**changes, "trainer.callbacks": [kill, *EMA, *CHECKPOINT]} if when == "training" else changes
    with monkeypatch.context() as patch:
        if when == "collecting":
            original, dying = Round.write, tmp_path / "dying"

            def and_die(self, *parts):
                original(self, *parts)
                if os.environ["RANK"] == "1":
                    dying.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                wait_for(dying)

            patch.setattr(Round, "write", and_die)
        ended = on_two_nodes(lambda rank: run(tmp_path / "parts", "average", **broken))
    assert os.WTERMSIG(ended[1]) == signal.SIGKILL
    assert ended[0] != 0
    assert on_two_nodes(lambda rank: run(tmp_path / "parts", "average", "--ckpt_path=last", **changes)) == [0, 0]
    assert_same_end(tmp_path / "whole", tmp_path / "parts")
    assert records(tmp_path / "whole") == records(tmp_path / "parts")


class KillNodeOne(L.Callback):
    """Ends the process of node 1 after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer, *rest) -> None:
        if trainer.global_step == self.step and trainer.global_rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_slow_node_makes_less_of_the_pool(tmp_path, monkeypatch):
    """Sampling and scores are taken by whoever is free; each of them once."""
    changes = {**NODES, "collect.batch_size": 1, "collect.reward": {"class_path": "tests.cli.test_nodes.SlowOnNodeOne"}}
    changes |= {"trainer.max_steps": 1, "evaluate.baseline": False, "trainer.limit_val_batches": 0}
    prepared(tmp_path / "two")
    for rank in range(2):  # a node that is late may find nothing left
        (tmp_path / f"node-{rank}").touch()
    original = Round.write_rewards

    def counted(self, name, shard, *values):
        with open(tmp_path / f"node-{os.environ['RANK']}", "a") as file:
            file.write(f"{shard.index}\n")
        return original(self, name, shard, *values)

    monkeypatch.setattr(Round, "write_rewards", counted)
    assert on_two_nodes(lambda rank: launch("fit", tmp_path / "two", changes)) == [0, 0]
    scored = [[int(line) for line in (tmp_path / f"node-{rank}").read_text().split()] for rank in range(2)]
    assert sorted(scored[0] + scored[1]) == list(range(16))
    assert len(scored[1]) < len(scored[0])


# ---- SLURM

SCONTROL = '#!/bin/sh\necho "$@" >> "$SCONTROL_LOG"\n'


class RequeueAtStep(L.Callback):
    """The signal that SLURM sends before the time is up, as a step ends, and the end of the job two steps later.

    Of the job that was queued again there is time enough.
    """

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer, *rest) -> None:
        if "SLURM_RESTART_COUNT" in os.environ:
            return
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGUSR1)
        if trainer.global_step == self.step + 2:
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_job_whose_time_is_up_is_queued_again_and_goes_on_from_a_checkpoint_of_its_own(tmp_path, monkeypatch):
    (tmp_path / "scontrol").write_text(SCONTROL)
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SCONTROL_LOG", str(tmp_path / "scontrol.log"))
    for name, value in {"JOB_ID": "4242", "NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    own = {"trainer.default_root_dir": str(tmp_path / "job")}
    requeue = {"class_path": "tests.cli.test_nodes.RequeueAtStep", "init_args": {"step": 7}}
    for name in ("whole", "parts"):
        prepared(tmp_path / name)
    run(tmp_path / "whole", "average", **{"trainer.default_root_dir": str(tmp_path / "another job")})
    changes = {**own, "trainer.callbacks": [*EMA, requeue, *CHECKPOINT]}
    killed(lambda: run(tmp_path / "parts", "average", **changes))
    assert (tmp_path / "scontrol.log").read_text() == "requeue 4242\n"
    assert [path.name for path in (tmp_path / "job").iterdir()] == ["hpc_ckpt_1.ckpt"]
    assert torch.load(tmp_path / "job/hpc_ckpt_1.ckpt")["global_step"] == 7
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    run(tmp_path / "parts", "average", **changes)  # nothing says where from, as in the script of the queue
    assert_same_end(tmp_path / "whole", tmp_path / "parts")
    assert records(tmp_path / "whole") == records(tmp_path / "parts")


# ---- the launchers themselves


@pytest.mark.slow
@pytest.mark.timeout(600)  # at their end agents wait up to 300 s for each other
@pytest.mark.usefixtures("warm")
def test_two_agents_of_torchrun_do_what_one_process_does(tmp_path):
    """By the script that ships, on loopback."""
    changes = {**SGD, "trainer.callbacks": CHECKPOINT}
    launch("fit", tmp_path / "one", changes)
    prepared(tmp_path / "two")
    config = tiny_config(tmp_path / "two", {**changes, **NODES})
    line = [str(ROOT / "experiments/clusters/torchrun.sh"), *arguments("fit", tmp_path / "two", config)]
    own = {
        "NODES": "2",
        "GPUS": "1",
        "HEAD": f"127.0.0.1:{free_port()}",
        "PYTHON": sys.executable,
        "PYTHON_EXEC": sys.executable,
    }
    own["PYTHONPATH"] = str(ROOT)
    said = [open(tmp_path / f"agent-{number}.txt", "w+") for number in range(2)]  # noqa: SIM115 - closed below
    agents = [subprocess.Popen(line, env={**os.environ, **own}, cwd=ROOT, stdout=log, stderr=log) for log in said]
    try:
        while None in (ended := [agent.poll() for agent in agents]) and not any(ended):
            time.sleep(0.1)
    finally:
        for agent in agents:  # one that has lost the other would wait for it ten minutes
            agent.terminate()
            agent.wait()
        for log in said:
            log.close()
    assert ended == [0, 0], "\n\n".join(Path(log.name).read_text()[-2000:] for log in said)
    one, two = (TrajectoryPool.open(tmp_path / name / "pool").rounds()[0] for name in ("one", "two"))
    for name in one.fields:
        assert torch.equal(one.column(name), two.column(name)), name
    assert_same_weights(last(tmp_path / "one")["state_dict"], last(tmp_path / "two")["state_dict"], rtol=0, atol=2e-6)


@pytest.mark.parametrize("hpc", [False, True])
def test_the_script_for_slurm_takes_up_what_there_is(tmp_path, hpc):
    """The newest of a job's own checkpoint where the signal came in time; the run's last where a node failed."""
    (tmp_path / "srun").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "srun").chmod(0o755)
    if hpc:
        (tmp_path / "runs/slurm-7").mkdir(parents=True)
        (tmp_path / "runs/slurm-7/hpc_ckpt_1.ckpt").touch()
    own = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    line = ["bash", str(ROOT / "experiments/clusters/slurm.sh"), "fit", "--config", "x.yaml"]
    done = subprocess.run(line, env={**os.environ, **own}, cwd=tmp_path, capture_output=True, text=True, check=True)
    printed = done.stdout.split("\n")
    assert printed[2:7] == ["-m", "graft_lightning", "fit", "--config", "x.yaml"]
    assert printed[7] == "--trainer.default_root_dir=runs/slurm-7"
    assert ("--ckpt_path=last" in printed) == (not hpc)
