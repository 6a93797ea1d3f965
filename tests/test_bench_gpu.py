"""`make bench-gpu` is run by whoever has a GPU; here its whole path, with architectures cut down."""

import json

import pytest
import torch

from tests import bench_gpu


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(capsys, tmp_path):
    with pytest.raises(SystemExit) as ended:
        bench_gpu.main([f"--out={tmp_path}/out.json"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out.json").exists()


def test_what_does_not_fit_is_left_out_and_said(monkeypatch, tmp_path, capsys):
    def fails():
        raise torch.OutOfMemoryError("too large\nfor this card")

    every = [bench_gpu.Part("Large, bf16", fails, "bf16-mixed")]
    monkeypatch.setattr(bench_gpu, "parts", lambda folder, tiny: every)
    found = bench_gpu.main(["--device=cpu", "--tiny", f"--out={tmp_path}/out.json"])
    assert found["left"] == {"Large, bf16": "too large"}
    late = bench_gpu.main(["--device=cpu", "--tiny", "--minutes=-1", f"--out={tmp_path}/out.json"])
    assert late["left"] == {"Large, bf16": "no time left"}
    assert "left out, too large" in capsys.readouterr().out


@pytest.mark.slow
def test_every_architecture_is_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(bench_gpu, "REPEATS", 1)
    every = bench_gpu.parts(tmp_path, True)
    monkeypatch.setattr(bench_gpu, "parts", lambda *given: [part for part in every if "compiled" not in part.title])
    found = bench_gpu.main(["--device=cpu", "--tiny", f"--out={tmp_path}/out.json"])
    assert found["left"] == {}
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    assert [(row["architecture"], row["what"]) for row in rows] == [
        ("SD 2, LoRA", "training"),
        ("SD 2, LoRA", "sampling"),
        ("NCSN++ 65 M", "training"),
        ("NCSN++ 65 M", "sampling"),
        ("NCSN++ 65 M", "inversion"),
        ("corrector 16 M", "training"),
        ("corrector 16 M", "sampling"),
        ("EGNN QM9", "training"),
        ("EGNN QM9", "sampling"),
        ("SDXL, LoRA", "training"),
        ("SDXL, LoRA", "sampling"),
        ("SD 3, LoRA", "training"),
        ("SD 3, LoRA", "sampling"),
        ("SD 2, LoRA", "training"),
    ]
    assert all(row["a_second"] > 0 < row["a_second_bare"] for row in rows)
