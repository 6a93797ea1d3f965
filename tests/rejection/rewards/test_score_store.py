import math
import os

from graft_lightning.rejection.rewards.score_store import KEY_BYTES, ScoreStore


def key(number):
    return number.to_bytes(KEY_BYTES, "big")


def test_scores_survive(tmp_path):
    store = ScoreStore(tmp_path / "scores")
    assert len(store) == 0
    store.update([(key(1), 0.5), (key(2), float("nan"))])
    store.update([(key(0), -2.0)])
    again = ScoreStore(tmp_path / "scores")
    assert len(again) == 3
    assert again[key(1)] == 0.5
    assert again[key(0)] == -2.0
    assert math.isnan(again[key(2)])
    assert key(3) not in again


def test_a_torn_record_is_ignored(tmp_path):
    ScoreStore(tmp_path).update([(key(1), 1.0), (key(2), 2.0)])
    (segment,) = tmp_path.glob("*.scores")
    os.truncate(segment, segment.stat().st_size - 3)
    again = ScoreStore(tmp_path)
    assert len(again) == 1
    assert again[key(1)] == 1.0
    again.update([(key(2), 2.0)])  # goes to a file of its own, not behind the torn record
    assert ScoreStore(tmp_path)[key(2)] == 2.0


def test_processes_write_side_by_side(tmp_path):
    store = ScoreStore(tmp_path)
    store.update([(key(0), 0.0)])
    children = []
    for child in range(1, 4):
        pid = os.fork()
        if pid == 0:
            for number in range(50):
                store.update([(key(1000 * child + number), float(number))])
            os._exit(0)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
    again = ScoreStore(tmp_path)
    assert len(again) == 151
    assert all(again[key(1000 * child + 49)] == 49.0 for child in (1, 2, 3))
