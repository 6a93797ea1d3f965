"""Files of tensors: the same tensors and texts are the same bytes, and other readers read them."""

import pytest
import torch
from safetensors import safe_open

from graft_lightning.tensors import read_tensors, write_tensors

TENSORS = {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor([1, 2], dtype=torch.int64), "none": torch.zeros(0, 4)}
TEXTS = {f"key {n}": f'text {n}, "quoted", \\, ü, 好, \n, \x01' for n in range(6)}


def test_the_same_tensors_are_the_same_bytes(tmp_path):
    """Of six texts the writer's own order would repeat once in 720 times."""
    for n in range(8):
        write_tensors(tmp_path / f"{n}.safetensors", TENSORS, dict(reversed(TEXTS.items()) if n % 2 else TEXTS.items()))
    assert len({(tmp_path / f"{n}.safetensors").read_bytes() for n in range(8)}) == 1


@pytest.mark.parametrize("texts", [{}, {"one": ""}, TEXTS], ids=len)
def test_what_was_written_is_read_by_us_and_by_others(tmp_path, texts):
    file = tmp_path / "some.safetensors"
    write_tensors(file, TENSORS, texts)
    tensors, found = read_tensors(file)
    assert found == texts
    with safe_open(str(file), "pt") as opened:
        assert {name: value for name, value in opened.metadata().items() if name != "digest"} == texts
        for name, value in TENSORS.items():
            assert torch.equal(opened.get_tensor(name), value)
            assert torch.equal(tensors[name], value)
