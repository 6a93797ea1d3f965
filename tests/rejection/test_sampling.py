"""Samples from seeds, without a pool and without a trainer."""

import pytest
import torch

from graft_lightning import api
from tests.fakes import CONDITIONS, LinearReward, TinyReference


def test_neither_batch_nor_dropout_nor_gradient():
    model = TinyReference(api.DDPM(4), dropout=0.9)
    views = api.open_views(model, model.build())
    views.network.train()
    denoiser = api.Stitched(views.trainable, views.frozen, 250.0)
    texts = CONDITIONS * 4
    x = api.sample(model, texts, 3, denoiser)
    assert not x.requires_grad
    assert views.network.training
    torch.testing.assert_close(api.sample(model, texts, 3, denoiser, batch_size=3), x)
    torch.testing.assert_close(api.sample(model, texts, 3, views.frozen), x)  # the same weights so far
    torch.testing.assert_close(api.sample(model, texts[:3], 3, denoiser), x[:3])
    assert not torch.isclose(api.sample(model, texts, 4, denoiser), x).any()
    assert len({tuple(row) for row in x.tolist()}) == len(texts)


def test_static_fields_are_carried_along():
    """A mask by condition: padding stays zero, real points arrive."""

    class Masked(api.OwnModel):
        def static_fields(self, conditions, device):
            return {"mask": torch.tensor([[True] * int(n) + [False] * (3 - int(n)) for n in conditions])}

    velocity = lambda network, x, t, c: {"where": (x["where"] - 7) / t.float()[:, None, None]}  # noqa: E731
    process = api.Process({"where": api.GaussianPath(api.RectifiedFlow())})
    shape, output = {"where": (3, 2)}, {"where": "flow"}
    model = Masked(torch.nn.Identity(), api.Euler(4), shape, output, process, call=velocity)
    found = api.sample(model, ["1", "3", "2"], denoiser=api.open_views(model, model.build()).frozen, batch_size=2)
    assert found["mask"].sum(1).tolist() == [1, 3, 2]
    torch.testing.assert_close(found["where"][found["mask"]], torch.full((6, 2), 7.0), atol=1e-5, rtol=0)


def test_no_seed_is_that_of_a_pool(tmp_path):
    model = TinyReference(api.DDIM(4))
    views = api.open_views(model, model.build())
    pool = api.Collection(model, [LinearReward()], tmp_path, CONDITIONS, draws=4)
    filled = pool.fill(views.frozen, model.fingerprint(views.original)).round
    trained_on = filled.read(torch.arange(8))["x_0"]
    drawn = api.sample(model, [text for text in CONDITIONS for _ in range(4)], denoiser=views.frozen)
    assert torch.cdist(drawn, trained_on).min() > 1e-4


def test_refusals():
    model = TinyReference(api.DDIM(4))
    with pytest.raises(TypeError, match="through a denoiser"):
        api.sample(model, CONDITIONS)
    with pytest.raises(TypeError, match="PGraft has a denoiser of its own"):
        api.sample(api.PGraft(reference=model), CONDITIONS, denoiser=api.open_views(model, model.build()).frozen)
    with pytest.raises(ValueError, match="0 conditions"):
        api.sample(model, [], denoiser=api.open_views(model, model.build()).frozen)
