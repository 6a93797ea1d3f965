"""The flat library surface: complete, light, and enough for the script that the README shows."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from graft_lightning import api
from graft_lightning.statistics import interval
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
    assert after > before + 0.5
    model, views, seeds = names["model"], names["views"], names["seeds"]
    ends = [
        model.sampler.sample(one, model.process, model.encode([""] * 2000, "cpu"), api.Noise(seeds), (2,)).x_0[:, 0]
        for one in (views.trainable, views.frozen)
    ]
    assert interval((ends[0] - ends[1]).tolist())["low"] > 0.5
    print_of = model.fingerprint(views.original)
    assert names["collection"].fill(views.frozen, print_of).drawn == 0


def test_the_script_is_short():
    lines = [line for line in script().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert len(lines) <= 30


def test_a_run_is_opened_and_sampled(tmp_path):
    """The module of a run's folder is the one that was trained: it gives its samples."""
    cli = launch("fit", tmp_path, {"trainer.max_steps": 3, "trainer.limit_val_batches": 0, "evaluate.baseline": False})
    opened = api.open_run(tmp_path / "run")
    assert opened.method == "pgraft@0.25"
    cli.model.eval()
    expected = api.sample(cli.model, HELD_OUT, seed=5)
    torch.testing.assert_close(api.sample(opened, HELD_OUT, seed=5), expected)
    assert (api.sample(opened, HELD_OUT, seed=6) - expected).abs().max() > 0.01


class TestOwnModel:
    def test_its_conventions_are_kept(self):
        """The exact flow of a point: velocity eps - x_0 = (x_t - a) / t, at float64 levels, t = 1 pure noise."""
        seen = []

        class Exact(torch.nn.Module):
            def forward(self, x_t, t, condition):
                seen.append((t.dtype, t.tolist()))
                return (x_t - condition) / t[:, None]

        points = {"": 0.0, "a": 2.0, "b": -3.0}
        model = api.OwnModel(Exact(), api.Euler(4), (2,), encode=lambda c: torch.tensor([[points[x]] * 2 for x in c]))
        condition = model.encode(["a", "b"], "cpu")
        views = api.open_views(model, model.build())
        x_0 = model.sampler.sample(views.frozen, model.process, condition, api.Noise(torch.arange(2)), (2,)).x_0
        torch.testing.assert_close(x_0, condition, atol=1e-5, rtol=0)
        assert [levels for _, levels in seen] == [[1.0, 1.0], [0.75, 0.75], [0.5, 0.5], [0.25, 0.25]]
        assert {dtype for dtype, _ in seen} == {torch.float64}

    def test_the_network_is_copied(self):
        network = torch.nn.Linear(2, 2)
        model = api.OwnModel(network, api.Euler(4), (2,))
        built, fresh = model.build(), model.build(pretrained=False)
        assert torch.equal(built.weight, network.weight)
        assert built.weight is not network.weight
        assert not torch.equal(fresh.weight, network.weight)

    def test_other_processes_and_decoders(self):
        model = api.OwnModel(
            torch.nn.Identity(),
            api.DDIM(4),
            (2,),
            "epsilon",
            api.GaussianPath(api.Cosine()),
            decode=lambda x: x.sign(),
        )
        assert model.process.t_max == 1000
        assert model.decode(torch.tensor([[-3.0, 2.0]])).tolist() == [[-1.0, 1.0]]
