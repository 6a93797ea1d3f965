"""`score` as a user runs it: JSON on standard output, one line of complaint on standard error."""

import json
import os
from pathlib import Path

import pytest

from graft_lightning.cli.main import main

METHANE = "5\nmethane\nC 0 0 0\nH 0.63 0.63 0.63\nH -0.63 -0.63 0.63\nH -0.63 0.63 -0.63\nH 0.63 -0.63 -0.63\n"
BROKEN = "5\nfar\nC 0 0 0\nH 3 3 3\nH -0.63 -0.63 0.63\nH -0.63 0.63 -0.63\nH 0.63 -0.63 -0.63\n"


@pytest.fixture
def scored(tmp_path, capsys):
    """Writes texts to files and scores them."""

    def run(texts: dict[str, str], *more: str) -> dict:
        for name, text in texts.items():
            (tmp_path / name).write_text(text)
        main(["score", "molecules", *(str(tmp_path / name) for name in texts), *more])
        return json.loads(capsys.readouterr().out)

    return run


def test_several_files_and_frames_are_one_set(scored, tmp_path):
    (tmp_path / "train.xyz").write_text(METHANE)
    found = scored({"a.xyz": METHANE + BROKEN, "b.xyz": METHANE}, "--train", str(tmp_path / "train.xyz"))
    assert found["molecules"] == 3
    assert found["molecule_stability"] == pytest.approx(2 / 3)
    assert found["atom_stability"] == pytest.approx(13 / 15)  # of the broken one, its carbon and the far hydrogen fail
    assert 0 <= found["novelty"] < 1
    assert found["strain_judged"] == pytest.approx(2 / 3)


def test_strain_can_be_left_out(scored):
    assert "strain" not in scored({"a.xyz": METHANE}, "--no-strain")


def test_what_cannot_be_read_is_named(scored, capsys):
    with pytest.raises(SystemExit, match="2"):
        scored({"a.xyz": "2\nhm\nC 0 0 0\nH 0 x 0\n"})
    error = capsys.readouterr().err
    assert "a.xyz" in error
    assert "Traceback" not in error


def test_an_empty_file_is_a_molecule_that_is_not_valid(scored):
    found = scored({"a.xyz": METHANE, "b.xyz": "", "c.sdf": "\n"}, "--no-strain")
    assert (found["molecules"], found["molecule_stability"], found["validity"]) == (3, 1 / 3, 1 / 3)
    assert found["atom_stability"] == 1
    found = scored({"d.xyz": ""})
    assert (found["molecules"], found["validity"], found["uniqueness"], found["strain"]) == (1, 0, None, None)


def test_an_absent_file_is_named(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["score", "molecules", "nowhere.xyz"])
    assert "nowhere.xyz does not exist" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("GRAFT_TEST_DATA"), reason="GRAFT_TEST_DATA is not set")
@pytest.mark.parametrize(
    ("file", "golden"),
    [
        ("qm7_xyz/qm7_xyz.tar.gz", {"atom_stability": 0.99713, "molecule_stability": 0.98265, "validity": 0.98265}),
        ("qm9_sample/qm9_sample.xyz", {"molecule_stability": 0.95, "validity": 0.96}),
    ],
    ids=["qm7", "qm9"],
)
def test_golden_values_of_real_molecules(capsys, file, golden):
    main(["score", "molecules", str(Path(os.environ["GRAFT_TEST_DATA"]) / file), "--no-strain"])
    found = json.loads(capsys.readouterr().out)
    assert {name: round(found[name], 5) for name in golden} == golden
