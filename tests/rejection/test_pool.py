"""The trajectory pool: what is written is what is read, whoever writes it, and nothing wrong is read in silence."""

import json
import logging
import multiprocessing
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from graft_lightning.processes.noise import trajectory_seeds
from graft_lightning.rejection import pool as pools
from graft_lightning.rejection.filling import open_for_filling
from graft_lightning.rejection.pool import (
    DamagedShard,
    KeptLevel,
    NotAPool,
    PoolError,
    PoolMismatch,
    Round,
    Shard,
    TrajectoryPool,
)
from graft_lightning.rejection.pool.open_file import OPEN
from graft_lightning.rejection.pool.shard import write_shard
from graft_lightning.rejection.ranks import Ranks

FINGERPRINT = {"reference": {"weights": "a1b2", "guidance": 7.5}, "sampler": {"class": "DDIM", "steps": 50}}
LEVELS = {12: KeptLevel(250.0, 0.75), 25: KeptLevel(500.0, float("-inf"))}
CONDITIONS = ["a three", "a seven", "ein Fünfer"]
fork = multiprocessing.get_context("fork")


def make_pool(path: Path, draws: int = 10, shard_size: int = 8, levels: dict = LEVELS) -> tuple[TrajectoryPool, Round]:
    """30 trajectories in 4 shards, the last of 6; shards cross the conditions."""
    pool = TrajectoryPool.create(path, FINGERPRINT, run_seed=3)
    return pool, pool.start_round(0, CONDITIONS, draws, levels, shard_size, {"step": 0})


def values(index: torch.Tensor, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Rows that follow from the global index alone; exact in every dtype for small indices."""
    ramp = torch.arange(int(np.prod(shape))).reshape(shape) % 7
    return (index.reshape(-1, *[1] * len(shape)) % 50 + ramp).to(dtype)


def seeds(index: torch.Tensor, draws: int = 10, texts: list = CONDITIONS, run_seed: int = 3, number: int = 0):
    """Those that the trajectories of a round must have."""
    pairs = [(texts[i // draws], i % draws) for i in index.tolist()]
    return trajectory_seeds(run_seed, number, *zip(*pairs, strict=True))


def tensor_data(shard: Shard, draws: int = 10) -> TensorDict:
    index = torch.arange(shard.start, shard.stop)
    states = {"12": values(index, 1, 4, 4) + 0.5, "25": values(index, 1, 4, 4).bfloat16()}
    return TensorDict(
        {"x_0": values(index, 1, 4, 4), "states": states, "seed": seeds(index, draws), "key": index % 5}, [len(shard)]
    )


def molecule(index: torch.Tensor) -> dict:
    return {
        "positions": values(index, 5, 3).half(),
        "types": values(index, 5, dtype=torch.int32),
        "mask": values(index, 5) > 20,
    }


def molecule_data(shard: Shard) -> TensorDict:
    index = torch.arange(shard.start, shard.stop)
    states = {"12": molecule(index + 1), "25": molecule(index + 2)}
    return TensorDict({"x_0": molecule(index), "states": states, "seed": seeds(index)}, [len(shard)])


def fill(round_: Round, data=tensor_data) -> None:
    for shard in round_.missing():
        round_.write(shard, data(shard))


def tree(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


# ---- round trips


def test_tensor_states_are_read_back_bit_for_bit_in_any_order(tmp_path):
    _, round_ = make_pool(tmp_path / "pool")
    assert [(s.start, s.stop) for s in round_.missing()] == [(0, 8), (8, 16), (16, 24), (24, 30)]
    fill(round_)
    assert round_.complete

    index = torch.tensor([29, 0, 7, 8, 7, 23, 24, 15])
    batch = TrajectoryPool.open(tmp_path / "pool").round(0).read(index)
    assert batch.batch_size == (8,)
    assert torch.equal(batch["x_0"], values(index, 1, 4, 4))
    assert torch.equal(batch["states", "12"], values(index, 1, 4, 4) + 0.5)
    assert batch["states", "25"].dtype == torch.bfloat16
    assert torch.equal(batch["states", "25"], values(index, 1, 4, 4).bfloat16())
    assert torch.equal(batch["seed"], seeds(index))
    assert batch["condition"].tolist() == [2, 0, 0, 0, 0, 2, 2, 1]
    assert batch["draw"].tolist() == [9, 0, 7, 8, 7, 3, 4, 5]


def test_tensordict_states_keep_their_fields_and_dtypes(tmp_path):
    _, round_ = make_pool(tmp_path / "pool")
    fill(round_, molecule_data)
    index = torch.tensor([5, 28, 16])
    batch = round_.read(index, ["states/12", "x_0", "key"])
    assert sorted(batch.keys()) == ["key", "states", "x_0"]
    assert list(batch["states"].keys()) == ["12"]
    assert batch["key"].tolist() == [-1, -1, -1]
    for name, expected in molecule(index).items():
        assert batch["x_0", name].dtype == expected.dtype
        assert torch.equal(batch["x_0", name], expected)
    assert torch.equal(batch["states", "12", "positions"], molecule(index + 1)["positions"])


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.int16, torch.int8, torch.uint8, torch.float16])
def test_other_dtypes(tmp_path, dtype):
    _, round_ = make_pool(tmp_path / "pool", levels={})
    for shard in round_.missing():
        index = torch.arange(shard.start, shard.stop)
        data = {"x_0": values(index, 3, dtype=dtype), "scalar": values(index, dtype=dtype), "seed": seeds(index)}
        data["empty"] = torch.zeros(len(shard), 2, 0, dtype=dtype)
        round_.write(shard, TensorDict(data, [len(shard)]))
    batch = round_.read([29, 3])
    assert torch.equal(batch["x_0"], values(torch.tensor([29, 3]), 3, dtype=dtype))
    assert torch.equal(batch["scalar"], values(torch.tensor([29, 3]), dtype=dtype))
    assert batch["empty"].shape == (2, 2, 0)


def test_a_shard_is_a_safetensors_file(tmp_path):
    load = pytest.importorskip("safetensors.torch").load_file
    _, round_ = make_pool(tmp_path / "pool")
    fill(round_, molecule_data)
    shard = round_.shards[3]
    stored = load(round_.path / shard.filename)
    index = torch.arange(24, 30)
    assert set(stored) == set(round_.fields)
    assert torch.equal(stored["states/25/types"], molecule(index + 2)["types"])
    assert torch.equal(stored["x_0/mask"], molecule(index)["mask"])


def test_what_is_read_is_a_copy_and_non_contiguous_gradients_are_written(tmp_path):
    _, round_ = make_pool(tmp_path / "pool", levels={})
    for shard in round_.missing():
        index = torch.arange(shard.start, shard.stop)
        x_0 = values(index, 3, 4).transpose(1, 2).requires_grad_()
        seed = torch.stack([seeds(index), index], 1)[:, 0]
        round_.write(shard, TensorDict({"x_0": x_0, "seed": seed}, [len(shard)]))
    expected = values(torch.arange(30), 3, 4).transpose(1, 2)
    round_.read(np.arange(30))["x_0"].zero_()
    assert torch.equal(round_.read(np.arange(30))["x_0"], expected)


def test_column_and_table(tmp_path):
    pool, round_ = make_pool(tmp_path / "pool")
    for shard in round_.missing()[1:]:
        round_.write(shard, tensor_data(shard))
    pool.add_reward("judge", {})
    round_.write_rewards("judge", round_.shards[3], torch.full((6,), 2.0))
    second = pool.start_round(1, ["a nine"], 4, {}, 4, {"step": 100})
    index = torch.arange(4)
    second.write(
        second.shards[0], TensorDict({"x_0": values(index), "seed": seeds(index, 4, ["a nine"], number=1)}, [4])
    )

    table = pool.table()
    assert {len(column) for column in table.values()} == {22 + 4}
    assert table["index"].tolist() == [*range(8, 30), *range(4)]
    assert table["condition"][[0, 2, 12, 22]].tolist() == ["a three", "a seven", "ein Fünfer", "a nine"]
    assert table["seed"][:2].tolist() == seeds(torch.tensor([8, 9])).tolist()
    assert table["round"].tolist() == [0] * 22 + [1] * 4
    assert np.isnan(table["judge"]).tolist() == [True] * 16 + [False] * 6 + [True] * 4

    fill(round_)
    assert torch.equal(round_.column("key"), (torch.arange(30) % 5).reshape(3, 10))
    assert pool.statistics() == {
        "rounds": 2,
        "trajectories": 34,
        "missing": 0,
        "rewards": {"judge": {"scored": 6, "not_finite": 0}},
        "bytes": sum(len(content) for name, content in tree(pool.path).items() if name.endswith("safetensors")),
    }


def test_an_empty_pool_has_an_empty_table(tmp_path):
    pool = TrajectoryPool.create(tmp_path / "pool", FINGERPRINT, 3)
    assert pool.table() == {}
    round_ = pool.start_round(0, [""], 4, {}, 2, {})
    assert all(len(column) == 0 for column in pool.table().values())
    assert round_.fields == []
    assert pool.statistics()["missing"] == 4


# ---- rewards


def test_a_second_reward_is_added_later(tmp_path):
    pool, round_ = make_pool(tmp_path / "pool")
    fill(round_)
    before = tree(round_.path)
    scores = torch.linspace(-1, 1, 30)
    scores[[4, 17]] = torch.tensor([float("nan"), float("inf")])
    for name, sign in (("judge", 1), ("aesthetics", -1)):
        pool = TrajectoryPool.open(tmp_path / "pool")
        pool.add_reward(name, {"weights": name})
        for shard in pool.round(0).missing_rewards(name):
            pool.round(0).write_rewards(name, shard, sign * scores[shard.start : shard.stop].double())
    for name, sign in (("judge", 1), ("aesthetics", -1)):
        found = round_.rewards(name)
        assert found.dtype == torch.float32
        assert found.shape == (3, 10)
        assert torch.equal(found.nan_to_num(9), (sign * scores).reshape(3, 10).nan_to_num(9))
    assert tree(round_.path) == before
    assert pool.statistics()["rewards"]["judge"] == {"scored": 30, "not_finite": 2}
    assert pool.reward_fingerprints() == {"judge": {"weights": "judge"}, "aesthetics": {"weights": "aesthetics"}}


def test_scores_of_another_reward_are_void(tmp_path):
    pool, round_ = make_pool(tmp_path / "pool")
    fill(round_)
    for number, name in enumerate(("judge", "aesthetics")):
        pool.add_reward(name, {"weights": name})
        for shard in round_.shards:
            round_.write_rewards(name, shard, torch.full((len(shard),), float(number)))
    rewards, first, last = tmp_path / "pool/rewards", *(round_.shards[i].filename for i in (0, -1))
    shutil.copy(rewards / "aesthetics/round-0000" / first, rewards / "judge/round-0000" / first)
    assert round_.missing_rewards("judge") == [round_.shards[0]]
    header = {"of": round_.parts[0].files.header(round_.shards[-1]).digest}  # as files of before name the shard alone
    write_shard(rewards / "judge/round-0000" / last, round_.shards[-1], {"reward": torch.ones(6)}, **header)
    assert round_.missing_rewards("judge") == [round_.shards[0]]


def test_rewards_are_refused_by_name(tmp_path):
    pool, round_ = make_pool(tmp_path / "pool")
    shard = round_.shards[0]
    with pytest.raises(PoolError, match="'judge' is not declared"):
        round_.write_rewards("judge", shard, torch.zeros(8))
    pool.add_reward("judge", {"model": {"name": "clip", "size": 1}})
    with pytest.raises(IndexError, match="not written yet"):
        round_.write_rewards("judge", shard, torch.zeros(8))
    fill(round_)
    with pytest.raises(ValueError, match=r"'judge'.*\(8, 1\).*\(8,\)"):
        round_.write_rewards("judge", shard, torch.zeros(8, 1))
    round_.write_rewards("judge", shard, torch.zeros(8))
    with pytest.raises(
        PoolMismatch, match=r"(?s)judge was made .*model.name: 'clip' in the pool, 'blip' now\n.*rescore"
    ):
        pool.add_reward("judge", {"model": {"name": "blip", "size": 1}})
    with pytest.raises(PoolError, match="'judge' lacks 3 of 4 shards"):
        round_.rewards("judge")
    for name in ("seed", "../judge", "", ".hidden", "a/b"):
        with pytest.raises(ValueError, match="reward name"):
            pool.add_reward(name, {})


def test_scores_of_a_shard_that_was_made_again_are_void(tmp_path):
    pool, round_ = make_pool(tmp_path / "pool")
    fill(round_)
    pool.add_reward("judge", {})
    for shard in round_.shards:
        round_.write_rewards("judge", shard, torch.ones(len(shard)))
    again = round_.shards[1]
    other = pool.round(0)
    for view in (round_, other):
        view.read([9])  # maps the file
    (round_.path / again.filename).unlink()
    assert other.missing() == [again]
    data = tensor_data(again)
    round_.write(again, data.apply(lambda x: x + 1 if x.is_floating_point() else x))
    for view in (round_, other, pool.round(0)):
        assert torch.equal(view.read([9])["x_0"], values(torch.tensor([9]), 1, 4, 4) + 1)
        assert view.missing_rewards("judge") == [again]
    round_.write_rewards("judge", again, torch.zeros(8))
    assert round_.rewards("judge").sum() == 22


# ---- identity


def test_the_same_arguments_open_what_is_there(tmp_path):
    pool, round_ = make_pool(tmp_path / "deep" / "pool")
    fill(round_)
    again, same = make_pool(tmp_path / "deep" / "pool")
    assert same.complete
    assert same.kept_levels == LEVELS
    assert again.fingerprint == FINGERPRINT
    assert again.run_seed == 3
    nearly = {**FINGERPRINT, "reference": {"weights": "a1b2", "guidance": 7.5 * (1 + 1e-15)}}
    assert TrajectoryPool.open(pool.path, expect=nearly, run_seed=3).rounds()[0].complete
    assert TrajectoryPool.open(pool.path).path == pool.path


def test_a_pool_of_another_reference_is_refused(tmp_path):
    pool, round_ = make_pool(tmp_path / "pool")
    fill(round_)
    other = {"reference": {"weights": "ffff", "guidance": 7.5}, "sampler": {"class": "DDIM", "eta": True, "steps": 50}}
    with pytest.raises(PoolMismatch) as caught:
        TrajectoryPool.open(pool.path, expect=other)
    lines = str(caught.value).split("\n")
    assert lines[0] == f"{pool.path} was made with other settings:"
    assert sorted(lines[1:-1]) == [
        "  fingerprint.reference.weights: 'a1b2' in the pool, 'ffff' now",
        "  fingerprint.sampler.eta: absent in the pool, True now",
    ]
    with pytest.raises(PoolMismatch, match="run_seed: 3 in the pool, 4 now"):
        TrajectoryPool.create(pool.path, FINGERPRINT, run_seed=4)
    with pytest.raises(PoolMismatch, match=r"sampler\.steps: 50 in the pool, absent now"):
        TrajectoryPool.open(pool.path, expect={**FINGERPRINT, "sampler": {"class": "DDIM"}})
    with pytest.raises(TypeError, match=r"fingerprint\.steps\[1\] is a Tensor"):
        TrajectoryPool.create(tmp_path / "new", {"steps": [1, torch.tensor(2)]}, 0)
    assert not (tmp_path / "new").exists()


def test_a_pool_that_nothing_was_drawn_into_is_that_of_who_comes_next(tmp_path):
    other = {**FINGERPRINT, "sampler": {"class": "DDPM"}}
    pool, _ = make_pool(tmp_path / "pool")
    pool.add_reward("bright", {"class": "Bright"})
    with pool.locked(), pytest.raises(PoolMismatch):  # who fills it may draw at any time
        TrajectoryPool.create(pool.path, other, run_seed=3)
    assert TrajectoryPool.create(pool.path, FINGERPRINT, run_seed=3).rounds()
    mended = TrajectoryPool.create(pool.path, other, run_seed=3)
    assert (mended.fingerprint, mended.rounds(), mended.reward_fingerprints()) == (other, [], {})
    make_pool(tmp_path / "beside")
    (tmp_path / "beside" / "notes.txt").write_text("mine")
    with pytest.raises(PoolMismatch):
        TrajectoryPool.create(tmp_path / "beside", other, run_seed=3)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"kept_levels": {12: (250.0, 0.7), 25: LEVELS[25]}}, r"kept_levels\.12\[1\]: 0\.75 in the pool, 0\.7 now"),
        ({"fingerprint": {"step": False}}, "fingerprint.step: 0 in the pool, False now"),
    ],
)
def test_a_round_of_other_arguments_is_refused(tmp_path, changed, message):
    pool, _ = make_pool(tmp_path / "pool")
    arguments = {"conditions": CONDITIONS, "draws": 10, "kept_levels": LEVELS, "shard_size": 8}
    with pytest.raises(PoolMismatch, match=f"(?s)round-0000 was made.*{message}"):
        pool.start_round(0, **{**arguments, "fingerprint": {"step": 0}, **changed})


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"draws": 0}, "draws=0"), ({"shard_size": 0}, "shard_size=0"), ({"conditions": "a"}, "conditions='a'")],
)
def test_impossible_rounds_are_refused(tmp_path, changed, message):
    pool = TrajectoryPool.create(tmp_path / "pool", FINGERPRINT, 3)
    arguments = {"index": 0, "conditions": ["a"], "draws": 1, "kept_levels": {}, "shard_size": 8, "fingerprint": {}}
    with pytest.raises(ValueError, match=message):
        pool.start_round(**{**arguments, **changed})
    assert pool.rounds() == []


def test_foreign_folders_are_refused_and_left_alone(tmp_path):
    foreign = tmp_path / "thesis"
    foreign.mkdir()
    (foreign / "chapter1.tex").write_text("x")
    for use in (lambda path: TrajectoryPool.create(path, {}, 0), TrajectoryPool.open):
        with pytest.raises(NotAPool, match=r"thesis is not a pool: it has no manifest.json, but chapter1.tex"):
            use(foreign)
    assert tree(tmp_path) == {"thesis/chapter1.tex": b"x"}
    assert os.listdir(tmp_path) == ["thesis"]
    with pytest.raises(NotAPool, match="but is a file"):
        TrajectoryPool.create(foreign / "chapter1.tex", {}, 0)
    with pytest.raises(FileNotFoundError, match="there is no pool here"):
        TrajectoryPool.open(tmp_path / "nowhere")

    for text, message in (
        ('{"name": "web-app"}', "format is None; a pool that can be read has 'graft_lightning.pool'"),
        ('{"format": "graft_lightning.pool", "version": 1, "kind": "round"}', "kind is 'round'"),
        ('{"format": "graft_lightning.pool", "version": 99, "kind": "pool"}', "version is 99"),
        ("[1, 2", "cannot be read as JSON"),
    ):
        (foreign / "manifest.json").write_text(text)
        with pytest.raises(NotAPool, match=message):
            TrajectoryPool.create(foreign, {}, 0)


def test_an_empty_folder_is_filled_also_behind_a_link(tmp_path):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "scratch")
    TrajectoryPool.create(tmp_path / "link", FINGERPRINT, 0)
    assert json.loads((tmp_path / "scratch" / "manifest.json").read_text())["fingerprint"] == FINGERPRINT


# ---- what may be written


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.set("condition", torch.zeros(8, dtype=torch.int64)), "condition does not follow"),
        (lambda d: d.set("draw", torch.arange(8)), "draw does not follow"),
        (lambda d: d.set("seed", d["seed"].int()), r"seed is torch.int32 \(8,\); it must be torch.int64"),
        (lambda d: d.set("key", d["key"][:, None]), r"key is torch.int64 \(8, 1\)"),
        (lambda d: d.exclude("seed"), "seed is absent"),
        (lambda d: d.exclude("x_0"), "x_0 is absent"),
        (lambda d: d.exclude(("states", "12")), r"states are \['25'\]; this round keeps \['12', '25'\]"),
        (lambda d: d.set(("states", "30"), d["x_0"]), r"states are \['12', '25', '30'\]"),
        (lambda d: d.set("x_0", d["x_0"].double()), r"x_0 is torch.float64 \(1, 4, 4\), and torch.float32 \(1, 4, 4\)"),
        (lambda d: d.set("x_0", d["x_0"][..., :2]), r"x_0 is torch.float32 \(1, 4, 2\), and"),
        (lambda d: d.set("extra", d["x_0"]), r"extra is .*, and absent in the other shards"),
        (lambda d: d[:7], r"batch size \(7,\)"),
    ],
)
def test_bad_data_are_refused_and_leave_nothing(tmp_path, change, message):
    _, round_ = make_pool(tmp_path / "pool")
    round_.write(round_.shards[0], tensor_data(round_.shards[0]))
    before = tree(tmp_path)
    data = tensor_data(round_.shards[1])
    with pytest.raises(ValueError, match=message):
        round_.write(round_.shards[1], change(data))
    assert tree(tmp_path) == before


def test_shards_are_written_once_and_belong_to_their_round(tmp_path):
    _, round_ = make_pool(tmp_path / "pool")
    shard = round_.shards[2]
    round_.write(shard, tensor_data(shard))
    with pytest.raises(PoolError, match=r"000002\.safetensors is already written"):
        round_.write(shard, tensor_data(shard))
    stranger = Shard(3, 24, 32)
    with pytest.raises(ValueError, match="is not a shard of"):
        round_.write(stranger, TensorDict({}, [8]))
    _, other = make_pool(tmp_path / "other", levels={})
    with pytest.raises(TypeError, match=r"x_0 is torch\.complex64"):
        other.write(other.shards[0], tensor_data(other.shards[0]).exclude("states").set("x_0", torch.zeros(8) + 0j))


def test_reading_outside_is_refused_by_name(tmp_path):
    _, round_ = make_pool(tmp_path / "pool")
    with pytest.raises(IndexError, match="holds no trajectories yet"):
        round_.read([0])
    round_.write(round_.shards[2], tensor_data(round_.shards[2]))
    with pytest.raises(IndexError, match=r"000003.safetensors, trajectories 24 to 29, is not written yet"):
        round_.read([16, 24])
    for index in (-1, 30):
        with pytest.raises(IndexError, match="has 0 to 29"):
            round_.read([16, index])
    with pytest.raises(KeyError, match=r"no states/13, x_1; it has .*states/12"):
        round_.read([16], ["x_0", "states/13", "x_1"])
    assert round_.read([], ["x_0"])["x_0"].shape == (0, 1, 4, 4)


# ---- damage


def test_a_truncated_or_missing_shard(tmp_path):
    pool, round_ = make_pool(tmp_path / "pool")
    fill(round_)
    file = round_.path / round_.shards[1].filename
    whole = file.read_bytes()
    for length in (0, 5, 300, len(whole) - 1):
        file.write_bytes(whole[:length])
        for verify in (True, False):
            with pytest.raises(DamagedShard, match=r"000001.safetensors is damaged: .*Delete this file"):
                TrajectoryPool.open(pool.path, verify=verify)
        with pytest.raises(DamagedShard, match=r"000001.safetensors"):
            pool.round(0).read([3, 9])
    file.write_bytes(whole + b"\0")
    with pytest.raises(DamagedShard, match=f"it has {len(whole) + 1} bytes in place of {len(whole)}"):
        TrajectoryPool.open(pool.path, verify=False)
    file.unlink()
    again = TrajectoryPool.open(pool.path).round(0)
    assert again.missing() == [round_.shards[1]]
    fill(again)
    assert file.read_bytes() == whole


def test_every_flipped_byte_is_found(tmp_path):
    pool = TrajectoryPool.create(tmp_path / "pool", FINGERPRINT, 3)
    round_ = pool.start_round(0, [""], 3, {}, 8, {})
    round_.write(
        round_.shards[0], TensorDict({"x_0": values(torch.arange(3), 2), "seed": seeds(torch.arange(3), 3, [""])}, [3])
    )
    pool.add_reward("judge", {})
    round_.write_rewards("judge", round_.shards[0], torch.rand(3))
    for file in (round_.path / "000000.safetensors", pool.path / "rewards/judge/round-0000/000000.safetensors"):
        whole = file.read_bytes()
        header_end = 8 + int.from_bytes(whole[:8], "little")
        for position in [*range(0, len(whole), 3), len(whole) - 1]:
            flipped = bytearray(whole)
            flipped[position] ^= 1 << position % 8
            if flipped[position] in b"\t\n\r " and whole[position] in b"\t\n\r ":
                continue  # blank for blank: the same header
            file.write_bytes(flipped)
            with pytest.raises(DamagedShard, match=str(file)):
                TrajectoryPool.open(pool.path)
            if position < header_end:  # without checksums of the data, headers must still be sound
                with pytest.raises(DamagedShard, match=str(file)):
                    TrajectoryPool.open(pool.path, verify=False)
        file.write_bytes(whole)
    TrajectoryPool.open(pool.path)


def test_a_shard_under_the_name_of_another_is_found(tmp_path):
    pool, round_ = make_pool(tmp_path / "pool")
    fill(round_)
    (round_.path / "000001.safetensors").write_bytes((round_.path / "000000.safetensors").read_bytes())
    with pytest.raises(DamagedShard, match=r"000001.*should hold trajectories 8 to 15"):
        TrajectoryPool.open(pool.path, verify=False)


# ---- several processes


def write_share(path: Path, rank: int, world: int) -> None:
    _, round_ = make_pool(path)
    for shard in round_.shards:
        if shard.index % world == rank:
            round_.write(shard, tensor_data(shard))


def test_two_processes_write_the_bytes_of_one(tmp_path):
    write_share(tmp_path / "one", 0, 1)
    processes = [fork.Process(target=write_share, args=(tmp_path / "two", rank, 2)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def write_until_killed(path: Path, reached) -> None:
    """Stops for good where the third shard's bytes are in its temporary file, and not yet under its name."""
    _, round_ = make_pool(path)
    replace = os.replace

    def stop_at_the_third(source, target):
        if str(target).endswith("000002.safetensors"):
            reached.set()
            time.sleep(60)
        replace(source, target)

    os.replace = stop_at_the_third
    fill(round_)


def test_sigkill_during_a_write_leaves_a_pool_that_lacks_the_shard(tmp_path):
    reached = fork.Event()
    process = fork.Process(target=write_until_killed, args=(tmp_path / "pool", reached))
    process.start()
    assert reached.wait(60)
    os.kill(process.pid, signal.SIGKILL)
    process.join()

    pool = TrajectoryPool.open(tmp_path / "pool", FINGERPRINT, 3)
    round_ = pool.round(0)
    left = list(round_.path.glob(".000002*.tmp"))
    assert len(left) == 1
    assert [shard.index for shard in round_.missing()] == [2, 3]
    assert len(pool.table()["seed"]) == 16

    with pool.locked():
        assert left[0].exists()  # may be another process's, at work
    os.utime(left[0], (0, 0))
    with pool.locked():
        assert not left[0].exists()
        fill(round_)
    (pool.path / "lock").unlink()
    write_share(tmp_path / "whole", 0, 1)
    assert tree(tmp_path / "pool") == tree(tmp_path / "whole")


def append_slowly(path: Path) -> None:
    _, round_ = make_pool(path, draws=200)
    for shard in round_.missing():
        round_.write(shard, tensor_data(shard, 200))
        time.sleep(0.002)


def test_reading_while_another_process_appends(tmp_path):
    _, round_ = make_pool(tmp_path / "pool", draws=200)
    process = fork.Process(target=append_slowly, args=(tmp_path / "pool",))
    process.start()
    sizes = set()
    while process.is_alive():
        absent = set(round_.missing())
        index = np.array([i for s in round_.shards if s not in absent for i in range(s.start, s.stop)], np.int64)
        sizes.add(len(index))
        if len(index):
            assert torch.equal(round_.read(index, ["x_0"])["x_0"], values(torch.from_numpy(index), 1, 4, 4))
    process.join()
    assert process.exitcode == 0
    assert len(sizes) > 3
    assert round_.complete


def hold_and_fill(path: Path, held) -> None:
    pool, round_ = make_pool(path)
    with pool.locked():
        held.set()
        time.sleep(0.3)
        fill(round_)


def test_a_second_run_waits_says_so_and_finds_the_pool_filled(tmp_path, caplog):
    held = fork.Event()
    pool, round_ = make_pool(tmp_path / "pool")
    process = fork.Process(target=hold_and_fill, args=(tmp_path / "pool", held))
    process.start()
    assert held.wait(60)
    with caplog.at_level(logging.WARNING), pool.locked():
        assert round_.complete
    process.join()
    assert [f"is being filled by process {process.pid} on " in message for message in caplog.messages] == [True]
    caplog.clear()
    with pool.locked():
        pass
    assert caplog.messages == []


def test_a_lock_outlives_neither_an_error_nor_a_worker(tmp_path):
    pool, _ = make_pool(tmp_path / "pool")
    process = fork.Process(target=time.sleep, args=(600,))

    def fail_with_a_worker_running() -> None:
        with pool.locked():
            process.start()  # inherits the open lock file
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_with_a_worker_running()
    with pool.locked():
        assert process.is_alive()
    process.kill()
    process.join()


def test_a_round_travels_to_workers(tmp_path):
    _, round_ = make_pool(tmp_path / "pool")
    fill(round_)
    round_.read([1])  # is open
    copy = pickle.loads(pickle.dumps(round_))
    assert torch.equal(copy.read([29])["x_0"], values(torch.tensor([29]), 1, 4, 4))
    loader = torch.utils.data.DataLoader(
        torch.arange(30), batch_size=7, num_workers=2, collate_fn=lambda i: round_.read(torch.stack(i), ["x_0"])["x_0"]
    )
    assert torch.equal(torch.cat(list(loader)), values(torch.arange(30), 1, 4, 4))


# ---- size


def big_pool(path: Path, shards: int, rows: int, row: int) -> Round:
    pool = TrajectoryPool.create(path, FINGERPRINT, 0)
    round_ = pool.start_round(0, [""], shards * rows, {}, rows, {})
    for shard in round_.missing():
        index = torch.arange(shard.start, shard.stop)
        x_0 = index[:, None].float().expand(-1, row).contiguous()
        round_.write(shard, TensorDict({"x_0": x_0, "seed": seeds(index, shards * rows, [""], 0)}, [rows]))
    return round_


def data_bytes() -> int:
    """Memory of the process's own, which files mapped for reading are not part of (they can be dropped at any time)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmData:")[1].split()[0]) * 1024


def read_within(path: Path, limit: int) -> None:
    round_ = TrajectoryPool.open(path).round(0)
    generator = torch.Generator().manual_seed(0)
    round_.read(torch.arange(64))
    allowed = data_bytes() + limit
    resource.setrlimit(resource.RLIMIT_DATA, (allowed, allowed))
    for index in torch.randperm(len(round_), generator=generator).split(64):
        assert torch.equal(round_.read(index)["x_0"][:, 0], index.float())
    TrajectoryPool.open(path).table()
    with pytest.raises(RuntimeError, match="memory"):  # the limit holds, whatever is free of what this process has
        torch.zeros(allowed, dtype=torch.uint8)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
@pytest.mark.usefixtures("warm")
def test_a_pool_is_read_within_far_less_memory_than_its_size(tmp_path):
    """By a process that has no memory from before: what is free in this one might be enough for all of it."""
    big_pool(tmp_path / "pool", shards=25, rows=200, row=5_000)  # 100 MB
    code = (
        "import sys; from tests.rejection.test_pool import Path, read_within; read_within(Path(sys.argv[1]), 25 << 20)"
    )
    line = [sys.executable, "-c", code, str(tmp_path / "pool")]
    done = subprocess.run(line, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads Linux's /proc")
def test_reading_many_shards_keeps_few_files_open_and_gives_them_back(tmp_path):
    round_ = big_pool(tmp_path / "pool", shards=OPEN + 20, rows=2, row=3)

    def opened() -> int:
        links = [Path("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
        return sum(str(tmp_path) in os.readlink(link) for link in links if link.is_symlink())

    index = torch.arange(len(round_))
    assert torch.equal(round_.read(index)["seed"], seeds(index, len(round_), [""], 0))
    assert opened() == OPEN
    assert torch.equal(round_.read(index.flip(0))["x_0"][:, 0], index.flip(0).float())
    assert opened() == OPEN
    del round_
    assert opened() == 0


def test_threads_read_while_files_are_closed_under_them(tmp_path, monkeypatch):
    monkeypatch.setattr(pools.shard_files, "OPEN", 2)
    round_ = big_pool(tmp_path / "pool", shards=40, rows=3, row=2)

    def read(seed: int) -> bool:
        index = torch.randint(len(round_), (600,), generator=torch.Generator().manual_seed(seed))
        return torch.equal(round_.read(index)["x_0"][:, 1], index.float())

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(read, range(12)))


def test_a_shard_cut_off_while_it_is_open_is_told(tmp_path):
    """Not the end of the process, which reading a mapped file would be."""
    _, round_ = make_pool(tmp_path / "pool")
    fill(round_)
    assert round_.read([8])["seed"] == seeds(torch.tensor([8]))
    file = round_.path / round_.shards[1].filename
    os.truncate(file, 400)
    with pytest.raises(
        DamagedShard, match=r"000001\.safetensors is damaged: it ends before byte \d+\. Delete this file"
    ):
        round_.read([15])
    file.unlink()
    assert round_.missing() == [round_.shards[1]]
    fill(round_)
    assert torch.equal(round_.read([15])["seed"], seeds(torch.tensor([15])))


@pytest.mark.parametrize("index", [[3, 4, 5], [6, 7, 8, 9], [9, 8, 7], [5, 5, 6, 6], [0, 29], [7, 16, 17, 24, 8]])
def test_stretches_are_read_like_single_rows(tmp_path, index):
    """Within a shard, across the border of two (8), backwards, repeated."""
    _, round_ = make_pool(tmp_path / "pool")
    fill(round_)
    together, alone = round_.read(index), [round_.read([i]) for i in index]
    for name in ("x_0", "seed", ("states", "25")):
        assert torch.equal(together[name], torch.cat([one[name] for one in alone]))
    assert torch.equal(together["x_0"], values(torch.tensor(index), 1, 4, 4))


def test_verification_reads_every_file_once_and_a_full_disk_leaves_no_shard(tmp_path, monkeypatch):
    pool, round_ = make_pool(tmp_path / "pool")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space"):
            round_.write(round_.shards[0], tensor_data(round_.shards[0]))
    assert os.listdir(round_.path) == ["manifest.json"]
    fill(round_)
    seen = []
    verify = pools.round.verify_shard
    monkeypatch.setattr(pools.round, "verify_shard", lambda path, shard: (seen.append(path.name), verify(path, shard)))
    pool.verify()
    assert sorted(seen) == [shard.filename for shard in round_.shards]


def test_a_pool_that_another_run_took_before_it_was_locked_is_not_drawn_into(tmp_path):
    """Nothing was drawn, so that it is of who comes next: the first run is refused, and the second one's pool stays."""
    first, second = {"guidance_scale": 1.0}, {"guidance_scale": 2.0}

    def opens(verify):
        pool = TrajectoryPool.create(tmp_path / "pool", first, 0)
        return pool, pool.start_round(0, ["a"], 2, {}, 2, {})

    def prepares(pool, opened):
        TrajectoryPool.create(tmp_path / "pool", second, 0).start_round(0, ["a"], 2, {}, 2, {})
        return True

    with (
        pytest.raises(PoolMismatch, match=r"guidance_scale: 2\.0 in the pool, 1\.0"),
        open_for_filling(Ranks(), opens, prepares),
    ):
        pytest.fail("drawn into")
    assert TrajectoryPool.open(tmp_path / "pool").fingerprint == second


def test_a_pool_that_somebody_is_about_to_fill_is_not_taken(tmp_path):
    first = TrajectoryPool.create(tmp_path / "pool", {"guidance_scale": 1.0}, 0)
    with first.locked(), pytest.raises(PoolMismatch, match="guidance_scale"):
        TrajectoryPool.create(tmp_path / "pool", {"guidance_scale": 2.0}, 0)
    assert TrajectoryPool.create(tmp_path / "pool", {"guidance_scale": 2.0}, 0).fingerprint == {"guidance_scale": 2.0}
    assert [path.name for path in tmp_path.iterdir()] == ["pool"]
