"""Every writer of the package: found in its source, and each with a full disk, which leaves the old file as it was."""

import ast
import errno
import json
import os
import resource
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import graft_lightning
from graft_lightning import durable
from graft_lightning.callbacks.figures import log_sheet
from graft_lightning.checkpoints import DurableCheckpoints
from graft_lightning.cli.beginning import begin
from graft_lightning.cli.picturing import _write
from graft_lightning.cli.telling import told
from graft_lightning.cli.trainer import bring_last_up_to_date
from graft_lightning.domains.base.images import ImageReference
from graft_lightning.domains.base.ragged_files import stored
from graft_lightning.domains.images import ImageFlow
from graft_lightning.domains.layouts.layout import Layout
from graft_lightning.domains.layouts.lines import write_lines
from graft_lightning.domains.molecules.atoms import Molecule
from graft_lightning.domains.molecules.sdf import write_sdf
from graft_lightning.domains.molecules.xyz import write_xyz
from graft_lightning.domains.text_to_image.export import export
from graft_lightning.domains.text_to_image.rewards import CLIPFlanT5Score
from graft_lightning.rejection.pool.shard import Shard, write_shard
from graft_lightning.reports.charts import save_figure
from graft_lightning.reports.pool_samples import write_table
from graft_lightning.tensors import write_tensors
from tests.domains.base.test_ragged import BOXES, layouts
from tests.domains.images.test_flow import PLAIN
from tests.domains.text_to_image.conftest import model_folder, pipeline_folder  # noqa: F401
from tests.domains.text_to_image.export.conftest import draws, tuned_of  # noqa: F401 - fixtures
from tests.faults.counting import count
from tests.runs import launch

PACKAGE = Path(graft_lightning.__file__).parent
DURABLE = {"replacing", "replacing_folder"}
BLOCKS = {*DURABLE, "TemporaryDirectory"}

# ---- where files are written

CALLS = {"write_text", "write_bytes", "savefig", "save", "save_pretrained", "save_file", "save_lora_weights", "tofile"}
CALLS |= {"copyfile", "copytree", "memmap", "open_memmap", "save_torch_state_dict", "to_csv", "copy2"}

ELSEWHERE = {
    "callbacks/files.py:SaveReference.teardown": "Reference.save, which is durable",
    "checkpoints.py:_remembering": "the temporary file of save_checkpoint",
    "cli/cell_lock.py:CellLock._create": "a lock, of which nothing is read after its holder",
    "cli/chain.py:RunningChain._begin": "the log of a cell, which that writes itself",
    "domains/base/ragged_files.py:_lock": "a lock, empty",
    "domains/images/diffusion.py:ImageDiffusion.save": "DiffusersImages.save, which is durable",
    "domains/layouts/metrics/layoutnet_training.py:trained": "a lock, empty",
    "domains/text_to_image/export/write.py:write_merged": "the temporary folder of export",
    "domains/text_to_image/images.py:jpeg": "no file, but memory",
    "domains/text_to_image/rewards/clip_flant5_network.py:save_network": "the temporary folder of CLIPFlanT5Score.save",
    "rejection/pool/lock.py:locked": "a lock",
    "rejection/pool/lock.py:locked_if_free": "a lock",
    "rejection/pool/manifest.py:claim_folder": "a folder that is renamed",
    "reports/resident.py:_begin_anew": "a switch of the system, no file",
    "sealed.py:seal": "the temporary file of save_checkpoint",
}
"""Functions that write outside a durable block, and why they may."""


def modes(call: ast.Call) -> list[str]:
    given = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
    return [a.value for a in given if isinstance(a, ast.Constant) and isinstance(a.value, str) and len(a.value) <= 4]


def named(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")


def writes(call: ast.Call, imported: set[str]) -> bool:
    """Whether a call writes a file by other means than `durable`; its own functions go by bare names."""
    name = named(call)
    if name in ("open", "fdopen"):
        return any(set(mode) & set("wax+") and set(mode) <= set("rwxabt+") for mode in modes(call))
    if name == "copy":
        return ast.unparse(call.func) == "shutil.copy"
    return name in CALLS - imported if isinstance(call.func, ast.Name) else name in CALLS


def calls(chosen, inside=lambda stack, call: True):
    """Functions of the package (file:qualified name) with a call that is chosen."""
    found = {}

    def visit(node, file, names, stack, imported):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                visit(child, file, [*names, child.name], [], imported)
                continue
            if isinstance(child, ast.Call) and chosen(child, imported) and inside(stack, child):
                found.setdefault(f"{file}:{'.'.join(names)}", []).append(ast.unparse(child))
            visit(child, file, names, [*stack, child] if isinstance(child, ast.With) else stack, imported)

    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name == "durable.py":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        imported = {a.name for n in imports if str(n.module) == "graft_lightning.durable" for a in n.names}
        visit(tree, path.relative_to(PACKAGE).as_posix(), [], [], imported)
    return found


def within_a_block(stack, call):
    """Whether a call belongs to a durable block: one of them is around it, and it writes to what that yields."""
    for block in stack:
        if any(isinstance(item.context_expr, ast.Call) and named(item.context_expr) in BLOCKS for item in block.items):
            inner = {n.id for n in ast.walk(block) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
            return any(isinstance(n, ast.Name) and n.id in inner for n in ast.walk(call))
    return False


def test_nothing_is_written_by_other_means():
    found = calls(writes, lambda stack, call: not within_a_block(stack, call))
    assert found.keys() == ELSEWHERE.keys(), found


# ---- a full disk in each

NUMBERS = torch.Generator().manual_seed(0)
PIXELS = torch.rand(1, 3, 32, 32, generator=NUMBERS)
STATE = {"state_dict": {"w": torch.zeros(2000)}, "global_step": 1}


def page():
    boxes = np.full((40, 4), 0.3)
    return Layout(np.zeros(40, dtype=np.int64), boxes, "a page")


def water():
    return Molecule(("O", "H", "H"), np.array([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]), "water")


def figure(folder):
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(2, 2))
    drawn.subplots().plot([1, 2])
    return lambda: save_figure(drawn, folder / "a.png")


def picture(folder):
    from PIL import Image

    image = Image.fromarray((PIXELS[0].permute(1, 2, 0) * 255).byte().numpy())
    return lambda: _write(image, folder / "a.png")


def up_to_date(folder):
    older, newer = folder / "last.ckpt", folder / "step=2.ckpt"
    for time, file in enumerate((older, newer)):
        DurableCheckpoints().save_checkpoint(STATE, file)
        os.utime(file, (time, time))
    trainer = SimpleNamespace(ckpt_path=str(newer), is_global_zero=True)
    return lambda: bring_last_up_to_date(trainer)


def flow(folder):
    reference = ImageFlow(str(folder / "flow"), network=PLAIN)
    network = reference.build(pretrained=False)
    return lambda: reference.save(network, folder / "flow", {"steps": 1})


EXPERIMENT = PACKAGE.parent / "experiments/digits/pgraft.yaml"
SHEET = (PIXELS[0] * 255).byte()
ROWS = [{"condition": "a", "reward": 1.0, "file": "x" * 100}]
WRITERS = {
    "callbacks/figures.py:write_sheet": lambda f: (
        lambda: log_sheet(SimpleNamespace(loggers=[], global_step=0), "a", SHEET, f / "a.png")
    ),
    "checkpoints.py:DurableCheckpoints.save_checkpoint": lambda f: (
        lambda: DurableCheckpoints().save_checkpoint(STATE, f / "a.ckpt")
    ),
    "cli/beginning.py:begin": lambda f: lambda: begin(f / "mine", EXPERIMENT, "pgraft.yaml"),
    "cli/picturing.py:_write": picture,
    "cli/trainer.py:bring_last_up_to_date": up_to_date,
    "domains/base/images.py:ImageReference.write": lambda f: lambda: ImageReference.write(None, PIXELS, ["a"], f),
    "domains/base/ragged_files.py:_write": lambda f: lambda: stored(f, "pages", {"format": 1}, BOXES, layouts),
    "domains/images/network.py:DiffusersImages.save": flow,
    "domains/layouts/lines.py:write_lines": lambda f: lambda: write_lines(f / "a.jsonl", [page()]),
    "domains/molecules/sdf.py:write_sdf": lambda f: lambda: write_sdf(f / "a.sdf", [water()]),
    "domains/molecules/xyz.py:write_xyz": lambda f: lambda: write_xyz(f / "a.xyz", [water()]),
    "rejection/pool/shard.py:_commit": lambda f: (
        lambda: write_shard(f / "a.safetensors", Shard(0, 0, 2), {"x": torch.zeros(2, 500)}, "part")
    ),
    "reports/charts.py:save_figure": figure,
    "reports/pool_samples.py:write_table": lambda f: lambda: write_table(ROWS, f / "a.csv"),
    "tensors.py:write_tensors": lambda f: lambda: write_tensors(f / "a.safetensors", {"w": torch.zeros(2000)}),
    "durable.py:write_text": lambda f: lambda: durable.write_text(f / "a.json", "x" * 9000),
    "durable.py:append_line": lambda f: lambda: durable.append_line(f / "a.jsonl", json.dumps("x" * 9000)),
}
"""By the function that opens the file: what makes the writing of one, in a folder."""

ONCE = {"cli/beginning.py:begin", "domains/base/ragged_files.py:_write", "cli/trainer.py:bring_last_up_to_date"}
"""What is there is not written again."""

WITH_FIXTURES = {
    "domains/text_to_image/export/lora.py:write_lora",
    "domains/text_to_image/export/write.py:export",
    "domains/text_to_image/export/write.py:_shown",
    "domains/text_to_image/rewards/clip_flant5.py:CLIPFlanT5Score.save",
}


def test_every_writer_is_tried():
    found = calls(lambda call, imported: isinstance(call.func, ast.Name) and call.func.id in DURABLE)
    tried = {name for name in WRITERS if not name.startswith("durable.py")} | WITH_FIXTURES
    assert found.keys() == tried


def contents(folder):
    files = (file for file in folder.rglob("*") if file.is_file() and file.suffix != ".lock")
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def full(monkeypatch, write):
    """The error of a writer whose disk is full, as its file is made durable."""

    def refuse(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(durable.os, "fsync", refuse)
        with pytest.raises(OSError, match="No space left") as raised:
            write()
    return raised.value


def said_under_a_limit(write, limit: int) -> tuple[int, str]:
    """Exit status and message of a writer that may write no more than so many bytes a file; in a forked process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code, message = 97, "nothing was refused"
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            write()
        except BaseException as error:
            message, code = told(error)
        finally:
            os.write(writing, message.encode())
            os._exit(code)
    os.close(writing)
    with open(reading, "rb") as file:
        message = file.read().decode()
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), message


def holds(monkeypatch, folder, write, limits=(30, 600)):
    """Holds that a full disk leaves a folder as it is, and is told by the name of a file in it."""
    before = contents(folder)
    error = full(monkeypatch, write)
    message, code = told(error)
    assert code == 2, repr(error)
    assert "No space left" in message
    assert str(folder) in message
    assert ".tmp" not in message
    assert contents(folder) == before
    for limit in limits:
        code, message = said_under_a_limit(write, limit)
        assert code == 2, message
        assert os.strerror(errno.EFBIG) in message, message
        assert str(folder) in message
        assert ".tmp" not in message
        assert contents(folder) == before
        count("full disks", "the old file stays")
    count("full disks", "the old file stays")


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk(tmp_path, monkeypatch, writer):
    write = WRITERS[writer](tmp_path)
    if writer not in ONCE:
        write()
    small = "ragged" in writer or "molecules" in writer or "pool_samples" in writer
    holds(monkeypatch, tmp_path, write, (30,) if small else (30, 600))


@pytest.mark.slow
def test_a_full_disk_under_an_export(tmp_path, monkeypatch, tuned_of, draws):  # noqa: F811
    """The files themselves are whole or absent; that the export is not, `verify` says."""
    kinds = {"LoRA": {}, "full": {"lora": None}, "merged": {"handoff": 0.0, "guidance": "absorbed"}}
    for name, options in kinds.items():
        tuned, folder = tuned_of("sd15", **options), tmp_path / name
        for limit in (30, 3000, 30_000):
            code, message = said_under_a_limit(lambda to=folder, of=tuned: export(of, draws, to), limit)
            assert code == 2, message
            assert os.strerror(errno.EFBIG) in message, message
            assert str(folder) in message
            assert not [path for path in folder.rglob("*") if ".tmp" in path.name]
            assert not (folder / "verify.json").exists()
            count("full disks", "the old file stays")


@pytest.mark.slow
def test_a_full_disk_under_the_parts_of_a_judge(tmp_path, monkeypatch, model_folder):  # noqa: F811
    judge = CLIPFlanT5Score(model_folder("clip_flant5"), dtype="float32")
    judge.save(str(tmp_path / "judge"))
    holds(monkeypatch, tmp_path, lambda: judge.save(str(tmp_path / "judge")), (30, 9000))


def test_a_full_disk_under_the_configuration_of_a_run(tmp_path, monkeypatch, capfd):
    """Which Lightning would write in place."""
    changes = {"trainer.max_steps": 1, "trainer.limit_val_batches": 0, "evaluate.baseline": False}
    launch("fit", tmp_path, changes)
    before = (tmp_path / "run/config.yaml").read_bytes()
    replace = os.replace

    def refuse(temporary, path):
        if str(path).endswith("config.yaml"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(temporary, path)

    monkeypatch.setattr(durable.os, "replace", refuse)
    with pytest.raises(SystemExit) as leave:
        launch("fit", tmp_path, {**changes, "trainer.max_steps": 2}, "--ckpt_path=last")
    assert leave.value.code == 2
    said = capfd.readouterr().err
    assert f"error: {tmp_path / 'run/config.yaml'}: No space left on device" in said
    assert (tmp_path / "run/config.yaml").read_bytes() == before
    count("full disks", "the old file stays")
