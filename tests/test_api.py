"""The flat library surface: complete, light, and enough for the script that the README shows."""

import doctest
import re
import subprocess
import sys
from pathlib import Path

import lightning as L
import pytest
import torch
from diffusers import DDPMScheduler

from graft_lightning import api
from graft_lightning.rejection import acceptance
from graft_lightning.rejection.pool import PoolMismatch
from graft_lightning.statistics import interval
from graft_lightning.types import SettingsError
from tests.fakes import CONDITIONS, LinearReward, TinyReference
from tests.runs import HELD_OUT, launch

README = Path(__file__).parents[1] / "README.md"
HEAVY = {"lightning", "torch", "diffusers", "transformers", "peft", "rdkit", "matplotlib", "sklearn"}


def test_every_name_is_there_and_listed():
    assert dir(api) == api.__all__ == sorted(set(api.__all__))
    for name in api.__all__:
        assert callable(getattr(api, name))
        assert getattr(api, name).__doc__
    with pytest.raises(AttributeError, match=r"no 'TopL'; it has .*TopK"):
        _ = api.TopL


def test_what_its_docstring_names_is_there():
    named = re.findall(r"`(\w+)`", api.__doc__)
    assert len(named) > 20
    assert set(named) <= set(api.__all__)


def test_every_rule_is_there():
    assert set(acceptance.__all__) - {"Decision"} <= set(api.__all__)


@pytest.mark.parametrize("name", api.__all__)
def test_docstring_examples_import_and_run(name):
    """Whatever an example imports from here is here, also where the example itself is not run."""
    found = doctest.DocTestFinder(recurse=False).find(getattr(api, name), name, globs={})
    sources = [f"from graft_lightning.api import {name}", *(e.source for t in found for e in t.examples)]
    for source in sources:
        if source.startswith("from graft_lightning"):
            exec(source, {})
    runner = doctest.DocTestRunner(verbose=False)
    assert sum(runner.run(test).failed for test in found) == 0


def test_there_are_examples():
    examples = [name for name in api.__all__ if ">>> from graft_lightning.api import" in getattr(api, name).__doc__]
    assert set(examples) >= {"OwnModel", "open_run", "sample"}


def test_importing_it_loads_nothing():
    code = f"import sys; import graft_lightning.api; print(*({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_mathematics_comes_without_lightning():
    code = (
        "import sys; from graft_lightning import api; api.OwnModel, api.Collection, api.Objective, api.AcceptedStream;"
        "print('lightning' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def script():
    (block,) = re.findall(r"### From Python\n.*?```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    return block


def test_the_script_of_the_readme_raises_its_reward(tmp_path, monkeypatch, capsys):
    """By the paired difference of the same seeds; and a second reading of the pool draws nothing."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names = {"__name__": "script"}
    source = tmp_path / "script.py"
    source.write_text(script())
    exec(compile(script(), str(source), "exec"), names)
    before, after = (float(value) for value in re.findall(r": (-?[\d.]+)", capsys.readouterr().out))
    model, views = names["model"], names["views"]
    assert names["stream"].level == 0.25
    ends = [api.sample(model, [""] * 2000, denoiser=one)[:, 0] for one in (views.frozen, names["tuned"])]
    torch.testing.assert_close(torch.tensor([before, after]), torch.stack([x.mean() for x in ends]))
    gain = interval((ends[1] - ends[0]).tolist())
    assert gain["low"] > 0.5
    assert names["pool"].fill(views.frozen, model.fingerprint(views.original)).drawn == 0


def test_the_script_is_short():
    lines = [line for line in script().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert len(lines) <= 30


def test_a_run_is_opened_and_sampled(tmp_path):
    """By its folder or by a checkpoint, the module is the one that was trained: it gives its samples."""
    cli = launch("fit", tmp_path, {"trainer.max_steps": 3, "trainer.limit_val_batches": 0, "evaluate.baseline": False})
    expected = api.sample(cli.model, HELD_OUT, seed=5)
    (checkpoint,) = {path.resolve() for path in (tmp_path / "run").rglob("last.ckpt")}
    for opened in (
        api.open_run(tmp_path / "run"),
        api.open_run(checkpoint),
        api.open_run(tmp_path / "run", checkpoint),
    ):
        assert opened.method == "pgraft@0.25"
        assert not opened.training
        torch.testing.assert_close(api.sample(opened, HELD_OUT, seed=5), expected)
    assert (api.sample(opened, HELD_OUT, seed=6) - expected).abs().max() > 0.01
    with pytest.raises(SettingsError, match="is a checkpoint already"):
        api.open_run(checkpoint, checkpoint)
    with pytest.raises(FileNotFoundError, match=r"absent\.ckpt is absent"):
        api.open_run(tmp_path / "run/absent.ckpt")


def by_lightning(folder):
    """A module and data, built in Python: no configuration is ever written."""
    module = api.PGraft(reference=TinyReference(api.DDIM(4)), handoff=0.25)
    data = api.AcceptedTrajectories(api.Texts(CONDITIONS), api.TopK(2), str(folder / "pool"), batch_size=8)
    collect = api.Collect(api.CallableReward(first_coordinate), draws=8, keep=[0.25])
    return module, data, collect


def first_coordinate(samples, conditions):
    return samples[:, 0]


def test_lightning_trains_what_was_built_in_python(tmp_path):
    """And its checkpoint is opened with the module, where there is no configuration; it carries no code."""
    module, data, collect = by_lightning(tmp_path)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = L.Trainer(max_steps=3, default_root_dir=tmp_path, logger=False, callbacks=[collect], **quiet)
    trainer.fit(module, data)
    expected = api.sample(module, CONDITIONS)
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    opened = api.open_run(checkpoint, module=by_lightning(tmp_path)[0])
    assert opened.trained_steps == 3
    torch.testing.assert_close(api.sample(opened, CONDITIONS), expected)
    with pytest.raises(FileNotFoundError, match=r"config\.yaml is absent"):
        api.open_run(checkpoint)
    other = api.PGraft(reference=TinyReference(api.DDIM(4)), handoff=0.5)
    with pytest.raises(SettingsError, match="hand-off level"):
        api.open_run(checkpoint, module=other)


class Touching:
    """Would make a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("what", ["code", "damaged", "other"])
def test_a_checkpoint_that_is_none_is_refused(tmp_path, what):
    file, touched = tmp_path / "bad.ckpt", tmp_path / "touched"
    if what == "damaged":
        file.write_bytes(b"not a checkpoint")
    else:
        torch.save({"weights": torch.ones(2), "x": Touching(touched) if what == "code" else 1}, file)
    message = "lacks state_dict" if what == "other" else "damaged, or holds more than tensors"
    with pytest.raises(SettingsError, match=rf"bad\.ckpt .*{message}"):
        api.open_run(file, module=by_lightning(tmp_path)[0])
    assert not touched.exists()


def test_a_reward_of_another_function_is_refused_by_the_pool(tmp_path):
    """Of the same name and captured value, or not: scores of two are never mixed."""

    def rewards():
        for scale in (1.0, 1.0, 2.0):

            def scaled(samples, conditions, by=scale):
                return by * samples[:, 0]

            yield api.CallableReward(scaled)

    model = TinyReference(api.DDIM(4))
    views = api.open_views(model, model.build())
    first, same, other = (api.Collection(model, [r], tmp_path, CONDITIONS, draws=4) for r in rewards())
    identity = model.fingerprint(views.original)
    assert [one.fill(views.frozen, identity).drawn for one in (first, same)] == [8, 0]
    with pytest.raises(PoolMismatch, match="function"):
        other.fill(views.frozen, identity)


class TestSample:
    def test_neither_batch_nor_dropout_nor_gradient(self):
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

    def test_static_fields_are_carried_along(self):
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

    def test_no_seed_is_that_of_a_pool(self, tmp_path):
        model = TinyReference(api.DDIM(4))
        views = api.open_views(model, model.build())
        pool = api.Collection(model, [LinearReward()], tmp_path, CONDITIONS, draws=4)
        filled = pool.fill(views.frozen, model.fingerprint(views.original)).round
        trained_on = filled.read(torch.arange(8))["x_0"]
        drawn = api.sample(model, [text for text in CONDITIONS for _ in range(4)], denoiser=views.frozen)
        assert torch.cdist(drawn, trained_on).min() > 1e-4

    def test_refusals(self, tmp_path):
        model = TinyReference(api.DDIM(4))
        with pytest.raises(TypeError, match="through a denoiser"):
            api.sample(model, CONDITIONS)
        with pytest.raises(TypeError, match="PGraft has a denoiser of its own"):
            api.sample(by_lightning(tmp_path)[0], CONDITIONS, denoiser=api.open_views(model, model.build()).frozen)
        with pytest.raises(ValueError, match="0 conditions"):
            api.sample(model, [], denoiser=api.open_views(model, model.build()).frozen)


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


class TestOwnModel:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_a_flow_gets_levels_in_the_dtype_of_its_state(self, dtype):
        model = api.OwnModel(Point(), api.Euler(4), (2,), encode=encoded)
        x_0, network = drawn(model)
        torch.testing.assert_close(x_0, encoded(["a", "b"]), atol=1e-5, rtol=0)
        assert [levels for _, levels in network.seen] == [[1.0, 1.0], [0.75, 0.75], [0.5, 0.5], [0.25, 0.25]]
        model.denoise(network, torch.ones(1, 2, dtype=dtype), torch.ones(1).double(), 0)
        assert network.seen[-1][0] == dtype

    def test_a_diffusion_model_gets_its_own_timesteps(self):
        """Entry by entry of the published table: off by one, the exact eps would miss its point."""
        model = api.OwnModel(Timesteps(), api.DDIM(4), (2,), "epsilon", api.GaussianPath(api.Linear()), encode=encoded)
        x_0, network = drawn(model)
        torch.testing.assert_close(x_0, encoded(["a", "b"]), atol=1e-4, rtol=0)
        assert network.seen == [999, 999, 749, 749, 499, 499, 249, 249]

    def test_another_convention_is_called_by_call(self):
        """Time from noise to data, velocity x_1 - x_0 = a - noise = (a - x_t) / (1 - time)."""

        class Reversed(torch.nn.Module):
            def forward(self, x_t, time, condition):
                return (condition - x_t) / (1 - time)[:, None]

        call = lambda network, x, t, c: -network(x, 1 - t.float(), c)  # noqa: E731
        x_0, _ = drawn(api.OwnModel(Reversed(), api.Euler(4), (2,), encode=encoded, call=call))
        torch.testing.assert_close(x_0, encoded(["a", "b"]), atol=1e-5, rtol=0)

    def test_several_fields(self):
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

    def test_the_network_is_copied(self):
        network = torch.nn.Linear(2, 2)
        model = api.OwnModel(network, api.Euler(4), (2,))
        built, fresh = model.build(), model.build(pretrained=False)
        assert torch.equal(built.weight, network.weight)
        assert built.weight is not network.weight
        assert not torch.equal(fresh.weight, network.weight)
        assert model.skeleton().weight.is_meta
        api.open_views(model, model.build())
        assert network.weight.requires_grad
        assert not network.weight.is_meta

    def test_adapters_sit_where_they_are_asked_for(self):
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
    def test_what_samples_otherwise_is_told_apart(self, other):
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
    def test_settings_that_say_too_little_are_refused(self, settings, message):
        with pytest.raises(SettingsError, match=message):
            api.OwnModel(torch.nn.Identity(), api.Euler(4), **{"shape": (2,), **settings})


class TestTensorStream:
    def test_every_datum_once_in_each_shuffle_with_its_condition(self):
        data = torch.arange(6.0)[:, None]
        stream = api.TensorStream(data, list("abcdef"), seed=1)
        batches = list(stream.batches(4, steps=3))
        x = torch.cat([batch.x for batch in batches]).flatten().tolist()
        assert sorted(x[:6]) == sorted(x[6:]) == data.flatten().tolist()
        assert [text for batch in batches for text in batch.conditions] == ["abcdef"[int(i)] for i in x]
        assert len(set(torch.cat([batch.seeds for batch in batches]).tolist())) == 12
        (last,) = stream.batches(4, steps=1, start=2)
        assert torch.equal(last.x, batches[2].x)
        endless = stream.batches(4)
        assert torch.equal([next(endless) for _ in range(3)][2].seeds, batches[2].seeds)

    def test_refusals(self):
        with pytest.raises(ValueError, match="1 conditions for 2 data"):
            api.TensorStream(torch.zeros(2, 1), ["a"])
        with pytest.raises(ValueError, match="batch_size=0"):
            api.TensorStream(torch.zeros(2, 1)).batches(0)
