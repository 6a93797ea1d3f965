"""Derivatives of a function of a batch that treats its samples independently.

Products with the Jacobian are taken by differentiating its transpose (reverse mode twice). Forward mode would need less
memory, but lacks rules for networks that matter here (fused attention; group norm of what an attention block returns),
while this works for whatever can be trained, and a product costs little more than an evaluation.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

Function = Callable[[Tensor], Tensor]


@contextmanager
def differentiation() -> Iterator[None]:
    """Inside, derivatives may be taken even when called from ``torch.no_grad`` or ``torch.inference_mode``.

    Attention is computed by its formula: the fused kernels have no second derivative.
    """
    with torch.inference_mode(False), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        yield


def _graph(function: Function, x: Tensor) -> tuple[Tensor, Tensor]:
    """A copy of x as the leaf of a graph, and ``function(x)`` in it."""
    x = x.detach().clone().requires_grad_()
    value = function(x)
    if not value.requires_grad:
        raise RuntimeError(
            "the function's value carries no gradient: it must be differentiable in the state, "
            "so a velocity must not detach it, or run under torch.no_grad or torch.inference_mode"
        )
    return x, value


def _gradient(output: Tensor, leaf: Tensor, direction: Tensor, create_graph: bool = False) -> Tensor:
    (gradient,) = torch.autograd.grad(
        output, leaf, direction, create_graph=create_graph, retain_graph=True, materialize_grads=True
    )
    return gradient


class Linearised:
    """A function at a point, as a linear map and its transpose.

    Args:
        function: ``(batch, *shape)`` to ``(batch, *shape)``.
        x: the point ``(batch, *shape)``.

    Raises:
        RuntimeError: if the function's value carries no gradient.
    """

    SETUP_COST = 3
    """Evaluations that building it is worth."""

    def __init__(self, function: Function, x: Tensor) -> None:
        with differentiation():
            self._x, self._value = _graph(function, x)
            self.value = self._value.detach()
            self._dual = torch.zeros_like(self._value, requires_grad=True)
            self._adjoint = _gradient(self._value, self._x, self._dual, create_graph=True)

    def along(self, direction: Tensor) -> Tensor:
        """Jacobian times ``direction``, ``(batch, *shape)``."""
        with differentiation():
            if not self._adjoint.requires_grad:  # no sample's value depends on x
                return torch.zeros_like(direction)
            return _gradient(self._adjoint, self._dual, direction.clone()).detach()

    def transposed(self, direction: Tensor) -> Tensor:
        """Transposed Jacobian times ``direction``, ``(batch, *shape)``."""
        with differentiation():
            return _gradient(self._value, self._x, direction.clone()).detach()


def jacobian(function: Function, x: Tensor) -> Tensor:
    """The Jacobian of every sample, ``(batch, d, d)``, d the elements of a sample; d reverse passes over the batch.

    Raises:
        RuntimeError: if the function's value carries no gradient.
    """
    with differentiation():
        leaf, value = _graph(function, x)
        flat = value.flatten(1)
        ones = torch.ones_like(flat[:, 0])
        rows = [_gradient(flat[:, i], leaf, ones).flatten(1) for i in range(flat.shape[1])]
        return torch.stack(rows, dim=1).detach()
