import pytest

from graft_lightning.domains.text_to_image.prompts import JSONLines, MissingPromptsError, Prompt, PromptFile


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
        ('{"text": "a"}', "object 2 has no text under 'prompt' .it has text."),
    ],
)
def test_json_lines_names_the_bad_line(tmp_path, line, message):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "fine"}\n' + line)
    with pytest.raises(ValueError, match=message):
        JSONLines(str(path)).prompts()


@pytest.mark.parametrize("kind", [PromptFile, JSONLines])
def test_an_absent_file_says_what_to_do(tmp_path, kind):
    missing = kind(str(tmp_path / "absent.txt"))
    with pytest.raises(MissingPromptsError, match=r"absent\.txt' is absent; write one .* a line into it"):
        missing.texts()
