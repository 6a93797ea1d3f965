"""Products with Jacobians, against torch.func, wherever they are asked for."""

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from graft_lightning.inversion.differential import Linearised, jacobian
from tests.inversion.fields import normals


class Attentive(nn.Module):
    """Group norm, attention across pixels and a transposition between them, as in a U-Net's attention block."""

    def __init__(self):
        super().__init__()
        self.norm = nn.GroupNorm(2, 4)
        self.mix = nn.Linear(4, 12)
        self.out = nn.GroupNorm(2, 4)

    def forward(self, x):
        rows = self.norm(x).flatten(2).mT
        query, key, value = self.mix(rows).unsqueeze(1).chunk(3, dim=-1)
        mixed = scaled_dot_product_attention(query, key, value).squeeze(1).mT.reshape(x.shape)
        return self.out(torch.nn.functional.silu(mixed + x))


def curved(x):
    return torch.sin(x) * x.roll(1, dims=1)


def test_products_agree_with_forward_and_reverse_mode():
    x, v = normals(3, 5), normals(3, 5, seed=1)
    linear = Linearised(curved, x)
    torch.testing.assert_close(linear.value, curved(x))
    torch.testing.assert_close(linear.along(v), torch.func.jvp(curved, (x,), (v,))[1])
    torch.testing.assert_close(linear.transposed(v), torch.func.vjp(curved, x)[1](v)[0])


def test_the_jacobian_agrees_with_jacrev():
    x = normals(3, 2, 2)
    expected = torch.func.vmap(torch.func.jacrev(lambda row: curved(row.unsqueeze(0))[0]))(x).reshape(3, 4, 4)
    torch.testing.assert_close(jacobian(curved, x), expected)


def test_attention_and_group_norm_have_products_too():
    """Forward mode has none for this network, which is why it is not used."""
    net = Attentive().double().requires_grad_(False)
    x, v = normals(2, 4, 3, 3), normals(2, 4, 3, 3, seed=1)
    matrix = jacobian(net, x)
    expected = torch.einsum("bij,bj->bi", matrix, v.flatten(1)).reshape(v.shape)
    torch.testing.assert_close(Linearised(net, x).along(v), expected)
    h = 1e-6
    torch.testing.assert_close(expected, (net(x + h * v) - net(x - h * v)) / (2 * h), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_products_are_taken_where_gradients_are_off(mode):
    with mode():
        x, v = normals(3, 5), normals(3, 5, seed=1)
        product = Linearised(curved, x).along(v)
        matrix = jacobian(curved, x)
    assert not product.requires_grad
    torch.testing.assert_close(product.clone(), torch.einsum("bij,bj->bi", matrix, v))


def test_a_function_without_gradient_is_an_error_and_not_a_zero():
    for function in (lambda x: curved(x).detach(), torch.no_grad()(curved)):
        with pytest.raises(RuntimeError, match="carries no gradient"):
            Linearised(function, normals(2, 3))


def test_a_function_that_ignores_its_argument_has_derivative_zero():
    weight = nn.Parameter(torch.ones(3).double())
    x = normals(2, 3)
    linear = Linearised(lambda x: weight.expand(len(x), 3), x)
    assert (linear.along(x) == 0).all()
    assert (linear.transposed(x) == 0).all()
