"""Loading pre-trained parts: what a user has to do when one cannot be had."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from graft_lightning.refusals import Refusal

T = TypeVar("T")
_NO_FOLDER = "is no folder here; set it to the folder of a downloaded model, or to an id on huggingface.co"


class ModelUnavailableError(Refusal, FileNotFoundError):
    """A pre-trained model that is absent, gated, incomplete, or out of reach."""


def loaded(load: Callable[..., T], source: str, what: str, **options: Any) -> T:
    """``load(source, **options)``, with an error that says what to do.

    Args:
        load: a ``from_pretrained`` of transformers or diffusers, or anything that fails like one.
        source: a folder, or an id on the Hugging Face hub.
        what: who loads it, and the setting that names it, for the error.
        **options: passed on.

    Raises:
        ModelUnavailableError: if ``load`` cannot read it.
    """
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError  # heavy, and only who loads needs it

    folder = Path(source).expanduser()
    if _is_path(source) and not folder.exists():
        raise ModelUnavailableError(f"{what}: {source!r} {_NO_FOLDER}")
    try:
        return load(str(folder) if folder.exists() else source, **options)
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        if isinstance(error, ModelUnavailableError):
            raise
        raise ModelUnavailableError(f"{what}: {source!r} {_advice(source, error)}") from error


def _advice(source: str, error: Exception) -> str:
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError

    causes = list(_chain(error))
    said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    page = f"https://huggingface.co/{source}"
    if Path(source).expanduser().exists():
        return f"is there, but cannot be loaded ({said}); is it a complete folder written by save_pretrained?"
    if any(isinstance(cause, HFValidationError) for cause in causes):
        return _NO_FOLDER
    if any(isinstance(cause, GatedRepoError) for cause in causes) or "gated repo" in str(error):
        return (
            f"is gated: accept its terms at {page}, then log in with `hf auth login` or set HF_TOKEN "
            "(with an account that was granted access), or set it to a folder with a copy"
        )
    if any(isinstance(cause, RepositoryNotFoundError) for cause in causes):
        return f"is not on huggingface.co, or private: check the spelling of {page}, or log in with `hf auth login`"
    return (
        f"is not in the local cache and could not be fetched ({said}); on a machine with network access run "
        f"`hf download {source}` (HF_HUB_OFFLINE must be unset), or set it to a folder with a copy"
    )


def _is_path(source: str) -> bool:
    # ids are "name" or "owner/name"
    return source.startswith((".", "~", "/")) or source.count("/") > 1 or "\\" in source


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
