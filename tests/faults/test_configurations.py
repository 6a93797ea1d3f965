"""Configurations of the experiments with one mistake each: refused in one sentence, with the key's whole path."""

import contextlib
import io
import json
import random
import sys
from pathlib import Path

import pytest
import yaml

from graft_lightning.callbacks import Collect, Evaluate
from graft_lightning.cli.lightning import GraftCLI, run_lightning
from graft_lightning.cli.words import with_files
from graft_lightning.cli.written import of_text, read_yaml
from tests.faults.counting import count
from tests.faults.mutations import mutations

ROOT = Path(__file__).parents[2]
KINDS = {"collect": Collect, "evaluate": Evaluate}


def every_mutation():
    for file in sorted((ROOT / "experiments").rglob("*.yaml")):
        config = read_yaml(file)
        if "class_path" in (config.get("model") or {}):
            config = json.loads(json.dumps(config))  # what an anchor shares would be mistaken at several places
            yield from ((file, mutation) for mutation in mutations(config, KINDS))


@pytest.fixture
def built_only(monkeypatch):
    """Commands end before anything runs; the parser, which takes a second to make, is made once."""
    made: dict = {}
    make = GraftCLI.setup_parser

    def setup_parser(self, *arguments):
        if not made:
            make(self, *arguments)
            names = ("parser", "_subcommand_method_arguments", "_subcommand_parsers")
            made.update({name: getattr(self, name) for name in names})
        vars(self).update(made)

    monkeypatch.setattr(GraftCLI, "setup_parser", setup_parser)
    monkeypatch.setattr(GraftCLI, "_run_subcommand", lambda self, subcommand: None)
    monkeypatch.setattr(sys, "argv", sys.argv[:1])
    monkeypatch.chdir(ROOT)


def outcome(path: str, *arguments: str) -> tuple[str, str]:
    """How a mistake at a key is met, and what was said."""
    said, code = io.StringIO(), 0
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            run_lightning(["fit", *arguments])
        except SystemExit as leave:
            code = leave.code
    text = said.getvalue()
    lines = [line for line in text.splitlines() if line.startswith("error: ")]
    if "Traceback" in text or code not in (0, 2):
        return "traceback", text
    if code == 0:
        return "accepted though wrong", text
    clear = len(lines) == 1 and path in lines[0]
    return ("clear" if clear else "refused without key"), text


def chosen(cases: list, number: int) -> list:
    """So many of the cases, the same ones every time."""
    random.Random(0).shuffle(cases)
    assert len(cases) >= number
    return cases[:number]


def test_every_mistake_is_told_with_its_key(tmp_path, built_only):
    wrong = []
    for original, mutation in chosen(list(every_mutation()), 200):
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump(mutation.config, sort_keys=False))
        found, said = outcome(mutation.path, f"--config={file}")
        if count("mutated configurations", found) != "clear":
            wrong.append(f"{found}: {original.name} {mutation.path} ({mutation.what}): {said.strip()[-300:]}")
    assert not wrong, "\n".join(wrong)


def test_every_mistake_on_the_command_line_is_told_with_its_key(built_only):
    wrong = []
    for file, mutation in chosen([case for case in every_mutation() if case[1].key], 100):
        value = "null" if mutation.value is None else str(mutation.value)
        found, said = outcome(mutation.path, f"--config={file}", f"--{mutation.key}={value}")
        if count("mistaken command lines", found) != "clear":
            wrong.append(f"{found}: {file.name} --{mutation.key}={value} ({mutation.what}): {said.strip()[-300:]}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("data:\n  caf\xe9: 1\n".encode("latin-1"), ["line 2", "UTF-8"]),
        ("data: {}\n".encode("utf-16"), ["UTF-8"]),
        (b"data: [1\n", ["line 1", "no YAML"]),
        (b"data: {}\nmodel: {}\ndata: {}\n", ["line 3", "'data' stands there twice", "line 1"]),
        (b"data:\n  # one\n  pool: a\n  pool: b\n", ["line 4", "'pool'", "line 3"]),
        (b"collect:\n", ["collect"]),
        (b"- 1\n- 2\n", []),
        (b"", []),
    ],
    ids=["latin-1", "UTF-16", "no YAML", "a key twice", "a key twice below", "an empty section", "a list", "nothing"],
)
def test_a_file_that_is_no_configuration(tmp_path, built_only, content, words, capfd):
    file = tmp_path / "config.yaml"
    file.write_bytes(content)
    with pytest.raises(SystemExit) as leave:
        run_lightning(["fit", f"--config={file}"])
    said = capfd.readouterr().err
    assert leave.value.code == 2, said
    assert "Traceback" not in said
    assert all(word in said for word in words), said


TWICE = "seed_everything: 3\nbest: {on: false}\nseed_everything: 7\n"
RULES = "'init_args' stands there twice, first in line 2, of class_path: TopK ..."
STANDS = "'seed_everything' stands there twice"
RULE = "class_path: TopK\ninit_args: {k: 2}\ninit_args: {k: 3}\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["-c=twice.conf"], "twice.conf, line 3: 'seed_everything' stands there twice, first in line 1"),
        (["--config", "twice.conf"], "twice.conf, line 3: 'seed_everything' stands there twice, first in line 1"),
        (
            ["--config={}", "--config={{seed_everything: 3, seed_everything: 4}}"],
            "'seed_everything' stands there twice",
        ),
        (
            ["--config={}", "--data.acceptance={{class_path: TopK, init_args: {{k: 2, k: 3}}}}"],
            "data.acceptance: 'k' stands there twice, first in line 1, of {class_path: TopK, init_args: {k: 2, k: 3}}",
        ),
        (["--config={}", "--data.acceptance=rule.yaml"], f"data.acceptance: {RULES}"),
        (["--config={}", "--config=names.yaml"], f"data.acceptance: {RULES}"),
    ],
)
def test_a_key_that_stands_twice_is_refused_wherever_it_stands(tmp_path, built_only, words, told, capfd, monkeypatch):
    """Of two values PyYAML takes the last, without a word."""
    monkeypatch.chdir(tmp_path)
    Path("twice.conf").write_text(TWICE)
    Path("rule.yaml").write_text(RULE)
    Path("names.yaml").write_text("data: {init_args: {acceptance: rule.yaml}}\n")
    with pytest.raises(SystemExit) as leave:
        run_lightning(["fit", *(word.format(ROOT / "experiments/digits/pgraft.yaml") for word in words)])
    said = capfd.readouterr().err
    assert leave.value.code == 2, said
    assert told in said


def test_several_mappings_may_be_taken_over():
    text = "a: &a {x: 1}\nb: &b {y: 2}\nc:\n  <<: *a\n  <<: *b\n  z: 3"
    assert of_text(text)["c"] == {"x": 1, "y": 2, "z": 3}


def test_what_an_anchor_brings_may_be_set_otherwise():
    assert of_text("a: &a {x: 1, y: 1}\nb: {<<: *a, x: 2}")["b"] == {"x": 2, "y": 1}


def test_a_number_and_its_text_are_two_keys():
    assert of_text("{1: a, '1': b}") == {1: "a", "1": "b"}


def test_files_that_name_each_other_are_read_once(tmp_path, monkeypatch):
    """However the paths are written that lead from one to the next."""
    monkeypatch.chdir(tmp_path)
    for name in "abc":
        Path(name).mkdir()
        Path(name, "x.yaml").write_text("# compare ../a/x.yaml with ../b/x.yaml, and ../c/x.yaml\n")
    texts = with_files(["fit", "--config=a/x.yaml"])
    assert len(texts) <= 2 + 2 * 3  # seen from here, and from the folder of each
