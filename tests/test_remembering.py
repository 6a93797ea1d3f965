"""The memory that tests' parsers have answers what the parser itself would: see `tests.remembering`."""

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


def refused(*given):
    raise remembering.NotPlain


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
    before = remembering.plain(settings)
    monkeypatch.setattr(acceptance, "TopK", type("TopK", (), {}))  # of no kin, which other tests would meet
    assert remembering.plain(settings) != before


@pytest.mark.parametrize("value", ["${oc.env:KEY}", "FILE", {"class_path": "mine.Reward"}, {"a": [object()]}])
def test_what_may_mean_another_thing_the_next_time_is_not_remembered(tmp_path, value):
    (tmp_path / "layer.yaml").write_text("k: 4")
    with pytest.raises(remembering.NotPlain):
        remembering.plain(str(tmp_path / "layer.yaml") if value == "FILE" else value)


def test_kinds_and_order_count():
    assert len({remembering.plain(value) for value in (1, 1.0, True, "1")}) == 4
    assert remembering.plain({"a": 1, "b": 2}) != remembering.plain({"b": 2, "a": 1})
