"""The reference that `make docs` builds from the docstrings."""

import ast
import importlib
import re
import subprocess
import warnings
from pathlib import Path

import pytest

from graft_lightning import api

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "graft_lightning").rglob("*.py"))
PARTS = "|".join(file.parent.name for file in (ROOT / "graft_lightning").glob("*/__init__.py"))


def references(source):
    """The dotted names of this package in the docstrings of a text, in backticks."""
    nodes = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef)]
    texts = [ast.get_docstring(node) or "" for node in nodes]
    found = {name for text in texts for name in re.findall(rf"`((?:graft_lightning|{PARTS})(?:\.\w+)+)`", text)}
    return {name if name.startswith("graft_lightning.") else f"graft_lightning.{name}" for name in found}


def there(name):
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for size in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:size]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[size:]:
            if not hasattr(found, attribute):
                return False
            found = getattr(found, attribute)
        return True
    return False


def test_what_docstrings_refer_to_is_there():
    found = {name: file.name for file in SOURCES for name in references(file.read_text(encoding="utf-8"))}
    assert len(found) > 5
    assert {name: file for name, file in found.items() if not there(name)} == {}


def test_a_reference_to_nothing_is_found():
    text = '"""See `graft_lightning.api.TopK` and `rejection.pools`, in `data.pool`."""'
    assert {name: there(name) for name in references(text)} == {
        "graft_lightning.api.TopK": True,
        "graft_lightning.rejection.pools": False,
    }


@pytest.mark.slow
def test_the_reference_builds_without_a_warning_and_has_every_module_and_name_of_the_api(tmp_path, monkeypatch):
    """By the recipe's names and settings, in this process, and without colours, which take twice the time."""
    pdoc = pytest.importorskip("pdoc")
    from pdoc import render, render_helpers
    from pygments import formatters, lexers

    recipe = re.findall(
        r'^\t\$\(PY\) -W "ignore:(.+)" -m pdoc --docformat (\w+) -o build/docs \\\n\t\t\$(\$\(.+\))\n',
        (ROOT / "Makefile").read_text(),
        re.M,
    )
    ((expected, docformat, names),) = recipe
    found = subprocess.check_output(f"echo {names.replace('$$', '$')}", shell=True, cwd=ROOT, text=True).split()
    monkeypatch.setattr(render_helpers, "lexer", lexers.TextLexer())
    monkeypatch.setattr(render_helpers, "signature_formatter", formatters.NullFormatter())
    render.configure(docformat=docformat, show_source=False)
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            pdoc.pdoc(*found, output_directory=tmp_path)
    finally:
        render.configure()
    of_pdoc = [str(one.message) for one in told if "pdoc" in Path(one.filename).parts]
    assert [text for text in of_pdoc if not text.startswith(expected)] == []
    page = (tmp_path / "graft_lightning/api.html").read_text(encoding="utf-8")
    assert [name for name in api.__all__ if f'id="{name}"' not in page] == []
    pages = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.html")}
    modules = {file.relative_to(ROOT).with_suffix("") for file in SOURCES if not file.name.startswith("__")}
    assert {f"{module}.html" for module in modules} <= pages
