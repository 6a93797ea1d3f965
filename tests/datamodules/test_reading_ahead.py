"""The next batch is read while a step runs, if that takes time; nothing else differs from reading it in its turn."""

import threading
import time
from itertools import islice

import pytest
import torch

from graft_lightning.datamodules import stream
from graft_lightning.datamodules.stream import FEWEST, QUICK, StreamLoader
from graft_lightning.shuffles import Shuffles
from graft_lightning.types import Groups


class Reader:
    """Writes down what is read, by whom, and how many at a time."""

    def __init__(self, seconds=2 * QUICK):
        self.seconds = seconds
        self.read, self.threads, self.active, self.most = [], set(), 0, 0
        self.begun = threading.Event()

    def __call__(self, positions):
        self.active += 1
        self.most = max(self.most, self.active)
        self.threads.add(threading.current_thread())
        self.read.append(list(positions))
        self.begun.set()
        time.sleep(self.seconds)
        self.active -= 1
        return list(positions)


def living():
    return [thread for thread in threading.enumerate() if thread.name.startswith("next batch")]


def test_the_next_batch_is_read_before_it_is_asked_for():
    reader = Reader()
    batches = iter(StreamLoader(reader, 2, 5))
    for step in range(4):
        reader.begun.clear()
        assert next(batches) == [2 * step, 2 * step + 1]
        assert reader.begun.wait(5)
        while len(reader.read) < step + 2:
            time.sleep(0.001)
        assert reader.read[-1] == [2 * step + 2, 2 * step + 3]  # one ahead
        assert len(reader.read) == step + 2  # and no more
    batches.close()


def test_one_thread_reads_beside_the_callers_and_never_at_the_same_time():
    reader = Reader()
    list(StreamLoader(reader, 2, 30))
    assert reader.most == 1
    assert len(reader.threads - {threading.current_thread()}) == 1


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still unless it is moved."""
    now = [0.0]
    monkeypatch.setattr(stream.time, "perf_counter", lambda: now[0])
    return now


def read_by_thread(clock, steps, epochs, slow):
    """Which batches a thread reads, where those are slow that are said to be."""
    found = []

    def read(positions):
        found.append(threading.current_thread() is not threading.main_thread())
        clock[0] += 2 * QUICK if positions[0] in slow else QUICK / 2
        return list(positions)

    loader = StreamLoader(read, 1, steps)
    assert [list(batch) for _ in range(epochs) for batch in loader] == [[n] for n in range(steps * epochs)]
    return found


def test_batches_that_take_no_time_are_read_when_they_are_asked_for(clock):
    """After a slow one, as many by the thread as agreed, and then it is tried again."""
    by_thread = read_by_thread(clock, 14, 4, {3, 30, 40})
    ends = {3: 4 + FEWEST, 30: 31 + FEWEST, 40: 42}  # or as the epoch does, for its first batch cannot be read ahead
    assert by_thread == [any(slow < n < end for slow, end in ends.items()) for n in range(56)]


def test_of_a_slow_source_nearly_all_is_read_ahead(clock):
    by_thread = read_by_thread(clock, 500, 1, range(500))
    tried = [n for n, found in enumerate(by_thread) if not found]
    assert tried == [0, 9, 26, 59, 124, 189, 254, 319, 384, 449]


def test_nothing_is_read_before_the_first_batch_is_asked_for_nor_past_the_epoch():
    """What an epoch begins with may change what is read: a round of the pool is collected there."""
    reader = Reader()
    loader = StreamLoader(reader, 1, 3)
    for epoch in range(3):
        batches = iter(loader)
        time.sleep(0.01)
        assert len(reader.read) == 3 * epoch
        list(batches)
        assert len(reader.read) == 3 * (epoch + 1)


@pytest.mark.parametrize("given", range(1, 7))
def test_what_is_read_ahead_and_not_given_out_is_not_counted(given):
    first = StreamLoader(Reader(), 2, 4)
    batches = (batch for _ in range(2) for batch in first)
    seen = list(islice(batches, given))
    assert first.state_dict() == {"steps_done": given}
    second = StreamLoader(list, 2, 4)
    second.load_state_dict(first.state_dict())
    rest = [list(batch) for batch in second]
    whole = [[2 * step, 2 * step + 1] for step in range(8)]
    assert seen + rest == whole[: given + (4 - given % 4)]


@pytest.mark.parametrize("failing", range(4))
def test_an_error_is_raised_where_its_batch_is_asked_for(failing):
    def read(positions):
        if positions[0] == failing:
            raise LookupError(f"no position {failing}")
        return list(positions)

    loader = StreamLoader(read, 1, 4)
    batches, seen = iter(loader), []
    with pytest.raises(LookupError, match=f"no position {failing}"):
        seen.extend(batches)
    assert seen == [[position] for position in range(failing)]
    assert loader.state_dict() == {"steps_done": failing}
    assert not living()


def test_no_thread_outlives_an_iteration():
    loader = StreamLoader(Reader(), 1, 4)
    list(loader)
    assert not living()
    cut = iter(loader)
    next(cut)
    assert len(living()) == 1
    del cut
    assert not living()
    begun = iter(loader)  # never asked for anything
    assert not living()
    del begun


def test_a_stream_at_the_end_of_its_epoch_begins_the_next():
    loader = StreamLoader(list, 1, 2)
    loader.load_state_dict({"steps_done": 2})
    assert [list(batch) for batch in loader] == [[2], [3]]


def test_shuffles_are_the_same_for_threads_that_read_far_apart():
    """The thread reads training examples while a callback reads the same ones elsewhere."""
    length = 7
    shared, alone = Shuffles(length, 3), Shuffles(length, 3)
    expected = [alone[position] for position in range(40 * length)]
    found, errors = {}, []

    def run(name, positions):
        try:
            found[name] = [shared[position] for position in positions]
        except KeyError as error:
            errors.append(error)

    orders = {k: list(range(40 * length))[:: 1 if k % 2 else -1] * 5 for k in range(4)}
    threads = [threading.Thread(target=run, args=item) for item in orders.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for name, positions in orders.items():
        assert found[name] == [expected[position] for position in positions]


def batch_of(positions):
    size = len(positions)
    x = {"positions": torch.ones(size, 3), "mask": torch.ones(size, 3).bool()}
    return Groups(x, ["two ones"] * size, torch.arange(size), torch.ones(size), torch.zeros(size), size)


def test_what_is_read_is_prepared_and_pinned_where_a_gpu_is_in_use(monkeypatch):
    """Every tensor of whatever kind of batch, or its copy would be waited for."""
    pinned, prepared = [], []

    def pin_memory(tensor):
        pinned.append(str(tensor.dtype))
        return tensor + 0

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    loader = StreamLoader(batch_of, 2, 1)
    loader.prepare = prepared.append
    list(loader)
    assert (pinned, prepared) == ([], [["two ones"] * 2])
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    (batch,) = StreamLoader(batch_of, 2, 1)
    assert sorted(pinned) == ["torch.bool", *["torch.float32"] * 3, "torch.int64"]
    assert (type(batch), batch.size, batch.conditions) == (Groups, 2, ["two ones"] * 2)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_batch_is_sent_without_waiting_and_comes_back_complete(monkeypatch, device):
    waited = []
    move = torch.Tensor.to

    def to(tensor, *given, **options):
        waited.append(not options.get("non_blocking", False))
        return move(tensor, *given, **options)

    monkeypatch.setattr(torch.Tensor, "to", to)
    batch = batch_of(range(2)).to(device)
    assert waited == [device == "cpu"] * 4
    assert {batch.x["mask"].device.type, batch.weight.device.type, batch.rewards.device.type} == {device}
    assert batch.seeds.device.type == "cpu"
