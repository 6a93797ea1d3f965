"""``export``: a run's fine-tuned model for plain diffusers."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

KEPT = ("seed_everything", "model", "data", "collect", "evaluate")
"""Keys of a run's config.yaml that are needed to build its model."""


def run_export(args: Sequence[str]) -> None:
    """Writes a run's fine-tuned model for plain diffusers, with hand-off and model card, and verifies it there.

    Raises:
        SystemExit: 1 if plain diffusers draws other images than the run, 2 if nothing can be exported.
    """
    parser = argparse.ArgumentParser(prog="python -m graft_lightning export", description=run_export.__doc__)
    parser.add_argument("run", type=Path, help="folder of the run, with config.yaml and a checkpoint")
    parser.add_argument("--ckpt_path", type=Path, help="the checkpoint; the newest below the run by default")
    parser.add_argument("--out", type=Path, help="folder of the export; `export` in the run's folder by default")
    parser.add_argument("--samples", type=int, default=4, help="images that `verify` will draw again")
    parser.add_argument("--device", default="cpu", help="where those are drawn")
    parser.add_argument(
        "--no-verify", dest="verify", action="store_false", help="leave out `verify`, which takes as long as sampling"
    )
    merged = parser.add_mutually_exclusive_group()
    merged.add_argument("--merge", action="store_true", default=None, help="write a whole pipeline with merged weights")
    merged.add_argument("--no-merge", dest="merge", action="store_false", help="write none, even for GRAFT")
    options = parser.parse_args(list(args))
    from graft_lightning.cli.verify import run_verify
    from graft_lightning.rejection.pool import PoolError
    from graft_lightning.types import SettingsError

    try:
        out = export_run(options.run, options.ckpt_path, options.out, options.samples, options.merge, options.device)
    except (PoolError, SettingsError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None
    print(f"export: {out}\nprove it again: python -m graft_lightning verify {out}", flush=True)
    if options.verify:
        run_verify([str(out), f"--device={options.device}"])


def export_run(
    run: Path,
    checkpoint: Path | None = None,
    out: Path | None = None,
    samples: int = 4,
    merge: bool | None = None,
    device: str = "cpu",
) -> Path:
    """Exports a run. Arguments as in `run_export`. Returns the folder of the export.

    Raises:
        FileNotFoundError: if the run lacks its configuration or a checkpoint.
        SettingsError: if the run's model is none that can be exported.
    """
    from graft_lightning.cli.sweep import newest_checkpoint
    from graft_lightning.domains.text_to_image import DiffusersReference
    from graft_lightning.domains.text_to_image.export import Tuned, export
    from graft_lightning.modules.graft import PGraft
    from graft_lightning.types import SettingsError

    if samples < 1:
        raise SettingsError(f"samples={samples}; it must be at least 1")
    module, data = _built(run)
    if not isinstance(module, PGraft) or not isinstance(module.reference, DiffusersReference):
        reference = type(getattr(module, "reference", None)).__name__
        raise SettingsError(
            f"{run} holds a {type(module).__name__} of a {reference}; exported are PGraft and Graft of a "
            "DiffusersReference"
        )
    _load(module, checkpoint or newest_checkpoint(run))
    module.to(device).eval()
    tuned = Tuned(
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
    export(tuned, _draws(data, samples), folder, run, merge)
    return folder


def _built(run: Path) -> tuple[Any, Any]:
    """Module and data of a run, from its own config.yaml."""
    import yaml

    from graft_lightning.cli.lightning import GraftCLI

    file = run / "config.yaml"
    if not file.is_file():
        raise FileNotFoundError(f"{file} is absent; `export` takes the folder of a run, where `fit` leaves it")
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    kept = {key: config[key] for key in KEPT if key in config}
    kept["trainer"] = {"logger": False, "accelerator": "cpu", "devices": 1, "enable_checkpointing": False}
    with tempfile.TemporaryDirectory() as folder:
        cleaned = Path(folder) / "config.yaml"
        cleaned.write_text(yaml.safe_dump(kept, sort_keys=False), encoding="utf-8")
        cli = GraftCLI(save_config_callback=None, run=False, args=[f"--config={cleaned}"])
    return cli.model, cli.datamodule


def _load(module: Any, checkpoint: Path) -> None:
    import torch

    from graft_lightning.types import SettingsError

    if checkpoint.is_dir():
        raise SettingsError(
            f"{checkpoint} is sharded; put it together first, or train with save_distributed_checkpoint=false"
        )
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    module.configure_model()
    module.on_load_checkpoint(state)
    found = module.load_state_dict(state["state_dict"], strict=module.strict_loading)
    if found.unexpected_keys:
        raise SettingsError(f"{checkpoint} holds {found.unexpected_keys[0]}, which this run's model lacks")


def _draws(data: Any, samples: int) -> Any:
    """The first draws of the first test conditions (validation's, else training's), with the seeds of `test`."""
    from graft_lightning.datamodules.evaluation import draws_of
    from graft_lightning.domains.base import Texts

    conditions = data.test or data.validation or data.conditions
    texts = conditions.texts()[:samples]
    return draws_of(Texts(texts), 1, data.seed, "test")
