"""Bad input: refused before anything is sampled, with the key and the value, on one screen, exit code 2."""

import importlib
import sys

import pytest

from graft_lightning.cli.main import main
from graft_lightning.domains.digits import DigitReference
from tests.runs import NETWORK, arguments, changed, launch, tiny_config


def refused(capfd, folder, config, *more, command="fit") -> str:
    """Runs a command that must be refused. Returns what it printed."""
    before = set(folder.rglob("*.safetensors"))
    with pytest.raises(SystemExit) as exit_:
        main(arguments(command, folder, config, *more))
    printed = capfd.readouterr().err
    assert exit_.value.code == 2, printed
    assert "Traceback" not in printed
    assert set(folder.rglob("*.safetensors")) == before, "something was sampled"
    return printed


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("trainer.max_step", 10, ["max_step", "did you mean", "max_steps"]),
        ("model.handof", 0.5, ["handof", "did you mean", "handoff"]),
        ("model.reference.weight", "x", ["weight", "did you mean", "weights"]),
        ("data.acceptence", None, ["acceptence", "did you mean", "acceptance"]),
        ("colect.draws", 8, ["colect", "did you mean", "collect"]),
        ("collect.draw", 8, ["draw", "did you mean", "draws"]),
        ("collect.draws", "many", ["draws", "many"]),
        ("model.handoff", 1.0, ["handoff=1.0", "[0, 1)"]),
        ("model.handoff", -0.25, ["handoff=-0.25", "[0, 1)"]),
        ("model.handoff", 0.99, ["handoff=0.99", "0.875"]),
        ("model.handoff", 0.375, ["model.handoff=0.375", "collect.keep", "0.25, 0.5"]),
        ("collect.keep", [0.25, 1.5], ["collect.keep", "1.5", "[0, 1)"]),
        ("collect.draws", 0, ["collect.draws=0", "at least 1"]),
        ("collect.draws", 1, ["k=2", "M=1"]),
        ("data.acceptance", {"class_path": "TopK", "init_args": {"k": 5}}, ["k=5", "M=4"]),
        ("data.reward", "Beauty", ["data.reward='Beauty'", "Ink"]),
        ("collect.reward", {"class_path": "tests.runs.WrongShape"}, ["WrongShape", "(2, 1)", "(2,)"]),
        ("model.class_path", "Pretrain", ["handoff"]),
        ("model.reference.weights", "nowhere.safetensors", ["weights=nowhere.safetensors", "pretrain.yaml"]),
        ("model.reference.network", {**NETWORK, "width": 64}, ["width", "32", "64"]),
        ("model.reference.sampler.steps", 0, ["steps=0"]),
        ("data.conditions", {"class_path": "TextFile", "init_args": {"path": "no.txt"}}, ["path=no.txt"]),
        (
            "data.conditions",
            {"class_path": "DigitPrompts", "init_args": {"split": "trian"}},
            ["split='trian'", "train"],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value else "",
)
def test_a_configuration_that_cannot_work(capfd, tmp_path, key, value, words):
    config = tiny_config(tmp_path)
    if key == "model.class_path":
        config["model"]["class_path"] = value
    else:
        config = changed(config, {key: value})
    printed = refused(capfd, tmp_path, config)
    assert all(word in printed for word in words), printed
    assert len(printed.splitlines()) < 16, printed


def test_collecting_for_a_module_that_does_not_take_it(capfd, tmp_path):
    config = changed(tiny_config(tmp_path), {"model.handoff": ...})
    config["model"]["class_path"] = "Pretrain"
    assert "collecting needs PGraft" in refused(capfd, tmp_path, config)


def test_a_dangling_interpolation(capfd, tmp_path):
    printed = refused(capfd, tmp_path, tiny_config(tmp_path, {"data.batch_size": "${vars.nothing}"}))
    assert "vars.nothing" in printed


@pytest.mark.parametrize("command", ["fit", "test", "predict"])
def test_a_checkpoint_that_is_not_there(capfd, tmp_path, command):
    printed = refused(capfd, tmp_path, tiny_config(tmp_path), "--ckpt_path=nowhere.ckpt", command=command)
    assert "nowhere.ckpt" in printed


@pytest.fixture
def collected(tmp_path):
    """A folder with a filled pool."""
    launch("fit", tmp_path, {"trainer.max_steps": 1, "trainer.limit_val_batches": 0, "evaluate.baseline": False})
    return tmp_path


def test_a_pool_of_another_reference_or_seed(capfd, collected):
    other = collected / "other.safetensors"
    reference = DigitReference(weights=str(other), network=NETWORK)
    reference.save(reference.build(pretrained=False), other, {})
    for changes, words in (
        ({"model.reference.weights": str(other)}, ["weights"]),
        ({"model.reference.sampler.steps": 4}, ["sampler.steps", "8", "4"]),
        ({"model.reference.sampler.clip_sample": 2.0}, ["clip_sample", "1.0", "2.0"]),
        ({"model.reference.guidance_scale": 2.0}, ["guidance_scale"]),
        ({"seed_everything": 4}, ["run_seed", "3", "4"]),
    ):
        printed = refused(capfd, collected, tiny_config(collected, changes))
        assert "pool" in printed
        assert all(word in printed for word in words), printed


def test_a_reward_whose_source_was_edited(capfd, tmp_path, monkeypatch):
    """The scores in the pool are those of before; to train on them in silence would be to learn the opposite."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    text = (
        "from graft_lightning.rejection.reward import Reward\n\nSIGN = 1\n\n\n"
        "class Edited(Reward):\n    def __call__(self, samples, conditions):\n"
        "        return SIGN * samples.flatten(1).mean(1)\n"
    )

    def config(code):
        (tmp_path / "edited_reward.py").write_text(code)
        sys.modules.pop("edited_reward", None)
        importlib.invalidate_caches()
        short = {"trainer.max_steps": 1, "trainer.limit_val_batches": 0, "evaluate.baseline": False}
        return tiny_config(tmp_path, {**short, "collect.reward": {"class_path": "edited_reward.Edited"}})

    launch("fit", tmp_path, config=config(text))
    launch("fit", tmp_path, config=config(text + "\n\n# a remark\n"))
    printed = refused(capfd, tmp_path, config(text.replace("SIGN = 1", "SIGN = -1")))
    assert "rewards/Edited was made with other settings" in printed
    assert "source_text.value of edited_reward.SIGN" in printed
    assert "data.rescore" in printed


def test_a_damaged_shard(capfd, collected):
    shard = collected / "pool/round-0000/000001.safetensors"
    damaged = bytearray(shard.read_bytes())
    damaged[-5] ^= 0xFF
    shard.write_bytes(damaged)
    assert str(shard) in refused(capfd, collected, tiny_config(collected))


def test_a_checkpoint_of_another_handoff(capfd, collected):
    checkpoint = next(collected.rglob("*.ckpt"))
    config = tiny_config(collected, {"model.handoff": 0.5})
    printed = refused(capfd, collected, config, f"--ckpt_path={checkpoint}", command="test")
    assert "t=250" in printed
    assert "t=500" in printed


def test_a_checkpoint_without_adapters(capfd, collected):
    checkpoint = next(collected.rglob("*.ckpt"))
    config = tiny_config(collected, {"model.lora": {"rank": 2}})
    printed = refused(capfd, collected, config, f"--ckpt_path={checkpoint}", command="test")
    assert "adapter" in printed
    assert "model.lora" in printed


def test_rules_that_accept_nothing(capfd, collected):
    rule = {"class_path": "Threshold", "init_args": {"threshold": 2.0}}
    printed = refused(capfd, collected, tiny_config(collected, {"data.acceptance": rule}))
    assert "accepted none of 16" in printed
