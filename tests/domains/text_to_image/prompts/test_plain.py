import json

import pytest

from graft_lightning.domains.text_to_image.prompts import JSONLines, MissingPromptsError, Prompt, PromptFile
from graft_lightning.types import SettingsError


def test_text_file(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufeffa cat\r\n\r\n a d\u00f6g \nlast without line end".encode())
    assert PromptFile(str(path)).prompts() == [
        Prompt("0", "a cat"),
        Prompt("1", "a d\u00f6g"),
        Prompt("2", "last without line end"),
    ]


def test_json_lines(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"caption": " a cat", "kind": "one", "key": 7}\n\n{"caption": "two", "kind": ["a", "b"]}\n')
    found = JSONLines(str(path), text="caption", tags="kind", id="key").prompts()
    assert found == [Prompt("7", " a cat", ("one",)), Prompt("1", "two", ("a", "b"))]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[1]", "line 2: a list, expected an object"),
        ("{\n}", "line 2: not JSON .*; an object must stand on one line, or all of them in one array"),
        ('{"prompt": 5}', "object 2 has prompt=5, which is a number and no text"),
        ('{"prompt": null}', "object 2 has prompt=None, which is null and no text"),
        ('{"text": "a"}', "object 2 has no text under 'prompt' .it has text."),
    ],
)
def test_json_lines_names_the_bad_line(tmp_path, line, message):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "fine"}\n' + line)
    with pytest.raises(ValueError, match=message):
        JSONLines(str(path)).prompts()


def test_one_array_of_objects(tmp_path):
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps([{"prompt": "a cat"}, {"prompt": "a dog", "id": 7}], indent=2))
    assert JSONLines(str(path)).prompts() == [Prompt("0", "a cat"), Prompt("7", "a dog")]
    path.write_text("[5]")
    with pytest.raises(ValueError, match="element 1: a number, expected an object"):
        JSONLines(str(path)).prompts()


def test_blank_prompts_are_left_out_and_counted(tmp_path, caplog):
    lines, table = tmp_path / "prompts.jsonl", tmp_path / "prompts.csv"
    lines.write_text('{"prompt": ""}\n{"prompt": " "}\n{"prompt": " a cat"}\n')
    table.write_text("prompt,kind\n,x\n ,x\na cat,x\n")
    assert JSONLines(str(lines)).prompts() == [Prompt("2", " a cat")]
    assert PromptFile(str(table)).texts() == PromptFile(str(table), tags="kind").texts() == ["a cat"]
    assert [record.getMessage().split(": ")[1] for record in caplog.records] == ["2 left out whose text is blank"] * 3
    lines.write_text('{"prompt": ""}\n')
    with pytest.raises(SettingsError, match="is empty: it holds no prompt"):
        JSONLines(str(lines)).prompts()


@pytest.mark.parametrize("kind", [PromptFile, JSONLines])
def test_an_absent_file_says_what_to_do(tmp_path, kind):
    missing = kind(str(tmp_path / "absent.txt"))
    with pytest.raises(MissingPromptsError, match=r"absent\.txt' is absent; write one .* a line into it"):
        missing.texts()
