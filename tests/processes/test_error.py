"""The squared error and its mean: the plain formula bit for bit, and finite in half precision."""

import pytest
import torch

from graft_lightning.processes.paths.base import mean_over_real, squared_error

KINDS = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
SHAPES = [(8, 4, 16, 16), (5, 7), (3, 1, 1)]


def random(shape, kind, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(kind)


def value_and_gradient(function, x, weight):
    own = x.clone().requires_grad_()
    value = function(own)
    (value * weight).sum().backward()
    return value, own.grad


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_squared_error_is_the_plain_formula(shape, kind):
    x, y, weight = random(shape, kind), random(shape, kind, 1), random(shape, kind, 2)
    found = value_and_gradient(lambda own: squared_error(own, y), x, weight)
    expected = value_and_gradient(lambda own: (own - y) ** 2, x, weight)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_the_wider_type_wins_and_the_gradient_has_the_networks():
    x = random((4, 3), torch.bfloat16).requires_grad_()
    error = squared_error(x, random((4, 3), torch.float32, 1))
    error.sum().backward()
    assert (error.dtype, x.grad.dtype) == (torch.float32, torch.bfloat16)


@pytest.mark.parametrize("kind", KINDS[:3], ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_mean_is_the_plain_mean(shape, kind):
    x, weight = random(shape, kind), random(shape[:1], kind, 2)
    found = value_and_gradient(lambda own: mean_over_real(own, None), x, weight)
    expected = value_and_gradient(lambda own: own.flatten(1).mean(1), x, weight)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=0)


def test_a_mean_of_half_precision_does_not_overflow():
    assert mean_over_real(torch.full((2, 70000), 2.0, dtype=torch.float16), None).tolist() == [2.0, 2.0]
