"""A single file gives the same model as the folder that it was made from."""

import torch

from graft_lightning.domains.text_to_image import DiffusersReference
from graft_lightning.processes.samplers import DDIM
from tests.domains.text_to_image.single_file import single_file


def test_a_single_file_is_the_same_model(pipeline_folder, tmp_path):
    folder = pipeline_folder("sd15")
    file = single_file(folder, tmp_path / "model.safetensors")
    whole = DiffusersReference(str(folder), DDIM(5))
    single = DiffusersReference(str(file), DDIM(5), config=str(folder))
    assert single.sampler.levels(single.process) == whole.sampler.levels(whole.process)
    assert single.shape([""]) == whole.shape([""])
    expected, found = whole.build().state_dict(), single.build().state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
    texts = ["a red cube", ""]
    assert torch.equal(single.encode(texts, "cpu")["prompt"], whole.encode(texts, "cpu")["prompt"])
    z = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(single.decode(z), whole.decode(z))
    assert single.fingerprint(single.build()) == single.fingerprint(single.build())
