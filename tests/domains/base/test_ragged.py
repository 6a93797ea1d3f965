import multiprocessing
import pickle
import time
import tracemalloc

import numpy as np
import pytest
import torch
from lightning.pytorch.utilities import rank_zero_only

from graft_lightning.domains.base.elements import Elements, Field
from graft_lightning.domains.base.ragged import RaggedSet
from graft_lightning.domains.base.ragged_files import stored
from graft_lightning.refusals import DamagedFile

BOXES = Elements(
    {"box": Field("float32", (4,)), "label": Field("int64", stored="uint8"), "grid": Field("int16", (2, 3))},
    "layout",
    "boxes",
)
COUNTS = [3, 0, 5, 1]


class Layouts(RaggedSet):
    elements = BOXES


def layout(count: int, seed: int) -> dict:
    rng = np.random.default_rng(seed)
    grid = rng.integers(-99, 99, (count, 2, 3))
    return {"box": rng.random((count, 4)), "label": rng.integers(0, 25, count), "grid": grid}


def layouts(left_out=None, counts=COUNTS):
    return [layout(count, seed) for seed, count in enumerate(counts)]


@pytest.fixture
def found(tmp_path):
    return Layouts(stored(tmp_path, "pages", {"format": 1}, BOXES, layouts))


def test_what_is_read_is_what_was_stored(found):
    expected = BOXES.padded(layouts())
    batch = found[:]
    assert batch.keys() == expected.keys()
    assert all(torch.equal(batch[name], expected[name]) for name in expected)
    assert found.counts.tolist() == COUNTS
    assert (len(found), found.width, found.histogram()) == (4, 5, {0: 1, 1: 1, 3: 1, 5: 1})
    one = found[2]
    assert {name: tuple(values.shape) for name, values in one.items()} == {
        "box": (5, 4),
        "label": (5,),
        "grid": (5, 2, 3),
        "mask": (5,),
    }
    assert torch.equal(one["grid"], expected["grid"][2])


def test_files_are_plain_arrays(found):
    """As `np.save` writes them, in the narrow type."""
    for name, field in BOXES.fields.items():
        whole = np.concatenate([np.asarray(one[name]).astype(field.file_dtype) for one in layouts()])
        path = found.folder / "expected"
        with path.open("wb") as file:
            np.save(file, whole)
        assert (found.folder / f"{name}.npy").read_bytes() == path.read_bytes()
    assert np.load(found.folder / "offsets.npy").tolist() == [0, 3, 3, 8, 9]


def test_any_order_any_width_and_subsets(found):
    everything = found[:]
    for index in ([3, 0, 0], np.array([3, 0, 0]), torch.tensor([3, 0, 0])):
        batch = found.read(index, width=6)
        assert torch.equal(batch["label"][:, :5], everything["label"][[3, 0, 0]])
        assert not batch["mask"][:, 5].any()
    part = found.subset([3, 1, 0]).subset(slice(1, None))
    assert part.indices.tolist() == [1, 0]
    assert torch.equal(part[:]["box"], everything["box"][[1, 0], :3])
    assert [len(piece["mask"]) for piece in found.pieces(3)] == [3, 1]
    with pytest.raises(ValueError, match="a layout has 5 boxes, more than the width of 4"):
        found.read([0, 2], width=4)


def test_a_set_of_nothing_but_empty_samples(tmp_path):
    empty = Layouts(stored(tmp_path, "pages", {}, BOXES, lambda left_out: layouts(counts=[0, 0])))
    assert empty.width == 0
    assert empty.read([1, 0], width=2)["box"].tolist() == [[[0.0] * 4] * 2] * 2
    assert empty[1]["label"].shape == (0,)


def test_batches_do_not_write_through(found):
    before = found[:]["box"].clone()
    found[:]["box"].zero_()
    assert isinstance(found.arrays["box"], np.memmap)
    assert torch.equal(found[:]["box"], before)


def test_another_process_maps_the_files_itself(found):
    part = found.subset([2, 0])
    sent = pickle.dumps(part)
    assert len(sent) < 1000
    assert torch.equal(pickle.loads(sent)[:]["box"], part[:]["box"])


def test_what_is_left_out_is_counted(tmp_path):
    def make(left_out):
        left_out["off the page"] += 2
        yield layout(2, 0)

    found = Layouts(stored(tmp_path, "pages", {"format": 1, "largest": 9}, BOXES, make))
    assert found.manifest == {"format": 1, "largest": 9, "layouts": 1, "left_out": {"off the page": 2}}

    def nothing(left_out):
        left_out["off the page"] += 3
        return []

    with pytest.raises(ValueError, match=r"no layout is left of .*'largest': 5.*; left out: \{'off the page': 3\}"):
        stored(tmp_path, "pages", {"largest": 5}, BOXES, nothing)


def test_what_is_left_out_is_told_whenever_the_set_is_opened(tmp_path, caplog, monkeypatch):
    def make(left_out):
        left_out["off the page"] += 2
        left_out.add("too large", "a.json")
        yield layout(2, 0)

    for _ in ("made", "there"):
        stored(tmp_path, "pages", {}, BOXES, make)
        assert caplog.messages == ["2 x off the page: left out", "1 x too large: left out; the first is a.json"]
        caplog.clear()
    stored(tmp_path, "pages", {}, BOXES, make, tell=False)
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    stored(tmp_path, "pages", {}, BOXES, make)
    stored(tmp_path, "others", {}, BOXES, make)
    assert not caplog.messages


def test_another_description_is_another_set_and_the_same_is_made_once(tmp_path):
    made = []

    def make(left_out):
        made.append(1)
        return layouts()

    first, again, other = (stored(tmp_path, "pages", {"bins": bins}, BOXES, make) for bins in (8, 8, 9))
    assert first == again != other
    assert len(made) == 2


def test_nothing_half_written_stays(tmp_path):
    def make(left_out):
        yield layout(2, 0)
        yield layout(2, 0) | {"label": [1, 300]}

    with pytest.raises(ValueError, match=r"layout 1: label holds numbers that uint8 does not: \[300\]"):
        stored(tmp_path, "pages", {}, BOXES, make)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]
    assert len(Layouts(stored(tmp_path, "pages", {}, BOXES, layouts))) == 4


def test_processes_that_ask_at_the_same_time_wait_for_the_first(tmp_path):
    context = multiprocessing.get_context("fork")
    made, folders = context.Value("i", 0), context.Queue()

    def make(left_out):
        with made.get_lock():
            made.value += 1
        time.sleep(0.2)  # so that the others ask before it is there
        return layouts()

    def ask():
        folders.put(stored(tmp_path, "pages", {}, BOXES, make))

    processes = [context.Process(target=ask) for _ in range(4)]
    for process in processes:
        process.start()
    assert len({folders.get(timeout=60) for _ in processes}) == 1
    for process in processes:
        process.join()
    assert made.value == 1


def test_memory_does_not_grow_with_the_samples(tmp_path):
    """2,000 samples of 50 elements are 3.6 MB in files."""

    def make(left_out):
        for seed in range(2000):
            yield layout(50, seed)

    tracemalloc.start()
    folder = stored(tmp_path, "pages", {}, BOXES, make)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert size > 2.5e6
    assert peak < 1e6


@pytest.mark.parametrize("damage", ["truncated", "swapped", "other type"])
def test_files_that_do_not_belong_together_are_refused(found, damage):
    path = found.folder / "label.npy"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-3])
    else:
        np.save(path, np.zeros(8 if damage == "swapped" else 9, np.uint8 if damage == "swapped" else np.int32))
    with pytest.raises(ValueError, match=r"label\.npy: .*delete the folder to make it again"):
        Layouts(found.folder)


def test_a_column_is_worked_out_once_of_the_whole_set(found):
    def total(whole):
        return np.array([int(one["label"].sum()) for one in (whole[i] for i in range(len(whole)))])

    part = found.subset([2, 0])
    labels = found[:]["label"].sum(1).tolist()
    assert part.column("total", total).tolist() == [labels[2], labels[0]]
    assert found.column("total", lambda whole: pytest.fail("worked out again")).tolist() == labels
    kept = found.folder / "total.safetensors"
    content = bytearray(kept.read_bytes())
    content[-3] ^= 1
    kept.write_bytes(content)
    with pytest.raises(DamagedFile, match=r"total\.safetensors is damaged.*delete it, and it is worked out again"):
        found.column("total", total)
    kept.unlink()
    assert found.column("total", total).tolist() == labels
    with pytest.raises(ValueError, match="column 'label': a field of the set has this name"):
        found.column("label", total)
    with pytest.raises(ValueError, match=r"column 'two' is \(2,\); it should be \(4,\)"):
        part.column("two", lambda whole: np.zeros(2))
