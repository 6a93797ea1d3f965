"""The flat library surface: complete, light, and enough for the script that the guide shows."""

import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from graft_lightning import api
from graft_lightning.rejection import acceptance
from graft_lightning.statistics import interval

GUIDE = Path(__file__).parents[1] / "experiments/guides/own_loop.md"
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
    (block,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    return block


def test_the_script_of_the_guide_raises_its_reward(tmp_path, monkeypatch, capsys):
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
