import json

import torch
from safetensors.torch import load_file

from tests.runs import HELD_OUT, assert_same_weights, launch, tiny_config

WRITE = [{"class_path": "WriteSamples"}, {"class_path": "ModelCheckpoint", "init_args": {"save_last": True}}]


def written(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_prediction_writes_the_same_files_again_from_a_checkpoint(tmp_path):
    launch("fit", tmp_path)
    last = f"--ckpt_path={tmp_path}/run/checkpoints/last.ckpt"
    changes = {"trainer.callbacks": WRITE, "data.predict_draws": 3}
    launch("predict", tmp_path, changes, last)
    first = written(tmp_path / "run/samples")
    other = [{"class_path": "WriteSamples", "init_args": {"folder": str(tmp_path / "again")}}]
    launch("predict", tmp_path, {**changes, "trainer.callbacks": other, "data.eval_batch_size": 2}, last)
    second = written(tmp_path / "again")
    assert first.keys() == second.keys()
    assert first == second
    index = [json.loads(line) for line in first["samples.jsonl"].decode().splitlines()]
    assert len(index) == len(HELD_OUT) * 3 == len(first) - 1
    assert {line["file"] for line in index} == first.keys() - {"samples.jsonl"}
    assert [(line["condition"], line["draw"]) for line in index] == [(c, d) for c in HELD_OUT for d in range(3)]
    untrained = [{"class_path": "WriteSamples", "init_args": {"folder": str(tmp_path / "untrained")}}]
    launch("predict", tmp_path, {**changes, "trainer.callbacks": untrained})
    assert written(tmp_path / "untrained") != first


def test_two_processes_write_what_one_does(tmp_path):
    for name, more in (("one", {}), ("two", {"trainer.devices": 2, "trainer.strategy": "ddp_fork"})):
        callbacks = [{"class_path": "WriteSamples", "init_args": {"folder": str(tmp_path / name)}}]
        launch("predict", tmp_path, {"trainer.callbacks": callbacks, "data.predict_draws": 3, **more})
    one, two = written(tmp_path / "one"), written(tmp_path / "two")
    lines = {name: sorted(b"".join(v for k, v in found.items() if k.endswith("jsonl")).splitlines())
             for name, found in (("one", one), ("two", two))}  # fmt: skip
    assert lines["one"] == lines["two"]
    assert {name for name in one if name.endswith("png")} == {name for name in two if name.endswith("png")}


def test_the_reference_that_a_pretraining_leaves_can_be_used_again(tmp_path):
    path = tmp_path / "new.safetensors"
    save = {"class_path": "SaveReference", "init_args": {"path": str(path)}}
    average = {"class_path": "TrainableEMA", "init_args": {"decay": 0.5}}
    config = tiny_config(tmp_path, {"model.handoff": ..., "collect.reward": None, "trainer.callbacks": [save, average]})
    config["model"]["class_path"] = "Pretrain"
    examples = {"class_path": "CaptionedDigits"}
    config["data"] = {"class_path": "PretrainingExamples", "init_args": {"examples": examples, "batch_size": 4}}
    cli = launch("fit", tmp_path, config=config)
    assert_same_weights(load_file(path), cli.model.network.state_dict())  # the average, whatever the callbacks' order
    used = launch("validate", tmp_path, {"model.reference.weights": str(path)})
    assert_same_weights(used.model.opened().original.state_dict(), cli.model.network.state_dict())
    assert torch.isfinite(used.trainer.callback_metrics["validate/Ink"])
