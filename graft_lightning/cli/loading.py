"""What a fit left behind, as a module to sample from."""

from pathlib import Path

import torch
from lightning.pytorch.utilities.seed import isolate_rng

from graft_lightning.cli.exporting import built, load
from graft_lightning.modules.sampled import SampledModule
from graft_lightning.runs import folder_of, newest_checkpoint
from graft_lightning.types import SettingsError


def open_run(
    run: Path | str,
    checkpoint: Path | str | None = None,
    device: torch.device | str = "cpu",
    module: SampledModule | None = None,
) -> SampledModule:
    """The module of a run with the weights of a checkpoint, in evaluation mode: ready for `sample`.

    Classes that the run's configuration names are imported: open runs that you trust. Of the checkpoint nothing but
    tensors and plain values is read.

    Args:
        run: the run's folder; or one of its checkpoints, which lies in it or below it.
        checkpoint: another than the newest of the folder.
        device: where it will be sampled.
        module: where a script built the module, so that no configuration was written: the same module, built again.

    Raises:
        FileNotFoundError: if the run lacks a checkpoint, or its configuration where no module is given.
        SettingsError: if two checkpoints are given, or one that is not this module's; says in what they differ.

    Example:
        >>> from graft_lightning.api import open_run
        >>> module = open_run("runs/demo/pgraft/checkpoints/last.ckpt")  # doctest: +SKIP
    """
    path = Path(run).expanduser()
    if path.suffix == ".ckpt":
        if checkpoint is not None:
            raise SettingsError(f"run={path} is a checkpoint already; checkpoint={checkpoint} is another")
        path, checkpoint = folder_of(path) or path.parent, path
    if not path.is_dir() or (checkpoint is not None and not Path(checkpoint).exists()):
        raise FileNotFoundError(f"{checkpoint or path} is absent; `fit` leaves a folder, and checkpoints below it")
    with isolate_rng():  # a run begins by seeding everything; the random numbers of who opens it go on as they were
        opened = built(path)[0] if module is None else module
        load(opened, newest_checkpoint(path) if checkpoint is None else Path(checkpoint), path)
    found: SampledModule = opened.to(device).eval()
    return found
