"""Files of texts as editors and spreadsheets leave them: read whole, or refused by name."""

import codecs
import gzip
import io
import math
import zipfile

import pytest

from graft_lightning.domains.base import TextFile
from graft_lightning.domains.base.sample_table import Matching, rows_in
from graft_lightning.domains.base.text_files import text_lines
from graft_lightning.domains.text_to_image.prompts import GenEval, JSONLines, Prompt, PromptFile, T2ICompBench
from graft_lightning.types import SettingsError

PROMPTS = ["a café", "a dog – running", "„Straße“"]
READERS = {"TextFile": TextFile, "PromptFile": PromptFile}
ENCODINGS = {
    "UTF-8": lambda text: text.encode(),
    "UTF-8 with mark": lambda text: text.encode("utf-8-sig"),
    "UTF-16 of this machine": lambda text: text.encode("utf-16"),
    "UTF-16 little": lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le"),
    "UTF-16 big": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "UTF-32": lambda text: text.encode("utf-32"),
}
SEPARATORS = ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"]


@pytest.fixture(params=READERS.values(), ids=READERS)
def reader(request):
    return request.param


def written(tmp_path, content, name="prompts.txt"):
    file = tmp_path / name
    file.write_bytes(content)
    return str(file)


@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["Unix", "Windows", "old Mac"])
def test_every_encoding_that_says_which_it_is(tmp_path, reader, encode, end):
    path = written(tmp_path, encode(end.join([*PROMPTS[:2], "", PROMPTS[2]]) + end))
    assert reader(path).texts() == PROMPTS


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
def test_older_encodings_are_refused_with_the_line(tmp_path, reader, encoding):
    path = written(tmp_path, "a cat\na café\n".encode(encoding))
    with pytest.raises(
        SettingsError, match=r"prompts\.txt, line 2: byte 0xe9 is not UTF-8; .*cp1252.*save it as UTF-8"
    ):
        reader(path).texts()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a cat\n".encode("utf-16-le"), "zero bytes: UTF-16 without a byte order mark"),
        (codecs.BOM_UTF16_LE + "a cat".encode("utf-16-le")[:-1], "damaged UTF-16"),
        (b"", "is empty"),
        (codecs.BOM_UTF8, "is empty"),
        (b" \n\r\n\t\n", "is empty"),
    ],
    ids=["no mark", "cut off", "nothing", "a mark alone", "blanks alone"],
)
def test_what_holds_no_text_is_refused_by_name(tmp_path, reader, content, said):
    with pytest.raises(SettingsError, match=rf"prompts\.txt.* {said}|prompts\.txt: {said}"):
        reader(written(tmp_path, content)).texts()


@pytest.mark.parametrize("separator", SEPARATORS, ids=[f"U+{ord(separator):04X}" for separator in SEPARATORS])
def test_no_separator_inside_a_text_splits_it(tmp_path, reader, separator):
    path = written(tmp_path, f"a cat{separator}on a mat\na dog\n".encode())
    assert reader(path).texts() == [f"a cat{separator}on a mat", "a dog"]


@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS)
def test_files_that_were_joined(tmp_path, reader, encode):
    """Each brings its mark and its line ends."""
    joined = encode("\n\ufeff".join(["a cat\ra dog", "a cow\r\n\r\ra hen\r\r\n"]))
    assert reader(written(tmp_path, joined)).texts() == ["a cat", "a dog", "a cow", "a hen"]


def packed():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("sheet.xml", "a cat\n" * 99)
    return buffer.getvalue()


@pytest.mark.parametrize("content", [gzip.compress(b"a cat\n"), packed()], ids=["gz", "xlsx"])
def test_packed_files_are_not_taken_for_older_encodings(tmp_path, reader, content):
    for name in ("prompts.txt", "prompts.csv"):
        with pytest.raises(SettingsError, match=r"is an archive, a spreadsheet or a compressed file; save it as text"):
            reader(written(tmp_path, content, name)).texts()
    assert reader(written(tmp_path, b"BZh is no archive\n")).texts() == ["BZh is no archive"]


@pytest.mark.parametrize("name", ["p.jsonl", "P.JSON", "p.ndjson"])
def test_lines_of_json_are_no_texts(tmp_path, reader, name):
    with pytest.raises(
        SettingsError, match=rf"{name}, line 1: lines of JSON are no texts, .* \(JSONLines for prompts\)"
    ):
        reader(written(tmp_path, b'{"prompt": "a cat"}\n', name)).texts()


def test_every_text_is_read_as_it_was_written(tmp_path, reader):
    texts = [" a cat", "a\nb", "a\r\nb ", "a\u2028b", 'a "dog"', "a\tb", "", "5"]
    assert reader(written(tmp_path, text_lines(texts).encode(), "c.jsonl")).texts() == texts


def test_half_a_character_in_a_json_text_is_refused(tmp_path):
    r"""JavaScript cuts texts between the halves; a whole pair is one character."""
    path = written(tmp_path, rb'{"prompt": "a \ud83d\ude00"}' + b"\n", "prompts.jsonl")
    assert JSONLines(path).texts() == ["a \U0001f600"]
    path = written(tmp_path, b'{"prompt": "a"}\n' + rb'{"prompt": "a \ud83d"}', "prompts.jsonl")
    with pytest.raises(ValueError, match=r"prompts\.jsonl, line 2: \\ud83d is half a character"):
        JSONLines(path).texts()


def test_a_folder_is_no_file_of_prompts(tmp_path):
    for kind in (PromptFile, JSONLines):
        with pytest.raises(SettingsError, match=r"cannot be read \(Is a directory\)"):
            kind(str(tmp_path)).texts()


@pytest.mark.parametrize("header", ["file,Prompt,r", "FILE,prompts,R", "file,condition,r,Condition"])
def test_columns_of_a_table_of_samples_in_any_capitals(tmp_path, header):
    """A column of conditions that is not found would make all samples those of one condition."""
    table = tmp_path / "table.csv"
    table.write_text(f"{header}\na.png,a cat,1" + ",x" * header.count(",C") + "\n")
    (row,) = rows_in(table, {"score": "r"})
    assert (row.file.name, row.condition, row.scores) == ("a.png", "a cat", {"score": 1.0})


def test_conditions_of_a_table_of_samples_are_kept_as_they_are(tmp_path):
    """A class may be called 0, and a benchmark's prompt may start with a blank."""
    (tmp_path / "t.jsonl").write_text(
        '{"file": "a", "prompt": 0, "r": 1}\n{"file": "b", "prompt": " a cat", "r": 1}\n'
        '{"file": "c", "prompt": null, "r": 1}\n'
    )
    (tmp_path / "t.csv").write_text("file,prompt,r\na,0,1\nb, a cat,1\nc,,1\n")
    for name in ("t.jsonl", "t.csv"):
        assert [row.condition for row in rows_in(tmp_path / name, {"r": "r"})] == ["0", " a cat", ""]


def test_scores_as_spreadsheets_write_them(tmp_path):
    (tmp_path / "t.csv").write_text("file;prompt;r\na;x;0,5\nb;x;1,250\nc;x;50%\nd;x;\n")
    rows = rows_in(tmp_path / "t.csv", {"mine": "r"})
    assert [row.scores["mine"] for row in rows[:2]] == [0.5, 1.25]
    assert [row.unread for row in rows] == [{}, {}, {"mine": "r is '50%'"}, {}]
    assert math.isnan(rows[2].scores["mine"])
    (tmp_path / "t.csv").write_text('file,prompt,r\na,x,"0,5"\nb,x,"1,250"\n')
    with pytest.raises(
        SettingsError, match=r"t\.csv, line 3: r '1,250' may be 1250 .*; write 1250, or a decimal point"
    ):
        rows_in(tmp_path / "t.csv", {"mine": "r"})


def test_a_condition_is_matched_exactly_and_then_without_outer_blanks():
    named = Matching([" a cat", "a dog", "a dog ", ""])
    cells = [" a cat", "a cat", "a cat\n", "a dog", "a dog ", " a dog", " ", "a cow"]
    assert [named(cell) for cell in cells] == [" a cat", " a cat", " a cat", "a dog", "a dog ", None, "", None]


def test_a_separator_inside_a_json_text(tmp_path):
    path = written(tmp_path, '{"prompt": "a\u2028b"}\n{"prompt": "c\x85d"}\n'.encode(), "prompts.jsonl")
    assert JSONLines(path).texts() == ["a\u2028b", "c\x85d"]


TABLES = {
    "csv": ("p.csv", 'id,Prompt,kind\n1,a cat,x\n2,"a red, blue ""dog""",y\n\n3,,z\n'),
    "semicolons": ("p.csv", 'id;prompt;kind\n1;a cat;x\n2;"a red, blue ""dog""";y\n'),
    "commas in a quoted header": ("p.csv", '"id, or, number";prompt\n1;a cat\n2;"a red, blue ""dog"""\n'),
    "tsv": ("p.tsv", 'Prompt\tCategory\tkind\na cat\tb\tx\n"a red, blue ""dog"""\tc\ty\n'),
    "tsv without quoting": ("P.TSV", 'kind\tprompt\nx\ta cat\ny\ta red, blue "dog"\n'),
    "one column": ("p.csv", 'prompt\na cat\n"a red, blue ""dog"""\n'),
    "Windows": ("p.csv", 'prompt,kind\r\na cat,x\r\n"a red, blue ""dog""",y\r\n'),
}


@pytest.mark.parametrize("encode", [ENCODINGS["UTF-8 with mark"], ENCODINGS["UTF-16 little"]], ids=["UTF-8", "UTF-16"])
@pytest.mark.parametrize(("name", "text"), TABLES.values(), ids=TABLES)
def test_tables_are_read_by_their_column_of_prompts(tmp_path, reader, name, text, encode):
    assert reader(written(tmp_path, encode(text), name)).texts() == ["a cat", 'a red, blue "dog"']


def test_columns_that_are_named(tmp_path, reader):
    path = written(tmp_path, b"prompt,short,kind\na long cat,cat,x\na long dog,dog,y\n", "p.csv")
    assert reader(path, column="SHORT").texts() == ["cat", "dog"]
    with pytest.raises(SettingsError, match=r"p\.csv has no column 'title' in its first row, .*prompt, short, kind"):
        reader(path, column="title").texts()
    plain = written(tmp_path, b"a cat\n")
    with pytest.raises(SettingsError, match="column='prompt' is that of a table"):
        reader(plain, column="prompt").texts()


def test_every_field_between_tabs_is_judged_by_itself(tmp_path, reader):
    """Some writers quote what holds a quote, others nothing; one odd line says nothing of the others."""
    text = 'prompt\tkind\n"a ""red"" cat"\tk\n"stop" sign\tk\n"a dog"\tk\na 5" screen\t"k"\n"open\tk\n"two\nlines"\tk\n'
    found = ['a "red" cat', '"stop" sign', "a dog", 'a 5" screen', '"open', "two\nlines"]
    assert reader(written(tmp_path, text.encode(), "p.tsv")).texts() == found
    text = 'prompt\tkind\n\na cat\tk\n"Hello\tk1\nfoo\tk2\nbar"\tk3\n'
    with pytest.raises(SettingsError, match=r"p\.tsv, line 4: a quote opens .* closes in line 6, with tabs between"):
        reader(written(tmp_path, text.encode(), "p.tsv")).texts()
    text = 'prompt\tkind\n"two\nlines"\tk\na cat\n'
    with pytest.raises(SettingsError, match=r"p\.tsv, line 4: 1 fields"):
        reader(written(tmp_path, text.encode(), "p.tsv")).texts()


def test_tags_of_a_table(tmp_path):
    path = written(tmp_path, b"prompt,kind\na cat,x\na dog,\n", "p.csv")
    assert PromptFile(path, tags="kind").prompts() == [Prompt("0", "a cat", ("x",)), Prompt("1", "a dog")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a cat\na dog\n", "no column 'prompt' or .* a table needs a header"),
        ("prompt,kind\na red, blue dog,x\n", "line 2: 3 fields, but the header has 2"),
        ("prompt,kind\na cat\n", "line 2: 1 fields"),
        ('prompt,kind\n"a cat,x\n', "not a table"),
        ("prompt,kind\n", "is empty"),
        ("", "is empty"),
        ("prompt,Prompt\na cat,a dog\n", "has several columns 'prompt'"),
        ("prompt\tkind\n" + "a" * 200_000 + "\tx\n", "not a table .*field limit"),
    ],
    ids=["no header", "unquoted comma", "short row", "open quotes", "header alone", "nothing", "twice", "too long"],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path, reader, text, said):
    for name in ("p.csv", "p.tsv") if "\t" in text else ("p.csv",):
        with pytest.raises(SettingsError, match=rf"{name}.*{said}"):
            reader(written(tmp_path, text.encode(), name)).texts()


@pytest.mark.parametrize("tags", [5, 0, False, 1.5, {"a": 1}, {}, [1], ["a", None], [["a"]]], ids=repr)
def test_tags_of_another_type_are_named(tmp_path, tags):
    import json

    lines = [json.dumps({"prompt": "a cat", "tags": ["x"]}), json.dumps({"prompt": "a dog", "tags": tags})]
    path = written(tmp_path, "\n".join(lines).encode(), "p.jsonl")
    with pytest.raises(ValueError, match=r"p\.jsonl: object 2 has tags=.* tags are a text or a list of texts"):
        JSONLines(path).prompts()


def test_tags_that_are_not_there(tmp_path):
    content = (
        b'{"prompt": "a", "tags": null}\n{"prompt": "b", "tags": ""}\n{"prompt": "c", "tags": []}\n{"prompt": "d"}'
    )
    assert JSONLines(written(tmp_path, content, "p.jsonl")).tags() == [()] * 4


@pytest.mark.parametrize("identity", ["null", "[1]", "true", "1.5"])
def test_an_id_of_another_type_is_named(tmp_path, identity):
    path = written(tmp_path, f'{{"prompt": "a", "id": {identity}}}'.encode(), "p.jsonl")
    with pytest.raises(ValueError, match=r"object 1 has id="):
        JSONLines(path).prompts()


def test_benchmarks_files_too(tmp_path):
    content = '{"prompt": "a café", "tag": "colors"}\n'
    assert GenEval(written(tmp_path, content.encode("utf-16"), "g.jsonl")).texts() == ["a café"]
    with pytest.raises(ValueError, match="object 1 has tag=5; expected a text"):
        GenEval(written(tmp_path, b'{"prompt": "a", "tag": 5}', "g.jsonl")).prompts()
    with pytest.raises(SettingsError, match="not UTF-8"):
        GenEval(written(tmp_path, content.encode("cp1252"), "g.jsonl")).prompts()
    for kind in (lambda path: JSONLines(path), lambda path: GenEval(path)):
        with pytest.raises(SettingsError, match="is empty"):
            kind(written(tmp_path, b"\n", "g.jsonl")).prompts()
    (tmp_path / "color_val.txt").write_bytes("a café\u2028x\n".encode("utf-16"))
    assert T2ICompBench(str(tmp_path), "val", ["color"]).texts() == ["a café\u2028x"]
