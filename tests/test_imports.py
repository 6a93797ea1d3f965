"""The import contract: layers import downwards only, the mathematics without Lightning, the CLI nothing heavy."""

import ast
import configparser
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "graft_lightning"
FILES = sorted(PACKAGE.rglob("*.py"))

LAYERS = {
    "refusals": -1,
    "ranges": -1,
    "allocator": 0,
    "types": 0,
    "statistics": 0,
    "durable": 0,
    "shipped": 0,
    "sealed": 0,
    "lettering": 0,
    "identity": 0,
    "runs": 1,
    "tensors": 1,
    "checkpoints": 2,
    "processes": 1,
    "shuffles": 2,
    "rejection": 3,
    "inversion": 4,
    "domains": 5,
    "modules": 6,
    "datamodules": 6,
    "callbacks": 7,
    "reports": 8,
    "cli": 9,
    "api": 10,
    "__main__": 10,
}
CORE = {"processes", "rejection", "inversion"}
LIGHTNING = {"lightning", "lightning_fabric", "pytorch_lightning"}
HEAVY = {"diffusers", "matplotlib", "peft", "rdkit", "sklearn", "transformers"}


class Import(NamedTuple):
    """One imported module: where, what, and whether it is loaded when the importing file is."""

    where: str
    module: tuple[str, ...]
    eager: bool


def imports(file: Path) -> Iterator[Import]:
    """Every import of a file, relative ones resolved; in functions and under TYPE_CHECKING they are not eager."""
    package = file.relative_to(ROOT).parent.parts

    def visit(node: ast.AST, eager: bool) -> Iterator[Import]:
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = [*base, *(node.module.split(".") if node.module else ())]
            # `from graft_lightning.domains import digits` names a module by its last part
            names = [".".join([*stem, alias.name]) for alias in node.names]
        for name in names:
            yield Import(f"{file.relative_to(ROOT)}:{node.lineno}", tuple(name.split(".")), eager)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            eager = False
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            eager = False
        for child in ast.iter_child_nodes(node):
            yield from visit(child, eager)

    yield from visit(ast.parse(file.read_text()), eager=True)


def layer_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def offences(files: list[Path], offends) -> list[str]:
    """`where imports what` for each import of our own package for which `offends(file, module parts)` holds."""
    return [
        f"{found.where} imports {'.'.join(found.module)}"
        for file in files
        for found in imports(file)
        if found.module[0] == "graft_lightning" and len(found.module) > 1 and offends(file, found.module[1:])
    ]


def loaded_by(statement: str, packages: set[str], after: str = "pass") -> set[str]:
    """Those of `packages` that `statement` loads, in an interpreter of its own, beyond what `after` has loaded."""
    code = f"""
import sys
{after}
before = set(sys.modules)
{statement}
print(*({packages!r} & set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def modules_of(name: str) -> list[str]:
    """Dotted names of everything importable below `graft_lightning.<name>`."""
    return [
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for file in FILES
        if layer_of(file) == name
    ]


def test_every_file_belongs_to_a_layer():
    known = LAYERS.keys() | {"__init__"}
    assert {layer_of(file) for file in FILES} <= known, "give the new module a layer in LAYERS, or move it into one"


def test_every_folder_is_a_package():
    assert [str(file.parent) for file in FILES if not (file.parent / "__init__.py").exists()] == []


def test_imports_run_downwards():
    def upwards(file: Path, module: tuple[str, ...]) -> bool:
        here, there = layer_of(file), module[0]
        return there in LAYERS and here != there and LAYERS[there] >= LAYERS.get(here, 0)

    assert offences(FILES, upwards) == []


def test_domains_share_only_their_base():
    def foreign(file: Path, module: tuple[str, ...]) -> bool:
        here = file.relative_to(PACKAGE / "domains").parts[0].removesuffix(".py")
        return module[0] == "domains" and len(module) > 1 and module[1] not in {here, "base"}

    assert offences([file for file in FILES if layer_of(file) == "domains"], foreign) == []


DOMAINS = sorted(file.parent.name for file in PACKAGE.glob("domains/*/__init__.py"))
"""`base` among them, which is none."""


def test_nothing_but_a_domain_names_one():
    def names_one(file: Path, module: tuple[str, ...]) -> bool:
        return module[0] == "domains" and module[1:2] in {(name,) for name in DOMAINS if name != "base"}

    assert len(DOMAINS) > 2, "the domains are gone: this test would pass unseen"
    assert offences([file for file in FILES if layer_of(file) != "domains"], names_one) == []


def test_no_command_has_the_name_of_a_domain_in_its_code():
    """Names are found in texts too: choices of an argument, dotted paths that are imported later."""

    def texts(file: Path) -> Iterator[tuple[int, str]]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.lineno, node.value

    words = {name for name in DOMAINS if name != "base"}
    found = [
        f"{file.relative_to(ROOT)}:{line}: {text!r}"
        for file in FILES
        if layer_of(file) in {"cli", "callbacks", "reports", "modules", "datamodules"}
        for line, text in texts(file)
        if text in words or any(f"domains.{name}" in text for name in words)
    ]
    assert found == []


LATE = {
    f"graft_lightning/cli/{name}.py"
    for name in ("cell", "export", "import_samples", "new", "picture", "pool", "rescore", "sweep")
}
"""Where ours is imported inside a function: commands whose --help answers at once."""


def test_our_own_package_is_imported_at_the_top():
    """An import inside a function hides a circle, or that a file does two things."""
    found = [found for file in FILES if str(file.relative_to(ROOT)) not in LATE for found in imports(file)]
    late = [found for found in found if found.module[0] == "graft_lightning" and not found.eager]
    assert [f"{found.where} imports {'.'.join(found.module)}" for found in late] == []


def test_no_module_imports_itself_through_others():
    """By what is imported when a file is loaded, its packages' __init__ apart."""
    names = {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in FILES}
    needs = {
        name: {
            known
            for found in imports(file)
            if found.eager
            for known in (".".join(found.module), ".".join(found.module[:-1]))
            if known in names and known != name and names[known].name != "__init__.py"
        }
        for name, file in names.items()
    }
    while free := [name for name, needed in needs.items() if not needed & needs.keys()]:
        for name in free:
            del needs[name]
    assert sorted(needs) == []


def test_the_mathematics_imports_no_lightning():
    found = [found for file in FILES if layer_of(file) in CORE for found in imports(file)]
    assert [f"{i.where} imports {i.module[0]}" for i in found if i.module[0] in LIGHTNING] == []


def test_the_mathematics_runs_without_lightning():
    core = [module for name in sorted(CORE) for module in modules_of(name)]
    assert len(core) >= len(CORE), "the packages of the mathematics are gone: this test would pass unseen"
    assert loaded_by(f"import {', '.join(core)}", LIGHTNING) == set()


def test_heavy_packages_are_imported_where_they_are_used():
    found = [found for file in FILES for found in imports(file)]
    assert [f"{i.where} imports {i.module[0]}" for i in found if i.eager and i.module[0] in HEAVY] == []


@pytest.mark.skipif(not modules_of("cli"), reason="there is no CLI")
def test_the_cli_starts_light():
    # lightning itself loads some of them (matplotlib through torchmetrics); the CLI may add none
    assert loaded_by("import graft_lightning.cli", HEAVY, after="import lightning.pytorch.cli") == set()


def test_the_package_imports_nothing():
    assert loaded_by("import graft_lightning", LIGHTNING | HEAVY | {"torch"}) == set()


def test_third_party_packages_are_declared():
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    lines = "\n".join([setup["options"]["install_requires"], *setup["options.extras_require"].values()])
    declared = {normalised(name) for name in re.findall(r"^\s*([A-Za-z][\w.-]*)", lines, flags=re.MULTILINE)}
    installed = packages_distributions()
    found = [found for file in FILES for found in imports(file)]
    missing = {
        f"{i.where} imports {i.module[0]}"
        for i in found
        if i.module[0] not in sys.stdlib_module_names | {"graft_lightning"}
        and not declared & {normalised(name) for name in installed.get(i.module[0], [i.module[0]])}
    }
    assert sorted(missing) == []


def normalised(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()
