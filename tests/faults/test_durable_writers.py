"""Every file that is kept is written by `graft_lightning.durable`: no other code opens one to write it in its place."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DURABLE = {"replacing", "replacing_folder"}
NOT_KEPT = {
    "checkpoints.py": "is given the temporary file by its caller",
    "cli/chain.py": "what a cell prints, as it prints it",
    "cli/exporting.py": "in a temporary folder",
    "domains/base/ragged_files.py": "in a folder that is renamed once it is complete; and a lock",
    "domains/layouts/metrics/layoutnet_training.py": "a lock",
    "domains/text_to_image/export/write.py": "is given the temporary folder by its caller",
    "domains/text_to_image/rewards/clip_flant5.py": "a folder for others, which its user names and looks at",
    "domains/text_to_image/rewards/clip_flant5_network.py": "part of that folder",
    "domains/text_to_image/source.py": "in a temporary folder",
    "durable.py": "is what writes",
    "rejection/pool/manifest.py": "in a folder that is renamed once it is complete",
    "rejection/pool/lock.py": "a lock",
    "reports/resident.py": "a switch of the kernel",
    "sealed.py": "is given the temporary file by its caller",
}
"""Files with another reason to write, below graft_lightning."""


def writes(call: ast.Call) -> bool:
    """Whether a call writes to a file, as far as its name tells."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    method = isinstance(call.func, ast.Attribute)
    if name == "open":
        modes = [*call.args[0 if method else 1 :], *(k.value for k in call.keywords if k.arg == "mode")]
        return any(
            isinstance(m, ast.Constant) and isinstance(m.value, str) and set(m.value) & set("wax+") for m in modes
        )
    if name in ("write_text", "write_bytes"):
        return method
    return name in ("save_pretrained", "save_file", "savefig") or ast.unparse(call.func) in ("np.save", "torch.save")


def in_place(tree: ast.Module) -> list[int]:
    """The lines of calls that write, but for those inside a block of `durable`."""
    found: list[int] = []

    def look(node: ast.AST, durable: bool) -> None:
        if isinstance(node, ast.With):
            durable = durable or any(
                isinstance(item.context_expr, ast.Call) and getattr(item.context_expr.func, "id", "") in DURABLE
                for item in node.items
            )
        if isinstance(node, ast.Call) and not durable and writes(node):
            found.append(node.lineno)
        for child in ast.iter_child_nodes(node):
            look(child, durable)

    look(tree, False)
    return found


FILES = sorted((ROOT / "graft_lightning").rglob("*.py"))


def test_nothing_is_written_in_its_place():
    found = {str(file.relative_to(ROOT / "graft_lightning")): in_place(ast.parse(file.read_text())) for file in FILES}
    assert {name: lines for name, lines in found.items() if lines and name not in NOT_KEPT} == {}
    assert [name for name in NOT_KEPT if not found.get(name)] == [], "no longer writes: take it from the list"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("Path(a).write_text(b)", [1]),
        ("write_text(a, b)", []),
        ("open(a)", []),
        ("a.open('rb')", []),
        ("a.open('ab')", [1]),
        ("open(a, mode='x')", [1]),
        ("with replacing(a) as b, open(b, 'x') as c:\n    c.write(d)", []),
        ("with other(a) as b:\n    np.save(b, c)", [2]),
    ],
)
def test_what_is_found(text, lines):
    assert in_place(ast.parse(text)) == lines
