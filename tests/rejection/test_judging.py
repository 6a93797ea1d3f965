"""Rewards whose work is done elsewhere: judged while the next is drawn and decoded, and the pool is the same."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from graft_lightning.processes.denoiser import Denoiser
from graft_lightning.processes.samplers import DDPM
from graft_lightning.rejection import judging
from graft_lightning.rejection.collection import Collection
from graft_lightning.rejection.reference import FrozenDenoiser
from graft_lightning.rejection.reward import Reward, RewardError, score
from graft_lightning.rejection.rewards import (
    ParallelReward,
    WeightedSum,
)
from graft_lightning.rejection.rewards.function import CallableReward
from graft_lightning.rejection.scoring import rescore
from tests.fakes import CONDITIONS, GaussianReference, LinearReward

STEPS, DRAWS = 3, 6
PATIENCE = 20.0
"""Seconds that something is waited for which would never come if drawing and judging took turns."""


def first(samples, conditions):
    return samples[:, 0].float()


class First(Reward):
    """The first coordinate, judged elsewhere."""

    apart = True

    def __call__(self, samples, conditions):
        return first(samples, conditions)


class Setup(Denoiser):
    """Twelve trajectories in shards of four, of a network that counts its calls."""

    def __init__(self, folder, rewards, reference=None, batch_size=4, draws=DRAWS):
        self.reference = reference or GaussianReference(DDPM(STEPS))
        self.frozen, self.calls = FrozenDenoiser(self.reference, self.reference.build()), 0
        self.output, self.boundaries = self.frozen.output, self.frozen.boundaries
        self.collection = Collection(self.reference, rewards, folder, CONDITIONS, draws, [0.5], 7, batch_size)
        self.called = lambda: None

    def __call__(self, x_t, t, condition):
        self.calls += 1
        self.called()
        return self.frozen(x_t, t, condition)

    def fill(self, ranks=None):
        return self.collection.fill(self, {}, **({} if ranks is None else {"ranks": ranks}))


def files(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*.safetensors")}


@pytest.mark.parametrize("batch_size", [1, 4, 5, 100])
def test_the_pool_is_the_same_byte_for_byte(tmp_path, batch_size):
    pools = []
    for apart in (False, True):
        Setup(tmp_path / f"{apart}", [CallableReward(first, apart=apart)], batch_size=batch_size).fill()
        pools.append(files(tmp_path / f"{apart}"))
    here, elsewhere = pools
    assert len(here) == 2 * -(-2 * DRAWS // batch_size)
    assert here == elsewhere


def test_scores_stand_beside_their_samples(tmp_path):
    opened = Setup(tmp_path, [First(), LinearReward()]).fill().round
    x_0 = opened.read(torch.arange(len(opened)))["x_0"]
    torch.testing.assert_close(opened.rewards("First").flatten(), x_0[:, 0].float())
    torch.testing.assert_close(opened.rewards("linear").flatten(), x_0[:, 0].float())


def test_the_next_is_drawn_while_one_is_judged(tmp_path):
    """The score of the first shard waits for the network's first call for the second one."""
    second = threading.Event()

    class Waits(First):
        asked = 0

        def __call__(self, samples, conditions):
            self.asked += 1
            if self.asked == 2:  # after the trial before anything is drawn
                assert second.wait(PATIENCE), "nothing was drawn while this was waited for"
            return super().__call__(samples, conditions)

    reward = Waits()
    setup = Setup(tmp_path, [reward])
    setup.called = lambda: second.set() if setup.calls > STEPS else None
    setup.fill()
    assert reward.asked == 1 + 3
    assert setup.calls == 3 * STEPS


def test_the_next_is_decoded_while_one_is_judged(tmp_path):
    """As where a pool is scored later by a further reward, which draws nothing."""
    decoded = threading.Semaphore(0)

    class Decodes(GaussianReference):
        def decode(self, x_0):
            decoded.release()
            return x_0

    class Waits(First):
        def __call__(self, samples, conditions):
            self.asked = getattr(self, "asked", 0) + 1
            if self.asked == 2:
                came = [decoded.acquire(timeout=PATIENCE) for _ in range(3)]
                assert all(came), "only the trial and the first shard were decoded"
            return super().__call__(samples, conditions)

    Setup(tmp_path, [LinearReward()]).fill()
    setup = Setup(tmp_path, [LinearReward()], Decodes(DDPM(STEPS)))
    pool, _ = setup.collection.open({})
    reward = Waits()
    opened = rescore(pool, setup.reference, [reward], batch_size=4)
    assert reward.asked == 1 + 3
    assert torch.equal(opened.rewards("Waits"), opened.rewards("linear"))
    assert setup.calls == 0


def test_what_cannot_be_asked_while_sampling_is_asked_afterwards(tmp_path, caplog):
    """Nothing that is drawn is lost by a server that is away for a while, nor its place in the pool."""

    class Away(First):
        asked = 0

        def __call__(self, samples, conditions):
            self.asked += 1
            if self.asked == 3:
                raise ConnectionError("the line is dead")
            return super().__call__(samples, conditions)

    reward = Away()
    setup = Setup(tmp_path / "away", [reward])
    opened = setup.fill().round
    assert reward.asked == 1 + 2 + 2  # the trial; one shard, and one in vain; those two that were left
    assert "the line is dead" in caplog.text
    assert "asked again" in caplog.text
    x_0 = opened.read(torch.arange(len(opened)))["x_0"]
    torch.testing.assert_close(opened.rewards("Away").flatten(), x_0[:, 0].float())


def test_who_fails_takes_no_other_along(tmp_path, caplog):
    class Counted(First):
        asked = 0

        def __call__(self, samples, conditions):
            self.asked += 1
            return super().__call__(samples, conditions)

    class Once(Counted):
        def __call__(self, samples, conditions):
            if self.asked == 2:
                self.asked += 1
                raise ConnectionError("the line is dead")
            return super().__call__(samples, conditions)

    class Other(Counted):
        pass

    before, failing, after = Counted(), Once(), Other()
    opened = Setup(tmp_path, [before, failing, after]).fill().round
    assert (before.asked, after.asked) == (1 + 3, 1 + 3)
    assert failing.asked == 1 + 2 + 2
    assert "Once: not judged" in caplog.text
    expected = opened.read(torch.arange(len(opened)))["x_0"][:, 0].float()
    for name in ("Counted", "Once", "Other"):
        torch.testing.assert_close(opened.rewards(name).flatten(), expected)


class Works(First):
    """In place, and returns a view of what it was given."""

    def __call__(self, samples, conditions):
        return samples.sub_(0.5).mul_(2)[:, 0]


@pytest.mark.parametrize("order", [(Works, First, LinearReward), (LinearReward, First, Works)])
@pytest.mark.parametrize("apart", [True, False])
def test_what_works_in_place_changes_nobody_elses_samples(tmp_path, monkeypatch, order, apart):
    for kind in (Works, First):
        monkeypatch.setattr(kind, "apart", apart)
    opened = Setup(tmp_path, [kind() for kind in order]).fill().round
    x = opened.read(torch.arange(len(opened)))["x_0"][:, 0].float()
    for name, expected in (("First", x), ("linear", x), ("Works", (x - 0.5) * 2)):
        torch.testing.assert_close(opened.rewards(name).flatten(), expected)


def test_parts_of_a_sum_have_samples_of_their_own():
    x = torch.tensor([[1.0, 0.0], [2.0, 0.0]])
    for order in ([Works(), First()], [First(), Works()]):
        found = WeightedSum(order)(x.clone(), ["a", "a"])
        torch.testing.assert_close(found, x[:, 0] + (x[:, 0] - 0.5) * 2)


def test_small_batches_of_a_parallel_reward_stay_in_this_process(tmp_path):
    class Here(First):
        apart, processes = False, set()

        def __call__(self, samples, conditions):
            self.processes.add((os.getpid(), threading.current_thread() is threading.main_thread()))
            return super().__call__(samples, conditions)

    reward = ParallelReward(Here(), at_least=5)
    Setup(tmp_path, [reward]).fill()
    assert Here.processes == {(os.getpid(), True)}
    assert reward._pool is None


def test_scores_of_a_shard_are_written_once(tmp_path, monkeypatch):
    """A file is written whole, so that a fast reward in small batches would spend its time on the disk."""
    Setup(tmp_path, [LinearReward()], batch_size=12).fill()
    setup = Setup(tmp_path, [LinearReward()], batch_size=12)
    pool, opened = setup.collection.open({})
    written = []
    write = type(opened).write_rewards
    monkeypatch.setattr(type(opened), "write_rewards", lambda *given: (written.append(given[1]), write(*given)))
    opened = rescore(pool, setup.reference, [First()], batch_size=2)
    assert written == ["First"]
    assert torch.equal(opened.rewards("First"), opened.rewards("linear"))
    monkeypatch.setattr(judging, "WRITTEN_EVERY", -1.0)

    class Slow(First):
        pass

    opened = rescore(pool, setup.reference, [Slow()], batch_size=2)
    assert written == ["First"] + ["Slow"] * 6, "nothing of a slow one is lost for long"
    assert torch.equal(opened.rewards("Slow"), opened.rewards("linear"))


def test_a_reward_that_fails_for_good_is_told_when_all_is_drawn(tmp_path):
    class Fails(First):
        asked = 0

        def __call__(self, samples, conditions):
            self.asked += 1
            if self.asked > 2:
                raise ConnectionError("the line is dead")
            return super().__call__(samples, conditions)

    setup = Setup(tmp_path, [Fails()])
    with pytest.raises(RewardError, match="the line is dead"):
        setup.fill()
    again = Setup(tmp_path, [LinearReward()])
    opened = again.fill().round
    assert again.calls == 0, "what was drawn is used"
    known, _ = opened.scored("Fails")
    assert known.tolist() == [True] * 4 + [False] * 8, "what was judged is kept"


def test_who_interrupts_waits_for_no_server(tmp_path, monkeypatch):
    never = threading.Event()

    class Hangs(First):
        asked = 0

        def __call__(self, samples, conditions):
            self.asked += 1
            if self.asked > 1:
                never.wait(PATIENCE)
            return super().__call__(samples, conditions)

    setup = Setup(tmp_path, [Hangs()])

    def interrupt():
        if setup.calls > STEPS:
            raise KeyboardInterrupt

    setup.called = interrupt
    monkeypatch.setattr(judging, "FAREWELL", 0.1)
    with pytest.raises(KeyboardInterrupt):
        setup.fill()
    assert judging.at_work()
    waiting = [thread for thread in threading.enumerate() if thread.name == "judging"]
    assert len(waiting) == 1
    assert waiting[0].daemon, "the process would wait for it at its end"
    never.set()
    waiting[0].join(PATIENCE)
    assert not judging.at_work()


def test_a_call_that_was_left_to_itself_is_waited_for_by_the_next(tmp_path, monkeypatch):
    inside, overlaps, go = [], [], threading.Event()

    class Slow(First):
        asked = 0
        moved = ()

        def to(self, device):
            self.moved += ((device, bool(inside)),)
            return self

        def __call__(self, samples, conditions):
            self.asked += 1
            inside.append(1)
            overlaps.append(len(inside))
            if self.asked == 2:
                assert go.wait(PATIENCE)
            inside.pop()
            return super().__call__(samples, conditions)

    reward = Slow()
    setup = Setup(tmp_path, [reward])
    setup.called = lambda: (_ for _ in ()).throw(KeyboardInterrupt) if setup.calls > STEPS else None
    monkeypatch.setattr(judging, "FAREWELL", 0.1)
    with pytest.raises(KeyboardInterrupt):
        setup.fill()
    assert ("cpu", True) not in reward.moved, "it was moved while it was at work"
    threading.Timer(0.3, go.set).start()
    Setup(tmp_path, [reward]).fill()
    assert max(overlaps) == 1


LEFT = """
import sys, threading, time, torch
from graft_lightning.cli import main
from graft_lightning.rejection import judging

def work():
    a = torch.randn(300, 300)
    while True:
        a @ a

def interrupted(args):
    raise KeyboardInterrupt

def interrupted_in_lightning(args):
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        sys.exit(1)

if "left" in sys.argv:
    threading.Thread(target=work, name=judging.THREAD, daemon=True).start()
how = sys.argv.pop()
if how != "runs":
    main._run = globals()[how]
main.main()
"""


@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize(
    ("line", "how", "code", "said", "debug"),
    [
        (["--version"], "runs", 0, "", ""),
        (["plam"], "runs", 2, "error: there is no command 'plam'", ""),
        (["plan"], "interrupted", -signal.SIGINT, "interrupted", ""),
        (["plan"], "interrupted", -signal.SIGINT, "in interrupted", "1"),
        (["fit"], "interrupted_in_lightning", -signal.SIGINT, "interrupted", ""),
    ],
)
@pytest.mark.usefixtures("warm")
def test_a_call_that_goes_on_does_not_spoil_the_end_of_a_process(line, how, code, said, debug, left):
    """It would come back from PyTorch to an interpreter that is gone: SIGABRT, whatever the command had done.

    Who is interrupted dies of it, so that the loop of a shell ends too.
    """
    words = [sys.executable, "-c", LEFT, *line, *(["left"] if left else []), how]
    environment = {**os.environ, "GRAFT_DEBUG": debug}
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == code, done.stderr
    assert "terminate called" not in done.stderr
    assert said in done.stderr
    assert ("Traceback" in done.stderr) == bool(debug)


def test_a_reward_may_call_others_in_threads_of_its_own():
    class Panel(Reward):
        def __call__(self, samples, conditions):
            with ThreadPoolExecutor(2) as threads:
                parts = list(threads.map(lambda part: score(part, samples, conditions), [First(), LinearReward()]))
            return torch.stack(parts).mean(0)

    x = torch.randn(4, 2)
    torch.testing.assert_close(score(Panel(), x, [""] * 4), x[:, 0])
