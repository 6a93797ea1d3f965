"""A model named by its id on the hub, as the hub's own cache holds it after a download."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from graft_lightning.domains.base.loading import ModelUnavailableError
from graft_lightning.domains.text_to_image import DiffusersReference
from graft_lightning.domains.text_to_image.source import Source
from graft_lightning.processes.samplers import DDIM
from graft_lightning.types import SettingsError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def cached(folder: Path, cache: Path, owner_and_name: str) -> None:
    """The cache's layout: contents under ``blobs``, named by a digest, and links to them."""
    repository = cache / f"models--{owner_and_name.replace('/', '--')}"
    (repository / "blobs").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    for number, file in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
        blob = repository / "blobs" / f"{number:064x}"
        shutil.copyfile(file, blob)
        link = repository / "snapshots" / COMMIT / file.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)


@pytest.mark.slow
def test_an_id_is_the_same_model_as_its_folder(pipeline_folder, tmp_path, monkeypatch):
    cached(pipeline_folder("sdxl"), tmp_path / "hub", "owner/tiny")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    found = []
    for model in ("owner/tiny", str(pipeline_folder("sdxl"))):
        reference = DiffusersReference(model, DDIM(5))
        network = reference.build()
        reference.fingerprint(network)
        weights = sum(float(p.double().sum()) for p in network.parameters())
        image = float(reference.decode(torch.ones(1, *reference.shape([""]))).sum())
        text = float(reference.encode(["a cup"], "cpu")["prompt"].sum())
        found.append((*reference.size, weights, image, text))
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_variants_of_what_was_fetched(pipeline_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    folder = shutil.copytree(pipeline_folder("sd15"), tmp_path / "copy")
    for file in folder.rglob("*.safetensors"):
        file.unlink()
    cached(folder, tmp_path, "owner/configs")
    assert Source("owner/configs", variant="fp16").variant_of("unet") == "fp16", "it is fetched, or the hub says no"
    folder = shutil.copytree(pipeline_folder("sd15"), tmp_path / "other")
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    shutil.copyfile(file, file.with_suffix(".fp16.safetensors"))
    cached(folder, tmp_path, "owner/both")
    source, usual = Source("owner/both", variant="fp16"), Source("owner/both")
    assert (source.variant_of("unet"), source.variant_of("vae"), usual.variant_of("unet")) == ("fp16", None, None)
    assert source.fingerprint("unet") != usual.fingerprint("unet")
    assert source.fingerprint("vae") == usual.fingerprint("vae")


def test_what_was_not_fetched_is_told_where_nothing_can_be(pipeline_folder, tmp_path, monkeypatch):
    """A machine without network access, as those of clusters are."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    folder = shutil.copytree(pipeline_folder("sd15"), tmp_path / "copy")
    index = json.loads((folder / "model_index.json").read_text())
    index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    (folder / "model_index.json").write_text(json.dumps(index))
    cached(folder, tmp_path, "owner/partial")
    assert DiffusersReference("owner/partial").left_out == ["feature_extractor"]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert DiffusersReference("owner/partial").left_out == []
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for file in folder.rglob("*.safetensors"):
        file.rename(file.with_suffix(".fp16.safetensors"))
    cached(folder, tmp_path, "owner/fp16")
    with pytest.raises(ModelUnavailableError, match="weights of unet as fp16 alone; set variant: fp16"):
        DiffusersReference("owner/fp16").build()
    folder = shutil.copytree(pipeline_folder("sd3"), tmp_path / "sd3")
    shutil.rmtree(folder / "text_encoder_3")
    cached(folder, tmp_path, "owner/sd3")
    with pytest.raises(SettingsError, match="names text_encoder_3, which is not here"):
        DiffusersReference("owner/sd3").encode(["a"], "cpu")
    without = DiffusersReference("owner/sd3", without=["text_encoder_3", "tokenizer_3"])
    assert without.encode(["a"], "cpu")["prompt"].isfinite().all()
