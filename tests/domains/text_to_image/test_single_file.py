"""A single file gives the same model as the folder that it was made from."""

import pytest
import torch
from safetensors.torch import save_file

from graft_lightning.domains.base.loading import ModelUnavailableError
from graft_lightning.domains.text_to_image import DiffusersReference
from graft_lightning.processes.samplers import DDIM, Euler
from tests.domains.text_to_image.single_file import single_file
from tests.domains.text_to_image.tiny_pipelines import PIPELINES


@pytest.fixture
def pair(pipeline_folder, tmp_path):
    """References of a folder and of the single file that is made from it."""

    def make(name):
        folder = pipeline_folder(name)
        file = single_file(folder, name, tmp_path / "model.safetensors")
        sampler = Euler(5) if name == "sd3" else DDIM(5)
        return DiffusersReference(str(folder), sampler), DiffusersReference(str(file), sampler, config=str(folder))

    return make


@pytest.mark.parametrize("name", PIPELINES)
def test_a_single_file_is_the_same_model(pair, name):
    whole, single = pair(name)
    assert single.output == whole.output
    assert single.sampler.levels(single.process) == whole.sampler.levels(whole.process)
    assert single.shape([""]) == whole.shape([""])
    expected, found = whole.build().state_dict(), single.build().state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(value, found[key]) for key, value in expected.items())
    z = torch.randn(2, *whole.shape([""]), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(single.decode(z), whole.decode(z))
    assert single.fingerprint(single.build()) == single.fingerprint(single.build())


@pytest.mark.parametrize("name", PIPELINES)
def test_a_single_file_reads_texts_alike(pair, name):
    expected, found = (reference.encode(["a red cube", ""], "cpu") for reference in pair(name))
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-4)


def test_a_file_that_holds_no_pipeline(pipeline_folder, tmp_path):
    folder, file = pipeline_folder("sd15"), tmp_path / "adapters.safetensors"
    reference = DiffusersReference(str(file), config=str(folder))
    for use in (reference.build, lambda: reference.fingerprint(None), lambda: reference.encode(["a"], "cpu")):
        with pytest.raises(ModelUnavailableError, match=r"adapters\.safetensors' is no file here"):
            use()
    save_file({"lora_unet_mid_block.lora_up.weight": torch.zeros(3, 3)}, file)
    for use in (reference.build, lambda: reference.encode(["a"], "cpu")):
        with pytest.raises(
            ModelUnavailableError, match=r"cannot be read as a pipeline in the original layout .* a LoRA"
        ):
            use()
