"""Samples of a model from a seed, without a pool and without a trainer."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Protocol

import torch
from torch import nn

from graft_lightning.processes.denoiser import Denoiser
from graft_lightning.processes.noise import Noise, hashed_seed, trajectory_seeds
from graft_lightning.rejection.reference import Reference, evaluating
from graft_lightning.types import Draws, StateLike, concatenate


class Sampled(Protocol):
    """A module that is sampled, as `sample` sees it."""

    @property
    def decoder(self) -> Reference:
        """The reference whose samples are made."""

    def sample(self, draws: Draws) -> StateLike:
        """Finished states of the draws' own seeds."""


def sample(
    model: Reference | Sampled,
    conditions: Sequence[str],
    seed: int = 0,
    denoiser: Denoiser | None = None,
    batch_size: int = 256,
) -> Any:
    """One sample of every condition, decoded; the same seed gives the same samples, and no trajectory of a pool.

    No gradient is kept, and every network is in evaluation mode as long as it is sampled.

    Args:
        model: what `open_run` gave, or a module whose networks are built; or a reference, with a ``denoiser``.
        conditions: texts; "" where there is nothing to say.
        seed: with a condition and its place it gives the noise of the sample, whatever the batch.
        denoiser: of a reference, which view of it is sampled: frozen, trainable, or both as `Stitched`.
        batch_size: samples drawn at a time.

    Raises:
        ValueError: if there are no conditions.
        TypeError: of a reference without a denoiser, or of another model with one.

    Example:
        >>> from graft_lightning.api import open_run, sample
        >>> images = sample(open_run("runs/demo/pgraft"), ["a three above a five"])  # doctest: +SKIP
    """
    states: Callable[[Draws], StateLike]
    if isinstance(model, Reference):
        if denoiser is None:
            raise TypeError(f"{type(model).__name__} is sampled through a denoiser: a view of `open_views`")
        decoder, states = model, partial(_states, model, denoiser)
    else:
        if denoiser is not None:
            raise TypeError(f"{type(model).__name__} has a denoiser of its own; only a reference takes another")
        decoder, states = model.decoder, model.sample
    if not conditions or batch_size < 1:
        raise ValueError(f"{len(conditions)} conditions, batch_size={batch_size}; both must be at least 1")
    places = list(range(len(conditions)))
    seeds = trajectory_seeds(hashed_seed("sample", seed), 0, conditions, places)
    parts = []
    with ExitStack() as stack, torch.no_grad():
        for network in _networks(model if denoiser is None else denoiser):
            stack.enter_context(evaluating(network))
        for low in range(0, len(conditions), batch_size):
            part = slice(low, low + batch_size)
            draws = Draws(list(conditions[part]), torch.tensor(places[part]), seeds[part])
            parts.append(decoder.decode(states(draws)))
    return concatenate(parts)


def _states(reference: Reference, denoiser: Denoiser, draws: Draws) -> StateLike:
    parameters = (parameter for network in _networks(denoiser) for parameter in network.parameters())
    device = next((parameter.device for parameter in parameters), torch.device("cpu"))
    texts = draws.conditions
    trajectory = reference.sampler.sample(
        denoiser,
        reference.process,
        reference.encode(texts, device),
        Noise(draws.seeds, device),
        reference.shape(texts),
        static=reference.static_fields(texts, device),
    )
    return trajectory.x_0


def _networks(model: Any) -> Iterator[nn.Module]:
    """The networks behind a module, or a denoiser, also one that is made of others."""
    if isinstance(model, nn.Module):
        yield model
    elif isinstance(model, Denoiser):
        for held in vars(model).values():
            if isinstance(held, nn.Module | Denoiser):
                yield from _networks(held)
