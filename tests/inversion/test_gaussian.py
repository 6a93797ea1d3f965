"""The Gaussian corrector against torch.distributions and scikit-learn."""

import pytest
import torch
from torch.distributions import MultivariateNormal

from graft_lightning.inversion.gaussian import GaussianCorrector, ledoit_wolf_shrinkage
from tests.inversion.fields import normals


def sample(count, d=6, seed=0):
    """Correlated, with a mean, and of the shape of an image."""
    mixing = normals(d, d, seed=100) / d**0.5 + 0.5 * torch.eye(d).double()
    return (normals(count, d, seed=seed) @ mixing.T + 0.3).reshape(count, 1, 2, d // 2)


def covariance_of(corrector):
    """The covariance that the map z -> corrector(z) gives to standard normal noise."""
    d = corrector.mean.numel()
    rows = torch.eye(d, dtype=corrector.mean.dtype).reshape(d, *corrector.mean.shape)
    root = (corrector(rows) - corrector.mean).flatten(1)
    torch.testing.assert_close(root, root.T, msg="the root is symmetric")
    return root @ root


def sample_covariance(x):
    return x.flatten(1).T.cov(correction=0)


def test_full_is_the_sample_covariance():
    x = sample(500)
    corrector = GaussianCorrector.fit(x)
    torch.testing.assert_close(corrector.mean, x.mean(0))
    torch.testing.assert_close(covariance_of(corrector), sample_covariance(x))


def test_diagonal_keeps_the_variances_alone():
    x = sample(500)
    corrector = GaussianCorrector.fit(x, "diagonal")
    torch.testing.assert_close(covariance_of(corrector), sample_covariance(x).diag().diag())


def test_low_rank_is_probabilistic_pca():
    x = sample(500)
    corrector = GaussianCorrector.fit(x, "low_rank", rank=2)
    values, axes = torch.linalg.eigh(sample_covariance(x))
    values[:4] = values[:4].mean()
    torch.testing.assert_close(covariance_of(corrector), axes @ values.diag() @ axes.T)


@pytest.mark.parametrize("count", [5, 40, 500])
@pytest.mark.parametrize("covariance", ["full", "low_rank"])
def test_shrinkage_agrees_with_scikit_learn(count, covariance):
    """Also with fewer samples than dimensions, where only the shrunk covariance exists."""
    from sklearn.covariance import LedoitWolf

    x = sample(count, d=12)
    expected = LedoitWolf().fit(x.flatten(1).numpy())
    rows = x.flatten(1) - x.flatten(1).mean(0)
    assert ledoit_wolf_shrinkage(rows) == pytest.approx(expected.shrinkage_, rel=1e-9)
    corrector = GaussianCorrector.fit(x, covariance, shrinkage="ledoit_wolf")
    torch.testing.assert_close(covariance_of(corrector), torch.as_tensor(expected.covariance_))


@pytest.mark.parametrize("settings", [{}, {"covariance": "diagonal"}, {"covariance": "low_rank", "rank": 2}])
def test_the_density_is_that_of_the_normal_distribution(settings):
    corrector = GaussianCorrector.fit(sample(500), **settings)
    x = sample(9, seed=1)
    distribution = MultivariateNormal(corrector.mean.flatten(), covariance_of(corrector))
    torch.testing.assert_close(corrector.log_density(x), distribution.log_prob(x.flatten(1)))
    standard = MultivariateNormal(torch.zeros(6).double(), torch.eye(6).double())
    torch.testing.assert_close(corrector.divergence(), torch.distributions.kl_divergence(distribution, standard))
    torch.testing.assert_close(corrector(corrector.inverse(x)), x)


def test_the_map_gives_standard_noise_the_distribution_of_the_sample():
    x = sample(400)
    corrected = GaussianCorrector.fit(x)(normals(40000, 1, 2, 3, seed=7))
    torch.testing.assert_close(corrected.mean(0), x.mean(0), rtol=0, atol=0.03)
    torch.testing.assert_close(sample_covariance(corrected), sample_covariance(x), rtol=0, atol=0.05)


def test_standard_noise_is_left_where_it_is():
    corrector = GaussianCorrector.fit(normals(20000, 4), shrinkage="ledoit_wolf")
    z = normals(100, 4, seed=1)
    assert (corrector(z) - z).abs().max() < 0.1
    assert corrector.divergence() < 1e-3


def test_it_is_stored_and_restored_as_a_module():
    fitted = GaussianCorrector.fit(sample(50, d=12), "low_rank", rank=3)
    other = GaussianCorrector.fit(sample(60, d=12, seed=1), "low_rank", rank=3)
    other.load_state_dict(fitted.state_dict())
    z = normals(4, 1, 2, 6)
    assert torch.equal(other(z), fitted(z))
    assert fitted.float()(z.float()).dtype == torch.float32


@pytest.mark.parametrize(
    ("noise", "settings", "word"),
    [
        (sample(1), {}, "1 samples"),
        (sample(5), {}, "singular; use shrinkage='ledoit_wolf'"),
        (sample(5), {"covariance": "low_rank"}, "singular"),
        (torch.cat([sample(9), torch.full((1, 1, 2, 3), torch.nan)]), {}, "Inversion.usable"),
        (sample(9), {"covariance": "tied"}, "covariance='tied'"),
        (sample(9), {"rank": 2}, "only 'low_rank' has a rank"),
        (sample(9), {"covariance": "low_rank", "rank": 7}, "rank=7"),
        (sample(9), {"shrinkage": 2}, "shrinkage=2"),
        (sample(9), {"shrinkage": "oas"}, "shrinkage='oas'"),
    ],
)
def test_what_has_no_covariance_is_refused(noise, settings, word):
    with pytest.raises(ValueError, match=word):
        GaussianCorrector.fit(noise, **settings)


def test_parameters_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="3 elements and 2 variances"):
        GaussianCorrector(torch.zeros(3), None, torch.ones(2))
    with pytest.raises(ValueError, match="must be positive"):
        GaussianCorrector(torch.zeros(2), None, torch.tensor([1.0, 0.0]))


@pytest.mark.parametrize("count", [5, 40])
def test_low_rank_keeps_the_whole_variance(count):
    """Also with fewer samples than dimensions: what is not kept is spread over all that is left."""
    x = sample(count, d=12)
    found = covariance_of(GaussianCorrector.fit(x, "low_rank", rank=2))
    torch.testing.assert_close(found.trace(), sample_covariance(x).trace())
    values = torch.linalg.eigvalsh(found)
    torch.testing.assert_close(values[:10], values[:1].expand(10))
