import httpx2 as httpx
import pytest
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from graft_lightning.domains.base.loading import ModelUnavailableError, loaded


def failing(error):
    def load(source, **options):
        try:
            raise error
        except Exception as cause:
            raise OSError("You are trying to access a repo.") from cause

    return load


def response(status):
    return httpx.Response(status, request=httpx.Request("GET", "https://huggingface.co/owner/name"))


def test_what_loads_is_returned_with_its_options(tmp_path):
    assert loaded(lambda source, **options: (source, options), "owner/name", "x", a=1) == ("owner/name", {"a": 1})
    assert loaded(lambda source: source, str(tmp_path), "x") == str(tmp_path)


def test_a_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    assert loaded(lambda source: source, "~/model", "x") == str(tmp_path / "model")


@pytest.mark.parametrize(
    ("load", "source", "message"),
    [
        (failing(ValueError("x")), "./models/absent", "is no folder here; set it to the folder of a downloaded model"),
        (failing(ValueError("x")), "a/b/c", "is no folder here"),
        (
            failing(GatedRepoError("gated", response=response(403))),
            "owner/name",
            "is gated: accept its terms at https://huggingface.co/owner/name, then log in with `hf auth login`",
        ),
        (
            failing(RepositoryNotFoundError("none", response=response(404))),
            "owner/name",
            "is not on huggingface.co, or private: check the spelling of https://huggingface.co/owner/name",
        ),
        (failing(TimeoutError("x")), "owner/name", r"could not be fetched .* run `hf download owner/name`"),
    ],
)
def test_the_error_says_what_to_do(load, source, message):
    with pytest.raises(ModelUnavailableError, match=f"VQAScore, setting `model`: '{source}' .*{message}"):
        loaded(load, source, "VQAScore, setting `model`")


def test_an_incomplete_folder(tmp_path):
    with pytest.raises(ModelUnavailableError, match=r"is there, but cannot be loaded .*complete folder"):
        loaded(failing(ValueError("x")), str(tmp_path), "x")


@pytest.mark.parametrize(
    ("source", "message"),
    [("owner/never-downloaded", "run `hf download owner/never-downloaded`"), ("/absent/folder", "is no folder here")],
)
def test_real_libraries_fail_like_that_without_a_network(source, message):
    from diffusers import DiffusionPipeline
    from transformers import AutoProcessor

    for load in (AutoProcessor.from_pretrained, DiffusionPipeline.from_pretrained):
        with pytest.raises(ModelUnavailableError, match=message):
            loaded(load, source, "x")


def test_other_errors_pass():
    def load(source):
        raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        loaded(load, "owner/name", "x")
