"""A run's model, built again from its folder and handed to what its reference's domain offers for export."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from graft_lightning import domains
from graft_lightning.checkpoints import read_checkpoint
from graft_lightning.cli.lightning import GraftCLI
from graft_lightning.cli.written import read_yaml
from graft_lightning.datamodules.evaluation import draws_of
from graft_lightning.domains.base import Texts, listed
from graft_lightning.rejection.pool import PoolError
from graft_lightning.runs import CONFIG, newest_checkpoint, run_in
from graft_lightning.types import SettingsError

REFUSALS = (PoolError, SettingsError, OSError)
"""Bad input: told in one message, without a traceback."""

KEPT = ("seed_everything", "model", "data", "collect", "evaluate")
"""Keys of a run's configuration that are needed to build its model."""


def export_run(
    run: Path,
    checkpoint: Path | None = None,
    out: Path | None = None,
    samples: int = 4,
    merge: bool | None = None,
    device: str = "cpu",
) -> Path:
    """Exports a run.

    Args:
        run: its folder, with its configuration and a checkpoint.
        checkpoint: the newest below the run by default.
        out: ``export`` in the run's folder by default.
        samples: that the proof will draw again.
        merge: write a whole model with merged weights too; by default where it makes every step.
        device: where the samples are drawn.

    Returns:
        The folder of the export.

    Raises:
        FileNotFoundError: if the run lacks its configuration or a checkpoint.
        SettingsError: if the run's model is none that can be exported.
    """
    if samples < 1:
        raise SettingsError(f"samples={samples}; it must be at least 1")
    module, data = built(run)
    reference = type(getattr(module, "reference", None))
    exporter = domains.offered_beside(reference, "export")
    if not getattr(module, "collects", False) or exporter is None:
        raise SettingsError(
            f"{run} holds a {type(module).__name__} of a {reference.__name__}; exported are PGraft and Graft of the "
            f"references of {', '.join(domains.offering('export'))}"
        )
    load(module, checkpoint or newest_checkpoint(run), run)
    module.to(device).eval()
    tuned = exporter.Tuned(
        module.reference,
        module.opened(),
        module.sampling_denoiser(),
        module.state_index,
        module.handoff_level,
        module.reverse,
        module.guidance,
        module.lora,
        module.method,
        module.trained_steps,
    )
    folder = out or run / "export"
    exporter.export(tuned, _draws(data, samples), folder, run, merge)
    return folder


def built(run: Path) -> tuple[Any, Any]:
    """Module and data of a run, from its own config.yaml."""
    file = run / CONFIG
    if not file.is_file():
        raise FileNotFoundError(f"{file} is absent; `export` takes the folder of a run, where `fit` leaves it")
    cli = cli_of(read_yaml(file))
    return cli.model, cli.datamodule


def cli_of(config: Mapping[str, Any], overrides: Sequence[str] = (), **trainer: Any) -> GraftCLI:
    """Module, data and trainer of a configuration, built; nothing is run.

    Args:
        config: of a run; what its trainer was is left out.
        overrides: options as `fit` takes them.
        **trainer: arguments of the trainer; one process on a CPU by default.
    """
    kept = {key: config[key] for key in KEPT if key in config}
    quiet = {"logger": False, "accelerator": "cpu", "devices": 1, "enable_checkpointing": False}
    kept["trainer"] = {**quiet, "enable_model_summary": False, **trainer}
    with tempfile.TemporaryDirectory() as folder:
        cleaned = Path(folder) / "config.yaml"
        cleaned.write_text(yaml.safe_dump(kept, sort_keys=False), encoding="utf-8")
        return GraftCLI(save_config_callback=None, run=False, args=[f"--config={cleaned}", *overrides])


def load(module: Any, checkpoint: Path, run: Path | None = None) -> None:
    """Builds a module's networks and gives them the weights of a checkpoint, of which nothing but tensors is read.

    Args:
        module: not built yet.
        checkpoint: the file.
        run: folder of the run that it has to be of; one of any, by default.

    Raises:
        FileNotFoundError: if it is absent.
        DamagedFile: if its bytes are not those that were written, or cannot be read; names the file.
        SettingsError: if it is of another run, sharded, none of Lightning's, or does not fit the module; names the
            file, and what is wrong.
    """
    state = read_checkpoint(checkpoint)
    own, found_run = None if run is None else run_in(run), state.get("run")
    if own is not None and found_run not in (None, own):
        raise SettingsError(
            f"{checkpoint} is of another fit ({found_run}) than {run} ({own}); name the folder of its own run"
        )
    module.configure_model()
    module.on_load_checkpoint(state)
    try:
        found = module.load_state_dict(state["state_dict"], strict=module.strict_loading)
    except RuntimeError as error:
        raise SettingsError(f"{checkpoint} does not fit this {type(module).__name__}: {error}") from None
    except SettingsError as error:
        raise SettingsError(str(error).replace("the checkpoint", str(checkpoint), 1)) from None
    if found.unexpected_keys:
        raise SettingsError(f"{checkpoint} holds {found.unexpected_keys[0]}, which this run's model lacks")


def _draws(data: Any, samples: int) -> Any:
    """The first draws of the first test conditions (validation's, else training's), with the seeds of `test`."""
    conditions = data.test or data.validation or data.conditions
    texts = listed(conditions)[:samples]
    return draws_of(Texts(texts), 1, data.seed, "test")
