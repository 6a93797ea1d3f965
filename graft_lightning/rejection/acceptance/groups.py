"""Ranks, distribution functions and copies inside groups ``(groups, draws)``; every group at once, by sorting."""

import torch
from torch import Tensor

NO_KEY = -1


def finite_rewards(rewards: Tensor) -> tuple[Tensor, Tensor]:
    """The rewards in float64 with -inf where they are not finite, and the mask of those that are.

    Raises:
        ValueError: where the table is not ``(groups, draws)``.
    """
    if rewards.ndim != 2:
        raise ValueError(f"rewards must be a table (groups, draws), got shape {tuple(rewards.shape)}")
    values = rewards.to(torch.float64)
    finite = values.isfinite()
    return values.masked_fill(~finite, -torch.inf), finite


def counts(values: Tensor, finite: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How many finite values of the group lie below each one, how many do not lie above it, and how many there are.

    Divided by the last, ``(groups, 1)``, the first two are F(r-) and F(r). They mean nothing where not finite.
    """
    ascending = values.masked_fill(~finite, torch.inf).sort(dim=-1).values.contiguous()
    below = torch.searchsorted(ascending, values.contiguous())
    not_above = torch.searchsorted(ascending, values.contiguous(), right=True)
    return below, not_above, finite.sum(-1, keepdim=True)


def order(first: Tensor, second: Tensor) -> Tensor:
    """Indices that sort each group by the first table, ties by the second; ascending."""
    index = second.argsort(dim=-1, stable=True)
    return index.gather(-1, first.gather(-1, index).argsort(dim=-1, stable=True))


def places(index: Tensor) -> Tensor:
    """The place of each element in a sorted order: the inverse of the permutations that `order` returns."""
    place = torch.arange(index.shape[-1], device=index.device).expand_as(index)
    return torch.empty_like(index).scatter_(-1, index, place)


def copies(values: Tensor, finite: Tensor, keys: Tensor | None) -> tuple[Tensor, Tensor]:
    """Which draws are the best of their key, and which of those stand for the same one.

    Returns:
        count: how many draws share the highest reward of this key with this draw, itself included; 0 for a draw that is
            not finite or not the best of its key. 1 for a draw without a key.
        run: a number per group that equal draws (the same key and the same reward) have in common, below `draws`.
    """
    keys = torch.full_like(finite, NO_KEY, dtype=torch.int64) if keys is None else keys
    # -inf where not finite: last of its key, in a run of its own
    index = order(keys, -values)
    key, value = keys.gather(-1, index), values.gather(-1, index)
    new_key = _changes(key) | (key == NO_KEY)
    new_run = new_key | _changes(value)
    run_sorted = new_run.long().cumsum(-1) - 1
    size = torch.zeros_like(run_sorted).scatter_add_(-1, run_sorted, torch.ones_like(run_sorted))
    # a run is the best of its key if its first element opens the key as well
    best = torch.zeros_like(run_sorted).scatter_add_(-1, run_sorted, (new_run & new_key).long())
    run = torch.empty_like(run_sorted).scatter_(-1, index, run_sorted)
    return (size * best).gather(-1, run).masked_fill(~finite, 0), run


def _changes(ordered: Tensor) -> Tensor:
    """True where an element differs from the one before it; always at the first."""
    changes = torch.ones_like(ordered, dtype=torch.bool)
    changes[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    return changes


def one_of_each(count: Tensor, run: Tensor, uniforms: Tensor) -> Tensor:
    """Exactly one draw of every run with a positive count (see `copies`): the one with the lowest uniform."""
    index = order(run, uniforms.to(torch.float64))
    first = torch.empty_like(count, dtype=torch.bool).scatter_(-1, index, _changes(run.gather(-1, index)))
    return first & (count > 0)
