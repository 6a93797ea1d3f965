"""Of several machines that share a folder one runs a cell; what a dead one held is taken over."""

import json
import multiprocessing
import os
import socket
import time

import pytest

import graft_lightning.cli.cell_lock as cell_lock
from graft_lightning.cli.cell_lock import STALE, CellLock, Held
from graft_lightning.cli.chain import Cell, CellChain, RunningChain, identity, lock_file
from graft_lightning.cli.sweeping import run_chains
from graft_lightning.identity import digest_of
from graft_lightning.runs import mark_done


@pytest.fixture
def file(tmp_path):
    return tmp_path / ".cell.lock"


def lease(file):
    return file.with_name(f"{file.name}.lease")


def of_another(file, age=0.0, host="elsewhere", pid="1"):
    """A lease as another machine leaves it."""
    lease(file).write_text(json.dumps({"host": host, "pid": pid, "nonce": "theirs"}))
    os.utime(lease(file), (time.time() - age,) * 2)


def test_one_at_a_time_on_this_machine(file):
    lock = CellLock(file)
    with pytest.raises(Held, match=str(os.getpid())) as held:
        CellLock(file)
    assert held.value.here
    lock.release()
    assert not lease(file).exists()
    CellLock(file).release()


def test_what_inherits_it_holds_it(file):
    """A killed sweep's cell, which is still dying."""
    lock = CellLock(file)
    inherited = os.dup(lock.descriptor)
    lock.release()
    with pytest.raises(Held) as held:
        CellLock(file)
    assert held.value.here
    os.close(inherited)
    CellLock(file).release()


def test_another_machine_holds_it_until_it_is_silent(file):
    of_another(file, STALE - 20)
    with pytest.raises(Held, match="process 1 of elsewhere") as held:
        CellLock(file)
    assert (held.value.here, held.value.host) == (False, "elsewhere")
    of_another(file, STALE + 20)
    lock = CellLock(file)
    assert json.loads(lease(file).read_text())["host"] == socket.gethostname()
    lock.release()


def test_a_lease_of_this_machine_whose_lock_is_free_is_a_dead_ones(file):
    of_another(file, host=socket.gethostname(), pid=str(os.getpid()))
    CellLock(file).release()


@pytest.mark.parametrize(("pid", "held"), [(os.getpid(), True), (2**22 + 1, False)], ids=["alive", "dead"])
def test_without_locks_of_the_file_system_the_process_is_asked(file, monkeypatch, pid, held):
    def flock(*arguments):
        raise OSError("no locks here")

    monkeypatch.setattr(cell_lock.fcntl, "flock", flock)
    of_another(file, host=socket.gethostname(), pid=str(pid))
    if held:
        with pytest.raises(Held):
            CellLock(file)
    else:
        CellLock(file).release()


def test_a_lease_that_is_being_written_is_held(file):
    lease(file).touch()
    with pytest.raises(Held, match="unknown"):
        CellLock(file)


def test_the_holder_says_that_it_is_alive(file, monkeypatch):
    lock = CellLock(file)
    os.utime(lease(file), (1, 1))
    lock.touch()
    assert lease(file).stat().st_mtime == 1  # just touched: not each third of a second
    monkeypatch.setattr(cell_lock, "BEAT", 0.0)
    lock.touch()
    assert time.time() - lease(file).stat().st_mtime < 60
    lock.release()


def test_nobody_removes_the_lease_of_another(file):
    lock = CellLock(file)
    of_another(file)
    lock.release()
    assert json.loads(lease(file).read_text())["nonce"] == "theirs"


def compete(file, host, barrier, results):
    """As a machine of its own: without the others' locks of the file system."""
    cell_lock.fcntl.flock = lambda *arguments: None
    cell_lock.socket.gethostname = lambda: host
    barrier.wait()
    try:
        CellLock(file)
        results.put(host)
    except Held:
        results.put(None)


@pytest.mark.parametrize("stale", [False, True])
def test_of_many_machines_one_gets_it(file, stale):
    if stale:
        of_another(file, STALE + 100)
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(6), context.Queue()
    processes = [context.Process(target=compete, args=(file, f"host-{i}", barrier, results)) for i in range(6)]
    for process in processes:
        process.start()
    winners = [name for name in (results.get(timeout=30) for _ in processes) if name]
    for process in processes:
        process.join()
    assert len(winners) == 1
    assert json.loads(lease(file).read_text())["host"] == winners[0]


# ---- chains of a shared folder


def chain_of(tmp_path, name):
    (tmp_path / "layer.yaml").write_text("model: {}\n")
    return CellChain(name, 0, [Cell("one", ["test"], [str(tmp_path / "layer.yaml")])], tmp_path / "runs" / name, 1)


def test_a_chain_that_another_machine_runs_is_waited_for_and_not_run_again(tmp_path):
    chain = chain_of(tmp_path, "a")
    chain.folder.mkdir(parents=True)
    of_another(lock_file(chain, chain.cells[0]))
    running = RunningChain(chain)
    assert running.blocked == "process 1 of elsewhere"
    assert running.step()
    (chain.folder / "one").mkdir()
    mark_done(chain.folder / "one", digest_of(identity(chain, chain.cells[0])))
    lease(lock_file(chain, chain.cells[0])).unlink()
    while running.step():
        pass
    assert not (chain.folder / "one/log.txt").exists()


def test_others_are_begun_first(tmp_path, monkeypatch, capsys):
    begun = []

    class Once:
        def __init__(self, chain, cells, ready):
            self.chain, self.blocked = chain, "process 1 of elsewhere" if chain.name == "a" and not begun else ""
            if not self.blocked:
                begun.append(chain.name)

        def step(self):
            (self.chain.folder / "one").mkdir(parents=True)
            mark_done(self.chain.folder / "one", digest_of(identity(self.chain, self.chain.cells[0])))
            return False

        def stop(self):
            pass

    monkeypatch.setattr("graft_lightning.cli.sweeping.PAUSE", 0.01)
    assert run_chains([chain_of(tmp_path, "a"), chain_of(tmp_path, "b")], 1, Once) == []
    assert begun == ["b", "a"]
    assert capsys.readouterr().out.count("a is being run by process 1 of elsewhere") == 1
