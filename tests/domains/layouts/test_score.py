import json

import pytest

from graft_lightning.cli.main import main
from graft_lightning.domains.layouts.lines import write_lines
from graft_lightning.domains.layouts.pages import Pages
from graft_lightning.domains.layouts.score import score
from graft_lightning.types import SettingsError


def test_real_pages(test_data):
    found = score(test_data / "publaynet_sample" / "samples.json")
    assert (found["layouts"], found["left_out"], found["faults"]) == (19, 1, {"too many elements": 1})
    assert (round(found["alignment"], 4), round(found["overlap"], 4)) == (0.0031, 0.5369)
    assert found["elements"] == pytest.approx(167 / 19)


def test_real_screens(test_data):
    found = score(test_data / "rico_layouts" / "rico_ltrb_lex_src1_valid.txt", max_elements=20)
    assert (found["vocabulary"], found["layouts"], found["left_out"]) == ("rico25", 1865, 0)
    assert found["overlap/layoutflow"] < found["overlap/layoutdm"]  # cards and lists lie under others on purpose


def test_against_a_training_set(tmp_path):
    pages = list(Pages().pages(60))
    write_lines(tmp_path / "train.jsonl", pages[:40])
    write_lines(tmp_path / "ours.jsonl", pages[30:50])
    found = score(tmp_path / "ours.jsonl", tmp_path / "train.jsonl", fid_steps=2, cache=tmp_path / "cache")
    assert found["repeated"] == 0.5
    assert found["uniqueness"] == 1
    assert 0 < found["max_iou"] <= 1
    assert found["fid"] > 0
    same = score(tmp_path / "train.jsonl", tmp_path / "train.jsonl", fid_steps=0)
    assert "fid" not in same
    assert {
        name: same[name] for name in ("max_iou", "class_distance", "box_distance", "count_distance", "repeated")
    } == (pytest.approx({"max_iou": 1, "class_distance": 0, "box_distance": 0, "count_distance": 0, "repeated": 1}))
    assert json.loads(json.dumps(same)) == same


def test_on_the_command_line(tmp_path, capsys):
    write_lines(tmp_path / "a.jsonl", Pages().pages(5))
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write('{"labels": ["text"], "boxes": [[0.9, 0.5, 0.5, 0.1]]}\n{"labels": ["te')
    main(["score", "layouts", str(tmp_path / "a.jsonl"), "--off-page", "clip"])
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert (found["layouts"], found["left_out"], found["elements_left_out"]) == (6, 1, 0)
    assert found["faults"] == {"cut at the page's edge": 1, "broken entry": 1}
    main(["score", "layouts", str(tmp_path / "a.jsonl")])
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert (found["layouts"], found["left_out"], found["elements_left_out"]) == (5, 2, 1)
    assert found["faults"] == {"off the page": 1, "broken entry": 1, "empty page": 1}


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.json", '{"images": [', "no layout can be judged: 1 x broken file.*no whole JSON"),
        ("a.jsonl", "", "no layout can be judged: the files hold none"),
        ("a.jsonl", "{", "1 x broken entry"),
        ("a.png", "", "no file of a readable kind"),
        ("a.jsonl", '{"vocabulary": "klingon", "labels": [], "boxes": []}', "vocabulary='klingon'; it is one of"),
    ],
)
def test_what_cannot_be_judged_is_refused(tmp_path, capsys, name, content, problem):
    (tmp_path / name).write_text(content)
    with pytest.raises(SettingsError, match=problem):
        score(tmp_path / name)
    with pytest.raises(SystemExit, match="2"):
        main(["score", "layouts", str(tmp_path / name)])
    assert "error: " in capsys.readouterr().err


def test_a_broken_training_set_is_an_error(tmp_path):
    write_lines(tmp_path / "a.jsonl", Pages().pages(5))
    (tmp_path / "train.json").write_text('{"images": [')
    with pytest.raises(SettingsError, match=r"train.json: no whole JSON"):
        score(tmp_path / "a.jsonl", tmp_path / "train.json", fid_steps=0)
    with pytest.raises(SettingsError, match="max_elements=-1"):
        score(tmp_path / "a.jsonl", max_elements=-1)
