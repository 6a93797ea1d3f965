"""Any network as a reference: its conventions, its fields, its identity."""

import pytest
import torch
from diffusers import DDPMScheduler

from graft_lightning import api
from graft_lightning.types import SettingsError


class Point(torch.nn.Module):
    """The exact velocity towards a point a: eps - x_0 = (x_t - a) / t; keeps what it was given."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x_t, t, condition):
        self.seen.append((t.dtype, t.tolist()))
        return (x_t - condition) / t[:, None]


class Timesteps(torch.nn.Module):
    """The exact eps of a point, by the noise table of diffusers: entry k for timestep k."""

    def __init__(self):
        super().__init__()
        self.register_buffer("table", DDPMScheduler(1000, beta_schedule="linear").alphas_cumprod)
        self.seen = []

    def forward(self, x_t, timestep, condition):
        self.seen += timestep.tolist()
        signal = self.table[timestep][:, None]
        return (x_t - signal.sqrt() * condition) / (1 - signal).sqrt()


POINTS = {"": 0.0, "a": 2.0, "b": -3.0}


def encoded(conditions):
    return torch.tensor([[POINTS[text]] * 2 for text in conditions])


def drawn(model):
    views = api.open_views(model, model.build())
    network = views.original
    return api.sample(model, ["a", "b"], denoiser=views.frozen), network


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_flow_gets_levels_in_the_dtype_of_its_state(dtype):
    model = api.OwnModel(Point(), api.Euler(4), (2,), encode=encoded)
    x_0, network = drawn(model)
    torch.testing.assert_close(x_0, encoded(["a", "b"]), atol=1e-5, rtol=0)
    assert [levels for _, levels in network.seen] == [[1.0, 1.0], [0.75, 0.75], [0.5, 0.5], [0.25, 0.25]]
    model.denoise(network, torch.ones(1, 2, dtype=dtype), torch.ones(1).double(), 0)
    assert network.seen[-1][0] == dtype


def test_a_diffusion_model_gets_its_own_timesteps():
    """Entry by entry of the published table: off by one, the exact eps would miss its point."""
    model = api.OwnModel(Timesteps(), api.DDIM(4), (2,), "epsilon", api.GaussianPath(api.Linear()), encode=encoded)
    x_0, network = drawn(model)
    torch.testing.assert_close(x_0, encoded(["a", "b"]), atol=1e-4, rtol=0)
    assert network.seen == [999, 999, 749, 749, 499, 499, 249, 249]


def test_another_convention_is_called_by_call():
    """Time from noise to data, velocity x_1 - x_0 = a - noise = (a - x_t) / (1 - time)."""

    class Reversed(torch.nn.Module):
        def forward(self, x_t, time, condition):
            return (condition - x_t) / (1 - time)[:, None]

    call = lambda network, x, t, c: -network(x, 1 - t.float(), c)  # noqa: E731
    x_0, _ = drawn(api.OwnModel(Reversed(), api.Euler(4), (2,), encode=encoded, call=call))
    torch.testing.assert_close(x_0, encoded(["a", "b"]), atol=1e-5, rtol=0)


def test_several_fields():
    class Both(torch.nn.Module):
        def forward(self, x_t, t, condition):
            assert t.dtype == torch.float32
            logits = torch.full((*x_t["kind"].shape, 3), -50.0)
            logits[..., 2] = 50.0
            return {"where": (x_t["where"] - 7) / t[:, None, None], "kind": logits}

    flow = api.RectifiedFlow()
    process = api.Process({"where": api.GaussianPath(flow), "kind": api.CategoricalPath(flow, 3, "absorbing")})
    shape, output = {"where": (4, 2), "kind": [4]}, {"where": "flow", "kind": "logits"}
    x_0, _ = drawn(api.OwnModel(Both(), api.DDIM(4), shape, output, process, decode=lambda x: x | {"n": x["kind"]}))
    torch.testing.assert_close(x_0["where"], torch.full((2, 4, 2), 7.0), atol=1e-4, rtol=0)
    assert (x_0["n"] == 2).all()


def test_the_network_is_copied():
    network = torch.nn.Linear(2, 2)
    model = api.OwnModel(network, api.Euler(4), (2,))
    built, fresh = model.build(), model.build(pretrained=False)
    assert torch.equal(built.weight, network.weight)
    assert built.weight is not network.weight
    assert not torch.equal(fresh.weight, network.weight)
    assert model.meta_network().weight.is_meta
    api.open_views(model, model.build())
    assert network.weight.requires_grad
    assert not network.weight.is_meta


def test_adapters_sit_where_they_are_asked_for():
    network = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Linear(4, 2))
    model = api.OwnModel(network, api.Euler(4), (2,), call=lambda n, x, t, c: n(x), lora_targets=["1"])
    views = api.open_views(model, model.build(), api.LoRA(rank=2))
    trained = [name for name, p in views.network.named_parameters() if p.requires_grad]
    assert trained
    assert all(name.startswith("1.lora_") for name in trained)


@pytest.mark.parametrize(
    "other",
    [
        {"network": torch.nn.Sequential(torch.nn.Identity(), torch.nn.Tanh())},  # as many weights: none
        {"network": torch.nn.Sequential(torch.nn.Identity(), torch.nn.LeakyReLU(0.2))},
        {"output": "v_prediction"},
        {"shape": (3,)},
        {"encode": encoded},
        {"decode": lambda x: x + 1},
        {"call": lambda network, x, t, c: network(x)},
        {"sampler": api.Euler(5)},
        {"process": api.GaussianPath(api.Cosine())},
    ],
    ids=lambda other: next(iter(other)),
)
def test_what_samples_otherwise_is_told_apart(other):
    """Or the pool of one would be used for another in silence."""
    settings = {
        "network": torch.nn.Sequential(torch.nn.Identity(), torch.nn.LeakyReLU(0.1)),
        "sampler": api.Euler(4),
        "shape": (2,),
        "process": api.GaussianPath(api.RectifiedFlow()),
        "decode": lambda x: x,
    }
    first, same, changed = (api.OwnModel(**values) for values in (settings, settings, settings | other))
    prints = [model.fingerprint(model.build()) for model in (first, same, changed)]
    assert prints[0] == prints[1]
    assert prints[0] != prints[2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"output": "epsilon"}, "output='epsilon' does not say on which process"),
        ({"guidance_scale": 3.0}, "guidance_scale=3, but without encode"),
        ({"shape": {"where": (2,)}}, r"shape is given for \['where'\]; the process's fields are \['x'\]"),
        ({"output": {"where": "flow"}, "process": api.GaussianPath(api.RectifiedFlow())}, "output is given for"),
    ],
)
def test_settings_that_say_too_little_are_refused(settings, message):
    with pytest.raises(SettingsError, match=message):
        api.OwnModel(torch.nn.Identity(), api.Euler(4), **{"shape": (2,), **settings})
