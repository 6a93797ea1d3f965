"""Loading pre-trained parts: what a user has to do when one cannot be had."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from graft_lightning.refusals import Refusal

if TYPE_CHECKING:
    from torch import nn

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
    from safetensors import SafetensorError

    folder = Path(source).expanduser()
    if _is_path(source) and not folder.exists():
        raise ModelUnavailableError(f"{what}: {source!r} {_NO_FOLDER}")
    try:
        return load(str(folder) if folder.exists() else source, **options)
    except (OSError, HfHubHTTPError, HFValidationError, SafetensorError) as error:
        if isinstance(error, ModelUnavailableError):
            raise
        raise ModelUnavailableError(f"{what}: {source!r} {_advice(source, error)}") from error


def loaded_network(
    load: Callable[..., Any], source: str, what: str, every_weight: bool = True, **options: Any
) -> "nn.Module":
    """A network with weights from its files, all of them: none is left as it was made, or as memory was.

    Args:
        load: a ``from_pretrained`` of diffusers or transformers.
        source: a folder, or an id on the Hugging Face hub.
        what: who loads it, and the setting that names it, for the error.
        every_weight: the files hold nothing else either, as those of diffusers do. Those of transformers may hold more:
            a whole CLIP, of which the text encoder is wanted.
        **options: passed on.

    Raises:
        ModelUnavailableError: if it cannot be had, or a weight is missing, of another shape, not finite, or unknown.
    """
    try:
        network, report = loaded(load, source, what, output_loading_info=True, **options)
    except (RuntimeError, ValueError) as error:  # how the libraries refuse weights of another shape
        said = " ".join(line.strip() for line in str(error).splitlines()[:2])
        raise ModelUnavailableError(f"{what}: {source!r} holds weights of another network ({said})") from error
    for kind, told in _WRONG.items():
        wrong = sorted(str(name) for name in report.get(kind) or ())
        if wrong and (every_weight or kind != "unexpected_keys"):
            raise ModelUnavailableError(
                f"{what}: {source!r} {told} {_listed(wrong)} of {type(network).__name__}; was it saved from another "
                "kind of network, or with a prefix before its names?"
            )
    refuse_unset(network, source, what)
    return network


def refuse_unset(network: "nn.Module", source: str, what: str) -> None:
    """Refuses a network with weights that no file has set, or that are not finite.

    Raises:
        ModelUnavailableError: naming one of them.
    """
    values = network.state_dict()
    if unset := [name for name, value in values.items() if value.is_meta]:
        raise ModelUnavailableError(f"{what}: {source!r} {_WRONG['missing_keys']} {_listed(unset)}")
    broken = [name for name, value in values.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise ModelUnavailableError(f"{what}: {source!r} holds NaN or infinity in {_listed(broken)}; fetch it again")


_WRONG = {
    "missing_keys": "has no weights for",
    "mismatched_keys": "has weights of another shape for",
    "unexpected_keys": "has weights that are no part of the network, such as",
}


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


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
