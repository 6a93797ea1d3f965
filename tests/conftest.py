"""What every test gets: one thread, no network, a fixed seed, and a process that nothing before it has changed."""

import gc
import multiprocessing.spawn
import os
import sys
from collections.abc import Iterator
from pathlib import Path

# Before torch and the Hugging Face packages are imported, and inherited by subprocesses.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["MPLBACKEND"] = "Agg"

import pytest
import torch
import torch.distributed as dist

from tests.affordable import REAL, made_affordable


def pytest_collection_finish() -> None:
    """What was imported stays: it need not be looked through again and again for what may go."""
    made_affordable()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(autouse=True)
def clean_process() -> Iterator[None]:
    """One torch thread, seed 0; afterwards no process group and the environment as it was.

    A live process group makes the next forked DDP test hang, and Lightning leaves MASTER_PORT, LOCAL_RANK and
    PL_GLOBAL_SEED in the environment. The seed is for network initialisation: everything else passes generators.
    """
    before = dict(os.environ)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    if dist.is_initialized():
        dist.destroy_process_group()
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn as users see them."""
    import matplotlib

    for where, name, value in REAL:
        monkeypatch.setattr(where, name, value)
    for name in ("figure.dpi", "savefig.dpi"):
        monkeypatch.setitem(matplotlib.rcParams, name, matplotlib.rcParamsDefault[name])


@pytest.fixture(scope="session")
def warm_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ``python`` that has torch, Lightning and diffusers already; what is tested it imports like any other."""
    if sys.platform != "linux":
        return Path(sys.executable)
    owner = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    client = Path(__file__).parent / "warm" / "client.py"
    script = tmp_path_factory.mktemp("warm") / "python"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -IS "{client}" {owner} "$@"\n')
    script.chmod(0o755)
    return script


@pytest.fixture
def warm(warm_python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that are started by ``sys.executable`` need not import the large libraries, which takes seconds."""
    monkeypatch.setattr(sys, "executable", str(warm_python))
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", os.fsencode(warm_python))


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real data named by GRAFT_TEST_DATA; tests that ask for it skip where it is unset."""
    folder = os.environ.get("GRAFT_TEST_DATA")
    if not folder:
        pytest.skip("GRAFT_TEST_DATA is unset: it names the folder of real data that this test reads")
    path = Path(folder)
    if not path.is_dir():
        raise FileNotFoundError(f"GRAFT_TEST_DATA={folder!r} is not a folder")
    return path
