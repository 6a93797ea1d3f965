"""Files that were cut off or changed by a bit: refused with their name, or what was intact is read; never used."""

import json
import random
import shutil

import pytest
import torch

from graft_lightning.checkpoints import DurableCheckpoints, read_checkpoint
from graft_lightning.domains.base.weights import DATA, load_weights, save_weights
from graft_lightning.domains.digits.classifier import load_classifier
from graft_lightning.refusals import DamagedFile, Refusal, SettingsError
from graft_lightning.rejection.pool import TrajectoryPool
from graft_lightning.runs import (
    ALARMS,
    DONE,
    EVALUATIONS,
    append_record,
    done,
    mark_done,
    newest_checkpoint,
    read_records,
)
from graft_lightning.tensors import load_into, read_tensors, write_tensors
from tests.faults.counting import count
from tests.runs import launch

CUTS, FLIPS = 6, 12


def damages(content: bytes):
    """A file that was cut off at some places, and one with single bits changed."""
    chance = random.Random(len(content))
    yield from (
        (f"cut to {size}", content[:size]) for size in [0, 1, *(len(content) * k // CUTS for k in range(1, CUTS))]
    )
    for _ in range(FLIPS):
        place = chance.randrange(len(content))
        changed = bytearray(content)
        changed[place] ^= 1 << chance.randrange(8)
        yield f"bit in byte {place}", bytes(changed)


def each_refused(what, file, read):
    """Damages a file in every way; ``read`` must refuse it by its name. The file is whole again afterwards."""
    content = file.read_bytes()
    for how, damaged in damages(content):
        file.write_bytes(damaged)
        with pytest.raises(Refusal) as refused:
            read(file)
        assert file.name in str(refused.value), (how, refused.value)
        count("damaged files", f"{what} refused")
    file.write_bytes(content)
    read(file)


@pytest.fixture
def checkpoint(tmp_path):
    state = {"state_dict": {"w": torch.randn(20, 20)}, "global_step": 3, "loops": {"a": [1, 2]}}
    DurableCheckpoints().save_checkpoint(state, tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


def test_a_checkpoint(checkpoint):
    each_refused("checkpoint", checkpoint, read_checkpoint)


def test_a_checkpoint_of_another_program_is_held_against_the_checksums_of_its_parts(tmp_path):
    """Which torch writes, and never looks at."""
    file = tmp_path / "other.ckpt"
    torch.save({"state_dict": {"w": torch.zeros(1000)}, "global_step": 0}, file)
    content = bytearray(file.read_bytes())
    place = content.index(bytes(4000))
    content[place + 2000] ^= 16
    file.write_bytes(content)
    assert torch.load(file)["state_dict"]["w"].any(), "torch now refuses it by itself"
    with pytest.raises(DamagedFile, match=r"other\.ckpt"):
        read_checkpoint(file)


def test_weights(tmp_path):
    network = torch.nn.Linear(30, 30)
    save_weights(network, tmp_path / "w.safetensors", {"width": 30}, {"steps": 1})
    each_refused(
        "weights",
        tmp_path / "w.safetensors",
        lambda file: load_weights(torch.nn.Linear(30, 30), file, {"width": 30}, "make weights"),
    )


def test_shipped_weights(tmp_path):
    file = shutil.copy(DATA / "digits/classifier.safetensors", tmp_path / "classifier.safetensors")
    each_refused("shipped weights", file, load_classifier)


@pytest.mark.parametrize(
    "file", sorted(DATA.rglob("*.safetensors")), ids=lambda file: f"{file.parent.name}/{file.name}"
)
def test_what_ships_has_a_digest(file):
    from safetensors import safe_open

    with safe_open(str(file), "pt") as opened:
        assert "digest" in (opened.metadata() or {})
    read_tensors(file)


FILES_OF_A_POOL = {
    "trajectories": "round-*/*.safetensors",
    "scores": "rewards/**/*.safetensors",
    "manifest": "manifest.json",
}


@pytest.mark.parametrize("where", FILES_OF_A_POOL)
def test_a_pool(tmp_path, where):
    launch("fit", tmp_path, {"trainer.max_steps": 1, "trainer.limit_val_batches": 0, "evaluate.baseline": False})
    file = sorted((tmp_path / "pool").glob(FILES_OF_A_POOL[where]))[0]
    intact = TrajectoryPool.open(tmp_path / "pool").round(0).rewards("Ink")
    content, refused = file.read_bytes(), []
    for _, damaged in damages(content):
        file.write_bytes(damaged)
        try:
            opened = TrajectoryPool.open(tmp_path / "pool")
            rewards = opened.round(0).rewards("Ink")
        except Refusal as found:
            refused.append(str(found))
            count("damaged files", f"{where} refused")
        else:  # a manifest may say the same in other bytes: a blank, a name that nothing depends on
            assert where == "manifest"
            assert torch.equal(rewards, intact)
            count("damaged files", f"{where} read as before")
    assert len(refused) >= CUTS
    assert all(str(tmp_path / "pool") in text for text in refused)
    file.write_bytes(content)
    assert torch.equal(TrajectoryPool.open(tmp_path / "pool").round(0).rewards("Ink"), intact)


@pytest.mark.parametrize("name", [EVALUATIONS, ALARMS])
def test_records(tmp_path, name):
    """What is damaged is one record; the others are read, and the next is added whole."""
    records = [{"stage": "validate", "method": "graft", "step": step, "metrics": {"r": step / 3}} for step in range(8)]
    for record in records:
        append_record(tmp_path, name, record)
    content = (tmp_path / name).read_bytes()
    for _, damaged in damages(content):
        (tmp_path / name).write_bytes(damaged)
        append_record(tmp_path, name, {**records[0], "step": 99})
        found = read_records(tmp_path, name)
        assert found[-1]["step"] == 99
        assert len([r for r in found if r in records]) >= damaged.count(b"\n") - 2
        count("damaged files", "records healed")


def test_marks(tmp_path):
    mark_done(tmp_path, "a1b2", seconds=1.0)
    content = (tmp_path / DONE).read_bytes()
    for _, damaged in damages(content):
        (tmp_path / DONE).write_bytes(damaged)
        found = done(tmp_path)
        assert found is None or found.keys() == {"identity", "seconds"} or found["identity"] == "a1b2"
        count("damaged files", "marks without effect")


def test_of_several_checkpoints_the_newest_intact_is_taken(tmp_path, checkpoint, caplog):
    older = tmp_path / "step=2.ckpt"
    shutil.copy(checkpoint, older)
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    assert newest_checkpoint(tmp_path) == older
    (line,) = caplog.messages
    assert "last.ckpt is damaged" in line
    assert str(older) in line


@pytest.mark.parametrize("kind", ["missing", "unexpected", "prefixed", "misshapen", "nan", "infinite"])
def test_weights_that_do_not_fit(kind):
    network = torch.nn.Linear(3, 2)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    named = {
        "missing": "bias missing",
        "unexpected": "extra unexp",
        "prefixed": "module.bias",
        "misshapen": "bias of",
    }
    if kind == "missing":
        del state["bias"]
    elif kind == "unexpected":
        state["extra"] = torch.zeros(1)
    elif kind == "prefixed":
        state = {f"module.{name}": value for name, value in state.items()}
    elif kind == "misshapen":
        state["bias"] = torch.zeros(1)
    else:
        state["bias"][0] = torch.nan if kind == "nan" else torch.inf
    with pytest.raises(SettingsError, match=rf"weights=f .*{named.get(kind, 'not finite .bias')}"):
        load_into(network, state, "weights=f")


def test_a_digest_covers_what_stands_beside_the_tensors(tmp_path):
    write_tensors(tmp_path / "a.safetensors", {"w": torch.ones(2)}, {"config": json.dumps({"width": 2})})
    content = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "a.safetensors").write_bytes(content.replace(b'\\"width\\": 2', b'\\"width\\": 3'))
    assert content != (tmp_path / "a.safetensors").read_bytes()
    with pytest.raises(DamagedFile):
        read_tensors(tmp_path / "a.safetensors")
