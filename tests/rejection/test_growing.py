"""A pool that was grown, cut down, killed or shared is the one that is drawn at once, and nothing is drawn twice."""

import errno
import json
import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from graft_lightning.processes.samplers import DDIM, DDPM
from graft_lightning.rejection.acceptance import TopK
from graft_lightning.rejection.collection import Collection
from graft_lightning.rejection.pool import DamagedShard, NotAPool, PoolError, PoolMismatch, Round, TrajectoryPool
from graft_lightning.rejection.pool.manifest import FILE
from graft_lightning.rejection.pool.shard import write_shard
from graft_lightning.rejection.ranks import Ranks
from graft_lightning.rejection.reference import open_views
from graft_lightning.rejection.selection import select
from tests.fakes import GaussianReference, LinearReward, Recorder

STEPS, SEED = 4, 7
TEXTS = [f"prompt {number}" for number in range(14)]
fork = multiprocessing.get_context("fork")


class AnyText(GaussianReference):
    """Takes any text; samples in the same quadrant are duplicates."""

    def encode(self, conditions, device):
        return torch.tensor([sum(map(ord, text)) % 3 for text in conditions], device=device)

    def keys(self, samples):
        return ((samples > 0).long() * torch.tensor([1, 2])).sum(1)


class Setup:
    def __init__(self, folder, conditions, draws, keep=(0.25, 0.5), batch_size=7, seed=SEED, sampler=None, **settings):
        self.reference, self.folder = AnyText(sampler or DDPM(STEPS)), folder
        network = self.reference.build()
        self.denoiser = Recorder(open_views(self.reference, network).frozen)
        self.identity = self.reference.fingerprint(network)
        self.reward = LinearReward((1.0, 0.5))
        self.collection = Collection(
            self.reference, [self.reward], folder, conditions, draws, keep, seed, batch_size, **settings
        )

    def fill(self, ranks=None) -> Round:
        if ranks is None:
            return self.collection.fill(self.denoiser, self.identity).round
        opened = self.collection.open(self.identity)[1]
        self.collection.fill_round(opened, self.denoiser, "cpu", ranks)
        return opened

    @property
    def drawn(self):
        """Trajectories that were walked, by the calls of the model."""
        return self.denoiser.trajectories // STEPS


def fill(folder, conditions, draws, **settings):
    setup = Setup(folder, conditions, draws, **settings)
    return setup.fill(), setup.drawn


def assert_same(one: Round, two: Round, atol: float) -> None:
    """Ids, seeds and decisions exactly; states and rewards to a tolerance."""
    assert (one.conditions, one.draws, one.kept_levels) == (two.conditions, two.draws, two.kept_levels)
    assert set(one.fields) == set(two.fields)
    for name in ("condition", "draw", "seed", "key"):
        assert torch.equal(one.column(name), two.column(name)), name
    for name in one.fields:
        torch.testing.assert_close(one.column(name), two.column(name), rtol=0, atol=atol, msg=name)
    rewards = [pool.rewards("linear") for pool in (one, two)]
    torch.testing.assert_close(*rewards, rtol=0, atol=atol)
    tables = [pool.table(["linear"]) for pool in (one, two)]
    for name in ("round", "index", "condition", "draw", "seed", "key"):
        assert np.array_equal(tables[0][name], tables[1][name]), name
    first, second = (
        select(scores, pool.column("key"), pool.column("seed"), TopK(3))
        for pool, scores in zip((one, two), rewards, strict=True)
    )
    best = rewards[0].sort(descending=True).values
    ties = (best[:, 2] - best[:, 3]).abs() < atol
    assert not ties.any()  # none to count: the decisions must agree
    assert torch.equal(first.accepted, second.accepted)


@pytest.mark.parametrize(("batch_size", "atol"), [(1, 0.0), (7, 1e-5)])
def test_a_grown_pool_is_the_pool_that_is_drawn_at_once(tmp_path, batch_size, atol):
    settings = {"batch_size": batch_size}
    grown = tmp_path / "grown"
    assert fill(grown, TEXTS[:10], 8, **settings)[1] == 80
    large, drawn = fill(grown, TEXTS, 32, **settings)
    assert drawn == 14 * 32 - 80
    assert_same(large, fill(tmp_path / "large", TEXTS, 32, **settings)[0], atol)
    small, drawn = fill(grown, TEXTS[:12], 16, **settings)
    assert drawn == 0
    assert_same(small, fill(tmp_path / "small", TEXTS[:12], 16, **settings)[0], atol)
    first, drawn = fill(grown, TEXTS[:10], 8, **settings)
    assert drawn == 0
    assert_same(first, fill(tmp_path / "first", TEXTS[:10], 8, **settings)[0], atol)
    statistics = TrajectoryPool.open(grown).statistics()
    assert (statistics["trajectories"], statistics["missing"]) == (14 * 32, 0)
    assert statistics["rewards"]["linear"]["scored"] == 14 * 32


def test_two_processes_grow_a_pool_as_one_does(tmp_path):
    for draws, conditions in ((8, TEXTS[:10]), (32, TEXTS)):
        counts = []
        for rank in (1, 0):  # one after the other, where there is no barrier
            setup = Setup(tmp_path / "two", conditions, draws)
            setup.fill(Ranks(rank, 2))
            counts.append(setup.drawn)
        assert min(counts) > 0
        Setup(tmp_path / "one", conditions, draws).fill()
    assert sum(counts) == 14 * 32 - 80
    assert shards(tmp_path / "one") == shards(tmp_path / "two")


def shards(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.safetensors")}


def grow_and_die(folder, after):
    write, written = Round.write, []

    def write_and_die(self, shard, data):
        write(self, shard, data)
        written.append(shard)
        if len(written) == after:
            os.kill(os.getpid(), signal.SIGKILL)

    Round.write = write_and_die
    Setup(folder, TEXTS, 32).fill()


def test_growing_goes_on_after_a_sigkill(tmp_path):
    fill(tmp_path / "killed", TEXTS[:10], 8)
    fill(tmp_path / "whole", TEXTS[:10], 8)
    process = fork.Process(target=grow_and_die, args=(tmp_path / "killed", 5))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert TrajectoryPool.open(tmp_path / "killed").statistics()["trajectories"] == 80 + 5 * 7
    assert fill(tmp_path / "killed", TEXTS[:10], 8)[1] == 0  # what was there is whole all the same
    assert fill(tmp_path / "killed", TEXTS, 32)[1] == 14 * 32 - 80 - 5 * 7
    fill(tmp_path / "whole", TEXTS, 32)
    assert shards(tmp_path / "killed") == shards(tmp_path / "whole")


@pytest.mark.parametrize(
    ("conditions", "new"),
    [
        (["a", "b", "between", "c"], 1),
        (["c", "a", "b"], 0),
        (["b"], 0),
        (["before", "c", "b"], 1),
        (["a", "a", "b"], 0),
        (["new", "new"], 1),
    ],
    ids=["inserted", "other order", "fewer", "mixed", "one twice", "a new one twice"],
)
def test_a_condition_is_its_text_and_not_its_place(tmp_path, conditions, new):
    fill(tmp_path / "pool", ["a", "b", "c"], 6)
    found, drawn = fill(tmp_path / "pool", conditions, 6)
    assert drawn == new * 6
    assert_same(found, fill(tmp_path / "direct", conditions, 6)[0], 1e-5)


def test_everything_there_is_shows_in_a_ragged_round(tmp_path):
    fill(tmp_path / "pool", ["a"], 6)
    fill(tmp_path / "pool", ["b"], 2)
    pool = TrajectoryPool.open(tmp_path / "pool")
    opened = pool.round(0)
    assert (opened.conditions, opened.draws, opened.undrawn, opened.complete) == (["a", "b"], 6, 4, False)
    assert pool.table()["condition"].tolist() == ["a"] * 6 + ["b"] * 2
    assert pool.statistics()["trajectories"] == 8
    with pytest.raises(PoolError, match="has 2 draws of 'b', and draw 2 is asked for"):
        opened.rewards("linear")
    with pytest.raises(IndexError, match="has 2 draws of 'b', and draw 3 is asked for"):
        opened.read([0, 9])
    both = pool.round(0, ["a", "b"], 2)
    assert both.complete
    assert both.rewards("linear").shape == (2, 2)


def test_levels_that_were_not_kept_are_added_by_walking_again(tmp_path):
    fill(tmp_path / "pool", TEXTS[:4], 6, keep=(0.25,))
    before = shards(tmp_path / "pool")
    setup = Setup(tmp_path / "pool", TEXTS[:4], 4, keep=(0.25, 0.75))
    found = setup.fill()
    assert setup.reward.scored == 0
    assert {name: content for name, content in shards(tmp_path / "pool").items() if name in before} == before
    assert_same(found, fill(tmp_path / "direct", TEXTS[:4], 4, keep=(0.25, 0.75))[0], 1e-5)
    assert fill(tmp_path / "pool", TEXTS[:4], 4, keep=(0.75, 0.25))[1] == 0
    grown, _ = fill(tmp_path / "pool", TEXTS[:6], 8, keep=(0.25, 0.75))  # of old parts and new ones
    assert_same(grown, fill(tmp_path / "whole", TEXTS[:6], 8, keep=(0.25, 0.75))[0], 1e-5)


def test_levels_are_not_added_where_the_same_seeds_lead_elsewhere(tmp_path, monkeypatch):
    """As with a library that draws other numbers: the states would lie on the way to other samples."""
    fill(tmp_path / "pool", ["a"], 4, keep=(0.25,))
    call = Recorder.__call__
    monkeypatch.setattr(Recorder, "__call__", lambda self, x, t, c: call(self, x + 0.05, t, c))
    with pytest.raises(PoolError, match=r"000000.*walked again.* 4 of 4 trajectories end elsewhere.*collect\.keep"):
        fill(tmp_path / "pool", ["a"], 4, keep=(0.25, 0.5))
    monkeypatch.undo()
    assert fill(tmp_path / "pool", ["a"], 4, keep=(0.25,))[1] == 0
    assert sorted(TrajectoryPool.open(tmp_path / "pool").round(0).kept_levels) == [1]


@pytest.mark.parametrize(("keep_as", "error"), [("float16", 2.0**-11), ("bfloat16", 2.0**-8)])
def test_kept_states_in_half_precision_are_half_as_large_and_read_as_before(tmp_path, keep_as, error):
    whole, half = fill(tmp_path / "whole", ["a"], 50)[0], fill(tmp_path / "half", ["a"], 50, keep_as=keep_as)[0]
    for name in ("x_0", "seed"):
        assert torch.equal(whole.column(name), half.column(name))
    for n in whole.kept_levels:
        exact, read = (pool.column(f"states/{n}") for pool in (whole, half))
        assert read.dtype == torch.float32
        assert not torch.equal(exact, read)
        assert ((exact - read).abs() <= error * exact.abs() + 1e-7).all()
    assert torch.equal(whole.rewards("linear"), half.rewards("linear"))
    # two numbers of a state: 2 x 4 bytes in each of two levels
    sizes = [sum(file.stat().st_size for file in pool.path.glob("*.safetensors")) for pool in (whole, half)]
    assert abs(sizes[0] - sizes[1] - 50 * 2 * 2 * 2) < 64 * len(whole.shards)
    mixed, drawn = fill(tmp_path / "half", ["a", "b"], 50)  # what is drawn later is kept as it is
    assert drawn == 50
    direct = fill(tmp_path / "both", ["a", "b"], 50)[0]
    assert torch.equal(mixed.column("states/1")[1], direct.column("states/1")[1])
    assert torch.equal(mixed.column("states/1")[0], half.column("states/1")[0])


def test_a_state_that_half_precision_cannot_hold_is_refused(tmp_path):
    pool = TrajectoryPool.create(tmp_path / "pool", {}, 0)
    opened = pool.start_round(0, ["a"], 1, {1: (1.0, 0.0)}, 4, {}, keep_as="float16")
    row = Setup(tmp_path / "other", ["a"], 1, seed=0)
    data = row.collection.draw(row.collection.open(row.identity)[1], row.denoiser, 0, 1, "cpu").select("seed", "x_0")
    data["states"] = {"1": torch.full((1, 2), 1e5)}
    with pytest.raises(ValueError, match=r"keep_as=float16: states/1 holds 1e\+05.*bfloat16"):
        opened.write(opened.shards[0], data)
    with pytest.raises(ValueError, match="keep_as='int8'"):
        pool.start_round(1, ["a"], 1, {}, 4, {}, keep_as="int8")


# ---- what is not this pool's


@pytest.fixture
def pools(tmp_path):
    """A pool of two parts, and a folder of one of another seed, grown alike."""
    for name, seed in (("own", 7), ("foreign", 8)):
        fill(tmp_path / name, ["a", "b"], 4, seed=seed, batch_size=4)
        fill(tmp_path / name, ["a", "b"], 8, seed=seed, batch_size=4)
    return tmp_path / "own", tmp_path / "foreign"


def copied(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())


FOREIGN = [
    ("round-0000/000001.safetensors", "round-0000/000001.safetensors"),
    ("round-0000/part-0001/000000.safetensors", "round-0000/part-0001/000000.safetensors"),
]


@pytest.mark.parametrize(("source", "target"), FOREIGN)
def test_a_shard_of_another_pool_is_refused(pools, source, target):
    own, foreign = pools
    copied(foreign / source, own / target)
    for verify in (True, False):
        with pytest.raises(DamagedShard, match=rf"{target} is damaged: it was made for another pool, round or part"):
            TrajectoryPool.open(own, verify=verify)
    with pytest.raises(DamagedShard, match="another pool"):
        Setup(own, ["a", "b"], 8, batch_size=4).fill()
    (own / target).unlink()
    assert fill(own, ["a", "b"], 8, batch_size=4)[1] == 4


def test_a_shard_of_another_part_or_round_of_the_same_pool_is_refused(pools):
    own, _ = pools
    copied(own / "round-0000/000000.safetensors", own / "round-0000/part-0001/000000.safetensors")
    with pytest.raises(DamagedShard, match="part-0001/000000"):
        TrajectoryPool.open(own, verify=False)


@pytest.mark.parametrize("name", ["round-0000", "round-0000/part-0001"])
def test_a_whole_round_or_part_of_another_pool_is_refused(pools, name):
    own, foreign = pools
    for file in (foreign / name).glob("*.*"):
        copied(file, own / name / file.name)
    with pytest.raises(PoolMismatch, match=rf"{name} was made for another pool, another run seed"):
        TrajectoryPool.open(own, verify=False)


@pytest.mark.parametrize("together", [1, 5, 8, 1 << 16])
@pytest.mark.parametrize(("part", "number", "where"), [(0, 0, "draw 2 of 'a'"), (1, 1, "draw 6 of 'b'")])
def test_a_seed_that_does_not_follow_from_the_run_is_found(pools, monkeypatch, together, part, number, where):
    """Also in a shard that is right in all else, however many are looked at together, and beside one that is absent."""
    own, _ = pools
    opened = TrajectoryPool.open(own).round(0)
    held = opened.parts[part]
    shard = held.shards[number]
    fields = held.files.gather(shard.rows, list(held.files.layout()))
    fields["seed"][2] += 1
    write_shard(held.files.path(shard), shard, fields, of=held.identity)
    held.files.path(held.shards[1 - number]).unlink()
    monkeypatch.setattr("graft_lightning.rejection.pool.part.ROWS", together)
    message = rf"{shard.filename} is damaged: the seed of {where} is \d+, and that of run seed 7, round 0 is \d+"
    with pytest.raises(DamagedShard, match=message):
        TrajectoryPool.open(own, verify=False)
    held.files.path(shard).unlink()
    assert TrajectoryPool.open(own, verify=False).statistics()["missing"] == 8


def manifests(pool: Path) -> list[Path]:
    return sorted(pool.rglob(FILE))


def test_a_manifest_that_lacks_a_key_has_a_wrong_type_or_was_edited_is_refused_by_name(pools):
    own, _ = pools
    fill(own, ["a", "b"], 4, keep=(0.25, 0.5, 0.75), batch_size=4)
    files = manifests(own)
    assert {json.loads(file.read_text())["kind"] for file in files} == {"pool", "round", "part", "level", "reward"}
    for file in files:
        whole = file.read_text()
        manifest = json.loads(whole)
        for key, value in manifest.items():
            others = [None, "x", -1.5, [], {}, True, [1], {"a": 1}]
            changes = [{k: v for k, v in manifest.items() if k != key}]
            changes += [
                {**manifest, key: other} for other in others if other != value or type(other) is not type(value)
            ]
            for change in changes:
                file.write_text(json.dumps(change))
                with pytest.raises(NotAPool) as caught:
                    open_all(own)
                assert str(file) in str(caught.value)
                # a value of the right type is found by the checksum, all else by its name
                assert key in str(caught.value) or "checksum is" in str(caught.value), (file, key, change.get(key))
        file.write_text(whole)
    open_all(own)


def open_all(folder: Path) -> None:
    pool = TrajectoryPool.open(folder, verify=False)
    for opened in pool.rounds():
        opened.rewards("linear")


def test_an_edited_level_is_refused(pools):
    own, _ = pools
    file = own / "round-0000" / FILE
    manifest = json.loads(file.read_text())
    manifest["kept_levels"]["1"][0] += 1.0
    file.write_text(json.dumps(manifest))
    with pytest.raises(NotAPool, match=r"checksum is .* it was changed after it was written"):
        fill(own, ["a", "b"], 8, batch_size=4)


def test_pools_of_the_first_version_are_refused_in_words(pools):
    own, _ = pools
    file = own / FILE
    file.write_text(json.dumps({**json.loads(file.read_text()), "version": 1}))
    with pytest.raises(NotAPool, match=r"version is 1; .*Pools of version 1 .* choose another folder"):
        TrajectoryPool.open(own)


# ---- pools that can only be read


def deny_writing(monkeypatch, folder):
    """What a mount for reading does; the permissions of a folder do not stop a superuser."""
    real_open, real_mkdir = os.open, os.mkdir

    def denied(path):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    def opened(path, flags, *rest, **settings):
        if str(path).startswith(str(folder)) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            denied(path)
        return real_open(path, flags, *rest, **settings)

    def made(path, *rest, **settings):
        if str(path).startswith(str(folder)) and not Path(path).exists():
            denied(path)
        return real_mkdir(path, *rest, **settings)

    import builtins

    plain = builtins.open

    def opened_as_file(file, mode="r", *rest, **settings):
        if str(file).startswith(str(folder)) and set(mode) & set("wax+"):
            denied(file)
        return plain(file, mode, *rest, **settings)

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "mkdir", made)
    monkeypatch.setattr(builtins, "open", opened_as_file)


def test_a_pool_that_can_only_be_read_serves_what_it_holds(tmp_path, monkeypatch):
    folder = tmp_path / "pool"
    fill(folder, ["a", "b"], 6)
    deny_writing(monkeypatch, folder)
    for conditions, draws in ((["a", "b"], 6), (["b"], 3)):
        found, drawn = fill(folder, conditions, draws)
        assert drawn == 0
        assert found.rewards("linear").shape == (len(conditions), draws)
    for conditions, draws, keep in ((["a", "b"], 8, (0.25,)), (["a", "c"], 6, ()), (["a"], 6, (0.75,))):
        with pytest.raises(PoolError, match="cannot be written: Read-only file system"):
            fill(folder, conditions, draws, keep=keep)
    with pytest.raises(PoolError, match="cannot be written: Read-only file system"):
        TrajectoryPool.open(folder).add_reward("further", {})


def test_a_deterministic_sampler_grows_alike(tmp_path):
    fill(tmp_path / "grown", ["a"], 3, sampler=DDIM(STEPS))
    grown, drawn = fill(tmp_path / "grown", ["a", "b"], 8, sampler=DDIM(STEPS))
    assert drawn == 13
    assert_same(grown, fill(tmp_path / "direct", ["a", "b"], 8, sampler=DDIM(STEPS))[0], 1e-5)
