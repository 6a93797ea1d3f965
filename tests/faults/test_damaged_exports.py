"""Exports that were damaged on the way: `verify`, and whoever loads them in plain diffusers, refuses them by name."""

import runpy
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from graft_lightning.cli.main import main
from graft_lightning.domains.text_to_image.export import export
from graft_lightning.domains.text_to_image.export.handoff import SUMS, Handoff, changed, load_pipeline
from tests.domains.text_to_image.conftest import pipeline_folder  # noqa: F401
from tests.domains.text_to_image.export.conftest import draws, tuned_of  # noqa: F401 - fixtures
from tests.faults.counting import count

pytestmark = pytest.mark.slow
LORA = "pytorch_lora_weights.safetensors"
KINDS = {
    "LoRA": ({}, LORA),
    "full": ({"lora": None}, "fine_tuned_unet/diffusion_pytorch_model.safetensors"),
    "merged": ({"handoff": 0.0, "guidance": "absorbed"}, "pipeline/unet/diffusion_pytorch_model.safetensors"),
}


@pytest.fixture(params=KINDS)
def exported(request, tuned_of, draws, tmp_path):  # noqa: F811
    """Folder of an export, and the name of the file of its weights."""
    options, weights = KINDS[request.param]
    export(tuned_of("sd15", **options), draws, tmp_path / "export")
    return tmp_path / "export", weights


@pytest.fixture
def refusal(monkeypatch, capfd):
    """What `verify` says of an export as it refuses it; in this process, which has paid for diffusers already."""

    def run(folder):
        monkeypatch.setattr("sys.argv", ["verify.py"])
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "graft_lightning", None)  # as the script does, and afterwards undone
            with pytest.raises(SystemExit) as leave:
                runpy.run_path(str(folder / "verify.py"), run_name="__main__")
        said = capfd.readouterr().err
        assert leave.value.code == 2, said
        (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
        assert "Traceback" not in said
        count("damaged files", "export refused")
        return line

    return run


def flipped(content: bytes, place: int) -> bytes:
    changed = bytearray(content)
    changed[place] ^= 4
    return bytes(changed)


DAMAGES = {
    "a bit of the header": lambda content: flipped(content, 30),
    "a bit in the middle": lambda content: flipped(content, len(content) // 2),
    "the last bit": lambda content: flipped(content, len(content) - 1),
    "cut off": lambda content: content[:-100],
    "empty": lambda content: b"",
}


def test_weights(exported, refusal):
    folder, weights = exported
    content = (folder / weights).read_bytes()
    for damage in DAMAGES.values():
        (folder / weights).write_bytes(damage(content))
        assert f"{folder / weights} is not as it was exported; export again" in refusal(folder)
    (folder / weights).unlink()
    assert f"{folder / weights} is absent; export again" in refusal(folder)


def test_whatever_else_was_exported(exported, refusal):
    """Every file that the list names, for whatever of it is read."""
    folder, _ = exported
    names = [line.partition("  ")[2] for line in (folder / SUMS).read_text().splitlines()]
    on_disk = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert on_disk - set(names) == {SUMS, "README.md"}
    # the scripts are the ones that run here; of the pipeline's many files a few
    for name in [name for name in names if not name.endswith(".py") and name.count("/") < 2]:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(flipped(content, len(content) // 2))
        assert f"{folder / name} is not as it was exported" in refusal(folder)
        (folder / name).write_bytes(content)
    assert changed(folder) == []


def test_a_list_that_is_cut_off(exported, refusal):
    folder, _ = exported
    (folder / SUMS).write_bytes((folder / SUMS).read_bytes()[:-20] + b"\xff\n")
    assert str(folder) in refusal(folder)
    (folder / SUMS).write_bytes(b"nonsense\n")
    assert f"{folder / SUMS} is damaged" in refusal(folder)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_number_that_is_none_without_a_list(exported, refusal, value):
    """An export of an older version has no list of checksums."""
    folder, weights = exported
    (folder / SUMS).unlink()
    tensors = load_file(folder / weights)
    name = sorted(tensors)[0]
    tensors[name].view(-1)[0] = value
    save_file(tensors, folder / weights, {"format": "pt"})
    said = refusal(folder)
    assert "is damaged" in said
    assert "is not finite; export again" in said
    assert str(folder) in said


def test_a_file_that_is_cut_off_without_a_list(exported, refusal):
    folder, weights = exported
    (folder / SUMS).unlink()
    (folder / weights).write_bytes((folder / weights).read_bytes()[:-100])
    assert str(folder) in refusal(folder)


def test_the_pipeline_of_somebody_else_refuses_changed_weights(tuned_of, draws, tmp_path):  # noqa: F811
    """Not only `verify`: whoever puts the hand-off to work."""
    for kind in ("LoRA", "full"):
        options, weights = KINDS[kind]
        folder = tmp_path / kind
        export(tuned_of("sd15", **options), draws, folder)
        pipe = load_pipeline(folder)
        Handoff(pipe, folder).remove()
        (folder / "sample-0.png").write_bytes(b"")  # which it does not need
        Handoff(pipe, folder).remove()
        (folder / weights).write_bytes(flipped((folder / weights).read_bytes(), -50))
        with pytest.raises(ValueError, match=r"is not as it was exported; export again") as refused:
            Handoff(pipe, folder)
        assert str(folder / weights) in str(refused.value)
        count("damaged files", "export refused")


def test_the_command_refuses_too(tuned_of, draws, tmp_path, capfd):  # noqa: F811
    """In a process of its own, by this package's script: that of the export may be damaged itself."""
    export(tuned_of("sd15"), draws, tmp_path / "export")
    shutil.move(tmp_path / "export", tmp_path / "moved")
    (tmp_path / "moved/handoff.py").write_text("raise SystemExit(0)\n")
    with pytest.raises(SystemExit) as leave:
        main(["verify", str(tmp_path / "moved")])
    assert leave.value.code == 2
    assert f"error: {tmp_path / 'moved/handoff.py'} is not as it was exported" in capfd.readouterr().err
    count("damaged files", "export refused")
