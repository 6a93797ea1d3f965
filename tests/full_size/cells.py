"""The cells: each a published architecture, by the configurations that ship and the commands that users type.

A cell is a list of steps, each a process of its own: what is made first, then `plan`, then the commands. A layer over
the shipped file names what was made and how little is asked for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.full_size.sizes import MOLECULES, NCSNPP

Layer = dict[str, Any]
PROMPTS = ["a red cube on a blue table"]
HELD_OUT = ["two dogs"]
STEPS = 4
LAST = {"on": False}
"""Of `best`: one step from random weights beats nothing, and an export of the base would prove nothing."""
DDIM, EULER, INTERLEAVED = (
    f"graft_lightning.processes.{name}" for name in ("samplers.DDIM", "samplers.Euler", "interleaved.Interleaved")
)


@dataclass(frozen=True)
class Step:
    """One process.

    Attributes:
        name: "make ...", "plan", "fit", ...: by which a table lists it.
        module: what Python runs.
        arguments: of it.
        beside: a reward server, started before and stopped after: module arguments.
    """

    name: str
    module: str
    arguments: list[str]
    beside: tuple[str, ...] = ()


@dataclass(frozen=True)
class Setting:
    """Where and how a cell runs.

    Attributes:
        folder: of the cell.
        tiny: architectures cut down.
        accelerator: "cpu" or "gpu".
        molecules: an archive of xyz files.
    """

    folder: Path
    tiny: bool
    accelerator: str
    molecules: Path | None = None

    def layer(self, name: str, content: Layer) -> str:
        """Writes a layer of a configuration; returns the option that reads it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return f"--config={file}"

    def made(self, kind: str, name: str, dtype: str = "fp32") -> Step:
        """The step that makes a folder of the cell."""
        tiny = ["--tiny"] if self.tiny else []
        return Step(f"make {name}", "tests.full_size.make", [kind, str(self.folder / name), f"--dtype={dtype}", *tiny])


def ours(command: str, *arguments: str) -> Step:
    """A command of the package."""
    return Step(command, "graft_lightning", [command, *arguments])


def text_to_image(setting: Setting, name: str, dtype: str, side: int | None) -> list[Step]:
    """Prompts, pool, CLIPScore, P-GRAFT, evaluation; export and its proof by plain diffusers."""
    file = "sd3_pgraft" if name == "sd3" else "sd2_pgraft"
    config = [f"--config=experiments/text_to_image/{file}.yaml", _pipeline_layer(setting, name, dtype, side)]
    run = str(setting.folder / "run")
    device = f"--device={'cuda' if setting.accelerator == 'gpu' else 'cpu'}"
    return [
        setting.made(name, "pipeline", dtype),
        setting.made("clip", "clip"),
        ours("plan", *config),
        ours("fit", *config),
        ours("export", run, "--samples=1", "--no-verify", device),
        ours("verify", f"{run}/export", device),
    ]


def _pipeline_layer(setting: Setting, name: str, dtype: str, side: int | None) -> str:
    judge = {
        "class_path": "graft_lightning.domains.text_to_image.rewards.CLIPScore",
        "init_args": {"model": str(setting.folder / "clip"), "batch_size": 1},
    }
    sampler = {"class_path": EULER if name == "sd3" else DDIM, "init_args": {"steps": STEPS}}
    reference = {
        "model": str(setting.folder / "pipeline"),
        "dtype": dtype,
        "text_cache": str(setting.folder / "texts"),
        "sampler": sampler,
        "vae_batch_size": 1,
        **({"without": ["text_encoder_3", "tokenizer_3"]} if name == "sd3" else {}),
        **({"height": side, "width": side} if side and not setting.tiny else {}),
    }
    held_out = {"class_path": "Texts", "init_args": {"values": HELD_OUT}}
    data = {
        "conditions": {"class_path": "Texts", "init_args": {"values": PROMPTS}},
        "validation": held_out,
        "test": held_out,
        "acceptance": {"class_path": "TopK", "init_args": {"k": 1}},
        "drop_without_signal": False,  # random weights may give two images the same score
        "pool": str(setting.folder / "pool"),
        **_stream(1),
    }
    layer = {
        "data": {"init_args": data},
        "collect": {"reward": judge, "draws": 2, "keep": [0.25], "batch_size": 1},
        "evaluate": {"rewards": [judge], "baseline": False},
        "best": LAST,
        # one step shall have an effect beyond the rounding of bfloat16, or its proof could not see it
        "model": {"init_args": {"reference": {"init_args": reference}, "optimizer": {"init_args": {"lr": 0.01}}}},
        "trainer": _trainer(
            setting, accumulate_grad_batches=1, precision="bf16-mixed" if dtype == "bf16" else "32-true"
        ),
    }
    return setting.layer("layer", layer)


def judged_apart(setting: Setting, name: str = "sd2") -> list[Step]:
    """CLIP-FlanT5-XL in bfloat16 in a process of its own scores what the pipeline of the cell ``name`` has drawn."""
    pipeline = Setting(setting.folder.parent / name, setting.tiny, setting.accelerator)
    _pipeline_layer(pipeline, name, "fp32", None)
    port = 8731
    judge = {
        "class_path": "graft_lightning.rejection.rewards.RemoteReward",
        "init_args": {"url": f"http://127.0.0.1:{port}", "timeout": 1800.0, "name": "CLIPFlanT5Score"},
    }
    layer = {
        "collect": {"reward": judge},
        "evaluate": {"rewards": [], "baseline": False},
        "trainer": {"logger": {"init_args": {"save_dir": str(setting.folder)}}, "limit_val_batches": 0},
    }
    config = ["--config=experiments/text_to_image/sd2_pgraft.yaml", f"--config={pipeline.folder / 'layer.yaml'}"]
    config += [setting.layer("layer", layer)]
    served = ("tests.full_size.served", str(setting.folder / "clip_flant5"), f"--port={port}")
    fit = ours("fit", *config)
    return [setting.made("clip_flant5", "clip_flant5"), Step(fit.name, fit.module, fit.arguments, served)]


def images(setting: Setting) -> list[Step]:
    """A flow of NCSN++ is trained a step; a flow with random weights is inverted, corrected and sampled."""
    width = NCSNPP["tiny" if setting.tiny else "full"]
    examples = {
        "class_path": "ImageFiles",
        "init_args": {"path": str(setting.folder / "images"), "size": width["size"], "held_out": 1},
    }
    own = {"held_out": 1, "part": "held_out"}
    held_out = {"class_path": "ImageFiles", "init_args": {**examples["init_args"], **own}}
    features = {"class_path": "graft_lightning.domains.digits.DigitFeatures"}
    distance = {
        "class_path": "graft_lightning.domains.images.FrechetDistance",
        "init_args": {"real": examples, "features": features},
    }
    network = {"class_path": "NCSNpp", "init_args": width}
    # a short step at the noise, which is inverted in a few evaluations: random weights contract as badly as they like
    grid = {"class_path": "graft_lightning.processes.grids.Explicit", "init_args": {"values": [0.0, 0.999, 1.0]}}
    sampler = {"class_path": EULER, "init_args": {"steps": 2, "grid": grid}}
    shared = {**_stream(1), "steps_per_epoch": 3, "eval_draws": 2, "predict_draws": 1}
    flow = {"weights": str(setting.folder / "flow"), "network": network, "sampler": sampler}
    evaluate = {"metrics": [distance], "measures": []}
    # the first step finds memory that nothing has been in, and takes less of it than those that follow
    once = {"trainer": _trainer(setting, accumulate_grad_batches=1, max_steps=3), "best": LAST}
    training = {
        "best": LAST,
        "trainer": _trainer(setting, "flow_run", accumulate_grad_batches=1, max_steps=3),
        "data": {"init_args": {"examples": examples, **shared}},
        "evaluate": evaluate,
        "model": {"init_args": {"reference": {"init_args": {**flow, "weights": str(setting.folder / "trained")}}}},
    }
    narrow = width if setting.tiny else {**width, "width": width["width"] // 2}
    small = {"network": {"class_path": "NCSNpp", "init_args": narrow}, "sampler": sampler}
    noise = {
        "class_path": "HeldOutNoise",
        "init_args": {"examples": held_out, "count": 1, "noises": 2, "likelihood": False},
    }
    correcting = once | {
        "data": {"init_args": {"examples": examples, "count": 2, "pool": str(setting.folder / "pool"), **shared}},
        "evaluate": {**evaluate, "measures": [noise]},
        "model": {"init_args": {"flow": {"init_args": flow}, "reference": {"init_args": small}}},
    }
    files = "experiments/images/celebahq"
    start = {"class_path": "Invert", "init_args": {"start_level": 1, "batch_size": 1}}
    trains = [f"--config={files}_flow.yaml", setting.layer("flow_layer", training)]
    correcting["trainer"] = {**correcting["trainer"], "callbacks": [start, *_callbacks()]}
    corrects = [f"--config={files}_noise_corrector.yaml", setting.layer("corrector_layer", correcting)]
    return [
        setting.made("images", "images"),
        setting.made("ncsnpp", "flow"),
        _named("plan flow", ours("plan", *trains)),
        _named("fit flow", ours("fit", *trains)),
        _named("plan corrector", ours("plan", *corrects)),
        _named("fit corrector", ours("fit", *corrects)),
        _named(
            "predict corrected", ours("predict", *corrects, f"--ckpt_path={setting.folder}/run/checkpoints/last.ckpt")
        ),
    ]


def ddpm(setting: Setting) -> list[Step]:
    """A published DDPM of pictures: pool, P-GRAFT, evaluation; what it ends with as a pipeline of diffusers."""
    pipeline = str(setting.folder / "pipeline")
    sampler = {"class_path": DDIM, "init_args": {"steps": STEPS, "eta": 1.0, "clip_sample": 1.0}}
    saves = {"class_path": "SaveReference", "init_args": {"path": str(setting.folder / "tuned")}}
    data = {
        "acceptance": {"class_path": "TopK", "init_args": {"k": 1}},
        "pool": str(setting.folder / "pool"),
        **_stream(1),
        "steps_per_epoch": 3,
        "predict_draws": 1,
    }
    layer = {
        "data": {"init_args": data},
        "collect": {"draws": 2, "keep": [0.25], "batch_size": 1},
        "evaluate": {"baseline": False, "metrics": []},
        "best": LAST,
        "model": {"init_args": {"reference": {"init_args": {"model": pipeline, "sampler": sampler}}}},
        # the first step finds memory that nothing has been in, and takes less of it than those that follow
        "trainer": _trainer(setting, precision="32-true", callbacks=[*_callbacks(), saves], max_steps=3),
    }
    config = ["--config=experiments/images/ddpm_pgraft.yaml", setting.layer("layer", layer)]
    tuned = f"--model.reference.model={setting.folder / 'tuned'}"
    return [
        setting.made("ddpm", "pipeline"),
        ours("plan", *config),
        ours("fit", *config),
        _named("predict from what was saved", ours("predict", *config, tuned)),
    ]


QM7_ATOMS = 23
"""Of its largest molecule."""


def molecules(setting: Setting) -> list[Step]:
    """EDM's network is trained on the molecules of QM7, and fine-tuned a step by P-GRAFT."""
    size = MOLECULES["tiny" if setting.tiny else "full"] | {"max_atoms": QM7_ATOMS}
    examples = {
        "class_path": "MoleculeFiles",
        "init_args": {"paths": [str(setting.molecules)], "max_atoms": QM7_ATOMS, "part": "all", "exclusions": None},
    }
    counts = {"class_path": "AtomCounts", "init_args": {"groups": 2, "histogram": {15: 1, 18: 1}}}
    shared = {"validation": counts, **_stream(64), "steps_per_epoch": 3, "eval_draws": 2, "eval_batch_size": 8}
    sampler = {"class_path": INTERLEAVED, "init_args": {"steps": 20}}
    reference = {"weights": str(setting.folder / "egnn" / "reference.safetensors"), **size, "sampler": sampler}
    trained = {**reference, "weights": str(setting.folder / "trained.safetensors")}
    metrics = [{"class_path": "graft_lightning.domains.molecules.metrics.Validity"}]
    once = {"trainer": _trainer(setting, max_steps=3), "best": LAST}
    training = {
        "best": LAST,
        "trainer": _trainer(setting, "training_run", max_steps=8),
        "data": {"init_args": {"examples": examples, **shared, "steps_per_epoch": 8}},
        "evaluate": {"metrics": metrics},
        "model": {"init_args": {"reference": {"init_args": trained}}},
    }
    tuning = once | {
        "data": {"init_args": {**shared, "conditions": counts, "pool": str(setting.folder / "pool")}},
        "collect": {"draws": 8, "batch_size": 16, "keep": [0.1]},
        "evaluate": {"metrics": metrics, "baseline": False},
        "model": {"init_args": {"reference": {"init_args": reference}}},
    }
    # random molecules are not stable: nothing would be accepted by the file's own rule
    tuning["data"]["init_args"]["acceptance"] = {"class_path": "TopK", "init_args": {"k": 2}}
    tuning["data"]["init_args"]["drop_without_signal"] = False
    files = "experiments/molecules/qm9"
    trains = [f"--config={files}_pretrain.yaml", setting.layer("training", training)]
    tunes = [f"--config={files}_pgraft.yaml", setting.layer("tuning", tuning)]
    return [
        setting.made("egnn", "egnn"),
        _named("plan training", ours("plan", *trains)),
        _named("fit training", ours("fit", *trains)),
        _named("plan P-GRAFT", ours("plan", *tunes)),
        _named("fit P-GRAFT", ours("fit", *tunes)),
    ]


def _named(name: str, step: Step) -> Step:
    return Step(name, step.module, step.arguments, step.beside)


def _stream(batch_size: int) -> Layer:
    return {"batch_size": batch_size, "steps_per_epoch": 1, "eval_draws": 1, "eval_batch_size": 1}


def _trainer(setting: Setting, run: str = "run", **settings: Any) -> Layer:
    folder = {"save_dir": str(setting.folder), "name": run, "version": ""}
    logger = {"class_path": "TensorBoardLogger", "init_args": folder}
    return {
        "max_steps": 1,
        "log_every_n_steps": 1,
        "accelerator": setting.accelerator,
        "devices": 1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "check_val_every_n_epoch": 1,
        "logger": logger,
        **settings,
    }


def _callbacks() -> list[Layer]:
    kept = {"save_last": True, "save_on_train_epoch_end": True}
    return [{"class_path": "ModelCheckpoint", "init_args": kept}, {"class_path": "WriteSamples"}]


CELLS: dict[str, tuple[str, Callable[[Setting], list[Step]]]] = {
    "sd2": ("Stable Diffusion 2, fp32, 512 x 512", lambda setting: text_to_image(setting, "sd2", "fp32", None)),
    "clip_flant5": ("CLIP-FlanT5-XL, bf16, beside Stable Diffusion 2", judged_apart),
    "images": ("NCSN++ of 65 M and 16 M, fp32, 256 x 256", images),
    "ddpm": ("DDPM of 114 M, fp32, 256 x 256", ddpm),
    "molecules": ("EGNN of QM9, fp32, molecules of QM7", molecules),
    "sdxl": ("Stable Diffusion XL, bf16, 512 x 512", lambda setting: text_to_image(setting, "sdxl", "bf16", 512)),
    "sd3": (
        "Stable Diffusion 3 without T5, bf16, 512 x 512",
        lambda setting: text_to_image(setting, "sd3", "bf16", 512),
    ),
}
"""By name: what it is, and its steps. Whoever needs what another has made stands after it."""
