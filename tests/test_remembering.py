"""The memory that tests' parsers have answers what the parser itself would: see `tests.remembering`."""

import tempfile
from pathlib import Path

import pytest

from tests import remembering
from tests.test_experiments import ROOT, whole_parser

EXPERIMENTS = ("digits/pgraft", "digits/noise_corrector", "molecules/qm9_pgraft", "images/ddpm_pgraft")
OTHERS = {
    "none": [],
    "another class": ["--model.init_args.reference.init_args.sampler=EulerInTime"],
    "other numbers": ["--data.init_args.batch_size=7", "--trainer.max_steps=3"],
}


@pytest.fixture(scope="module")
def settings():
    """What a command line comes to, as text."""
    parser = whole_parser()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        yield lambda *line: parser.dump(parser.parse_args(["fit", *line]))


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_settings_are_those_of_a_parser_that_remembers_nothing(settings, monkeypatch, experiment, other):
    line = [f"--config=experiments/{experiment}.yaml", *other]
    remembered = [settings(*line) for _ in range(2)]
    monkeypatch.setattr(remembering, "plain", refused)
    assert remembered == [settings(*line)] * 2


@pytest.mark.parametrize("folders", ["AA", "BB", "AB", "BA"])
def test_folders_of_tests_have_their_own_names(settings, monkeypatch, tmp_path_factory, folders):
    """Settings that differ in nothing else are asked about once, and a pool does not go to another test's folder."""
    made = {name: tmp_path_factory.mktemp(name) for name in "AB"}
    pool, weights = (made[name] for name in folders)
    line = [
        f"--config=experiments/{EXPERIMENTS[0]}.yaml",
        f"--data.init_args.pool={pool}/pool",
        f"--model.init_args.reference.init_args.weights={weights}/weights.safetensors",
    ]
    remembered = settings(*line)
    assert f"pool: {pool}/pool\n" in remembered
    assert f"weights: {weights}/weights.safetensors\n" in remembered
    monkeypatch.setattr(remembering, "plain", refused)
    assert remembered == settings(*line)


def test_folders_are_numbered_as_they_come():
    one, other = (f"{tempfile.gettempdir()}/pytest-of-me/pytest-0/test_{name}0" for name in ("one", "other"))
    assert said([f"{one}/pool", f"{one}/a"]) == said([f"{other}/pool", f"{other}/a"])
    assert said([f"{one}/pool", f"{one}/a"]) != said([f"{one}/pool", f"{other}/a"])
    assert said(f"{one}/pool") != said(f"{one}/a")
    assert said("pool") != said("a")


def refused(*given):
    raise remembering.NotPlain


def said(value):
    return remembering.plain(value, remembering.Folders())


def test_much_is_remembered(settings, monkeypatch):
    """Where nothing were, the test above would hold nothing against anything."""
    line = [f"--config=experiments/{EXPERIMENTS[0]}.yaml"]
    settings(*line)
    asked = []
    held = remembering._adapt
    monkeypatch.setattr(remembering, "_adapt", lambda value, *given: asked.append(value) or held(value, *given))
    settings(*line)
    remembered = len(asked)
    monkeypatch.setattr(remembering, "plain", refused)
    settings(*line)
    assert len(asked) - remembered > 5 * remembered


def test_a_class_is_itself_whatever_has_its_name(monkeypatch):
    from graft_lightning.rejection import acceptance

    settings = {"class_path": "graft_lightning.rejection.acceptance.TopK", "init_args": {"k": 4}}
    before = said(settings)
    monkeypatch.setattr(acceptance, "TopK", type("TopK", (), {}))  # of no kin, which other tests would meet
    assert said(settings) != before


@pytest.mark.parametrize("value", ["${oc.env:KEY}", "FILE", {"class_path": "mine.Reward"}, {"a": [object()]}])
def test_what_may_mean_another_thing_the_next_time_is_not_remembered(tmp_path, value):
    (tmp_path / "layer.yaml").write_text("k: 4")
    with pytest.raises(remembering.NotPlain):
        said(str(tmp_path / "layer.yaml") if value == "FILE" else value)


def test_kinds_and_order_count():
    assert len({said(value) for value in (1, 1.0, True, "1", Path("1"))}) == 5
    assert said({"a": 1, "b": 2}) != said({"b": 2, "a": 1})
