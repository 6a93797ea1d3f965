"""The corrected sampler: exact where everything is Gaussian."""

import pytest
import torch

from graft_lightning.inversion.corrected import Corrected
from graft_lightning.inversion.gaussian import GaussianCorrector
from graft_lightning.inversion.invert import invert
from graft_lightning.inversion.steps import FlowSteps
from tests.inversion.fields import LinearField, normals, with_eigenvalues


@pytest.mark.parametrize("method", ["euler", "heun"])
def test_a_wrong_flow_is_put_right_in_law(method):
    """Every sample has a pre-image and the law of the noise is matched: the output has the law of the data."""
    field = LinearField(with_eigenvalues([0.9, -0.6, 0.5j]), offset=0.4)
    x = normals(300, 4) @ normals(4, 4, seed=5) + 1
    found = invert(field, x, 5, method=method)
    sampler = Corrected(GaussianCorrector.fit(found.usable), FlowSteps(field, 5, method))
    # the sampler is affine: its law follows from what it makes of 0 and of the unit vectors
    centre = sampler(torch.zeros(1, 4).double())
    linear = sampler(torch.eye(4).double()) - centre
    torch.testing.assert_close(centre[0], x.mean(0))
    torch.testing.assert_close(linear.T @ linear, x.T.cov(correction=0))
    uncorrected = FlowSteps(field, 5, method)(torch.eye(4).double()) - FlowSteps(field, 5, method)(centre * 0)
    assert (uncorrected.T @ uncorrected - x.T.cov(correction=0)).abs().max() > 1


def test_a_small_flow_is_a_corrector_too():
    """The corrector's own steps run from its noise to the inverse noise, then those of the frozen flow."""
    small, frozen = LinearField(with_eigenvalues([0.2, 0.1])), LinearField(with_eigenvalues([0.8, -0.5]))
    sampler = Corrected(FlowSteps(small, 3), FlowSteps(frozen, 4))
    z = normals(5, 2)
    torch.testing.assert_close(sampler(z), FlowSteps(frozen, 4).generate(FlowSteps(small, 3).generate(z)))
    small.times, frozen.times = [], []
    sampler(z)
    assert small.times == [1, 2 / 3, 1 / 3]
    assert frozen.times == [1, 0.75, 0.5, 0.25]


def test_a_corrector_that_changes_the_shape_is_refused():
    sampler = Corrected(lambda z: z.flatten(1), FlowSteps(lambda x, t: x, 2))
    with pytest.raises(ValueError, match=r"\(2, 1, 3\) into \(2, 3\)"):
        sampler(torch.zeros(2, 1, 3))
