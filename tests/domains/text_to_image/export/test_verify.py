"""`verify` in a fresh process: passes what is right, fails what is not."""

import json
import runpy
import shutil
import sys

import pytest
from safetensors.torch import load_file, save_file

from graft_lightning.cli.main import main
from graft_lightning.domains.text_to_image.export import export
from tests.domains.text_to_image.tiny_pipelines import PIPELINES

pytestmark = pytest.mark.slow


def verify(folder, capfd, *more):
    """Exit status and what was printed."""
    return ended(capfd, main, ["verify", str(folder), *more])


@pytest.fixture
def verify_here(capfd, monkeypatch):
    """The same script in this process, which has already paid for diffusers."""

    def run(folder, *more):
        monkeypatch.setitem(sys.modules, "graft_lightning", None)  # as the script does, and afterwards undone
        monkeypatch.setattr("sys.argv", ["verify.py", *more])
        return ended(capfd, runpy.run_path, str(folder / "verify.py"), run_name="__main__")

    return run


def ended(capfd, program, *arguments, **options):
    status = 0
    try:
        program(*arguments, **options)
    except SystemExit as error:
        status = error.code
    return status or 0, capfd.readouterr().out


@pytest.mark.usefixtures("warm")
def test_an_export_is_verified(tuned_of, draws, tmp_path, capfd):
    export(tuned_of("sd2"), draws, tmp_path)
    status, printed = verify(tmp_path, capfd)
    assert status == 0, printed
    assert "max difference" in printed
    assert "verified" in printed


@pytest.mark.parametrize("name", PIPELINES)
def test_every_kind_is_verified(tuned_of, draws, tmp_path, verify_here, name):
    export(tuned_of(name), draws, tmp_path)
    status, printed = verify_here(tmp_path)
    assert status == 0, printed
    assert "verified" in printed


def test_the_merged_pipeline_is_verified_too(tuned_of, draws, tmp_path, verify_here):
    export(tuned_of("sd15", handoff=0.0, guidance="absorbed"), draws, tmp_path)
    status, printed = verify_here(tmp_path)
    assert status == 0, printed
    assert "pipeline/" in printed


@pytest.mark.usefixtures("warm")
def test_an_adapter_without_effect_fails(tuned_of, draws, tmp_path, capfd):
    export(tuned_of("sd15", moved=0.0), draws, tmp_path)
    status, printed = verify(tmp_path, capfd)
    assert status == 1
    assert "no effect" in printed


def test_other_weights_fail(tuned_of, draws, tmp_path, verify_here):
    export(tuned_of("sd2"), draws, tmp_path)
    file = tmp_path / "pytorch_lora_weights.safetensors"
    save_file({name: 1.5 * value for name, value in load_file(file).items()}, file)
    (tmp_path / "SHA256SUMS").unlink()  # as of another program, or of whoever has changed it on purpose
    status, printed = verify_here(tmp_path)
    assert status == 1
    assert "the fine-tuned differs" in printed
    assert "the base model differs" not in printed


def test_another_handoff_fails(tuned_of, draws, tmp_path, verify_here):
    export(tuned_of("sd2"), draws, tmp_path)
    settings = json.loads((tmp_path / "handoff.json").read_text())
    settings["handoff"]["timestep"] += 200
    (tmp_path / "handoff.json").write_text(json.dumps(settings))
    (tmp_path / "SHA256SUMS").unlink()
    assert verify_here(tmp_path)[0] == 1


def test_the_images_are_the_pipelines_own(tuned_of, draws, tmp_path, verify_here, pipeline_folder, monkeypatch):
    """A run that decodes by another formula than the pipeline is found out."""
    from graft_lightning.domains.text_to_image.pipelines import StableDiffusionXL

    folder = shutil.copytree(pipeline_folder("sdxl"), tmp_path / "base")
    file = folder / "vae" / "config.json"
    values = {"latents_mean": [0.9, -0.8, 0.7, 0.5], "latents_std": [0.3, 2.0, 0.4, 1.9]}
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))
    export(tuned_of(str(folder)), draws, tmp_path / "right")
    status, printed = verify_here(tmp_path / "right")
    assert status == 0, printed
    monkeypatch.setattr(StableDiffusionXL, "unscaled", lambda self, x_0, vae: x_0 / vae.scaling_factor)
    export(tuned_of(str(folder)), draws, tmp_path / "wrong")
    status, printed = verify_here(tmp_path / "wrong")
    assert status == 1
    assert "FAILED: images differ from the run's own" in printed


def test_another_base_fails(tuned_of, draws, tmp_path, verify_here, pipeline_folder):
    export(tuned_of("sd2"), draws, tmp_path)
    status, printed = verify_here(tmp_path, "--base", str(pipeline_folder("sd15")))
    assert status != 0
    assert "verified" not in printed


def test_a_folder_that_is_no_export(tmp_path, capsys):
    with pytest.raises(SystemExit) as error:
        main(["verify", str(tmp_path)])
    assert error.value.code == 2
    assert "verify.json is absent; `export` writes it" in capsys.readouterr().err
