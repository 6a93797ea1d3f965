"""``fit``, ``validate``, ``test``, ``predict`` and the commands of `GraftTrainer`: one LightningCLI."""

import os
import sys
from argparse import SUPPRESS
from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import Any

os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")

import lightning as L
import yaml
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException

# Whatever a YAML file may name by its bare class name is imported here; the domains that it names, later.
import graft_lightning.callbacks
import graft_lightning.datamodules
import graft_lightning.modules
import graft_lightning.processes.grids
import graft_lightning.processes.velocity
import graft_lightning.processes.weightings
import graft_lightning.rejection.acceptance
import graft_lightning.rejection.rewards  # noqa: F401
from graft_lightning import domains
from graft_lightning.allocator import keep_freed_memory
from graft_lightning.callbacks.collect import Collect
from graft_lightning.callbacks.evaluate import Evaluate
from graft_lightning.callbacks.files import WriteSamples
from graft_lightning.callbacks.keep_best import KeepBest
from graft_lightning.callbacks.memory import GiveBackMemory
from graft_lightning.callbacks.progress import with_plain_bar
from graft_lightning.callbacks.steer import Steer
from graft_lightning.callbacks.weights_summary import with_short_summary
from graft_lightning.checkpoints import refuse_address
from graft_lightning.cli.ending import tell_what_is_where
from graft_lightning.cli.options import refuse_options, refuse_precision
from graft_lightning.cli.parser import Mistaken, Parser, read_sources
from graft_lightning.cli.placement import WEIGHTS, place_fit, place_use, placed, require_last
from graft_lightning.cli.provenance import HYPER_PARAMETERS, Provenance
from graft_lightning.cli.quiet import quieten
from graft_lightning.cli.secrets import note_secrets, unresolved
from graft_lightning.cli.sentences import innermost, with_path
from graft_lightning.cli.settings import expand_home, nested, refuse_out_of_range
from graft_lightning.cli.telling import of_somebodys, telling
from graft_lightning.cli.trainer import GraftTrainer, bring_last_up_to_date, last_intact
from graft_lightning.cli.words import with_files, with_shipped, words_of
from graft_lightning.cli.written import of_text
from graft_lightning.durable import write_text
from graft_lightning.refusals import Refusal, SettingsError
from graft_lightning.rejection.undisturbed import begin_anew
from graft_lightning.reports.tuning import with_settings
from graft_lightning.runs import run_folder
from graft_lightning.shipped import importable

BLOCKS = ("data", "collect", "evaluate", "best", "steer", "model", "trainer")
"""What a configuration is made of, whatever the command."""


REFERENCE = ("seed_everything", "model", "data")
"""Settings that a pool keeps, for its samples to be decoded again; those of rewards, which may hold keys, are not."""


SECTIONS = {"collect": Collect, "evaluate": Evaluate, "best": KeepBest, "steer": Steer}
"""Callbacks whose arguments are blocks of a configuration."""

MISTAKES = (ValueError, TypeError, ImportError, AttributeError, RuntimeError)
"""What constructors raise where an argument is wrong."""

SEEDS = 2**32
"""So many seeds NumPy's generator has."""

LOADED = {"self", "model", "train_dataloaders", "val_dataloaders", "datamodule"}
"""Arguments of ``Trainer.fit`` that no configuration gives."""


class GraftCLI(LightningCLI):
    """Lightning's CLI with our blocks `collect`, `evaluate` and `best`, and with our commands.

    Args:
        arguments: of `LightningCLI` that differ from ours.

    Attributes:
        only_asked: the parser knows the command that is asked for alone.
    """

    only_asked = True

    def __init__(self, **arguments: Any) -> None:
        ours: dict[str, Any] = {
            "model_class": L.LightningModule,
            "datamodule_class": L.LightningDataModule,
            "subclass_mode_model": True,
            "subclass_mode_data": True,
            "trainer_class": GraftTrainer,
            "auto_configure_optimizers": False,
            "save_config_callback": Provenance,
            "parser_kwargs": {"parser_mode": "omegaconf"},
        }
        quieten()
        importable()
        given = ours | arguments
        words = words_of(given.get("args"))
        Parser.sections = {**SECTIONS, "trainer": given["trainer_class"]}
        Parser.declared = {
            "model": given["model_class"],
            "data": given["datamodule_class"],
            "seed_everything": bool | int,
        }
        asked = {name: skip for name, skip in self.subcommands().items() if name in words}
        if asked and self.only_asked:  # a parser takes a fifth of a second, and there is one for each command
            vars(self)["subcommands"] = lambda: asked
        if any(word.partition("=")[0].endswith("help") for word in words):
            domains.load_all()  # a page that lists classes lists all
        domains.load_named(with_files(words))
        Parser.twice = ""
        try:
            try:
                super().__init__(**given)
            except Mistaken:
                if not domains.unloaded():
                    raise
                domains.load_all()  # it may name what a domain imports from elsewhere; else the error lists all classes
                super().__init__(**given)
        except Mistaken as mistake:
            sys.stderr.write(f"error: {mistake.message}\n")
            raise SystemExit(2) from None

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's, and those of `GraftTrainer`."""
        ours = ("plan", "diagnose", "collect", "placebo", "tune")
        return {**LightningCLI.subcommands(), **{name: {"model", "datamodule"} for name in ours}}

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """A `Parser`."""
        parser = Parser(allow_abbrev=False, **{k: v for k, v in kwargs.items() if k != "allow_abbrev"})
        parser.add_argument(
            "-c", "--config", action="config", help="A YAML file; several are merged, the later one wins."
        )
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The blocks of a run beside data, model and trainer."""
        for name, kind in SECTIONS.items():
            parser.add_lightning_class_args(kind, name)

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        """Takes what a run's own ``config.yaml`` says, also of commands that have no use for some of it."""
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        taken = {action.dest for action in parser._actions}
        for name in signature(klass.fit).parameters.keys() - taken - LOADED:  # type: ignore[attr-defined]
            parser.add_argument(f"--{name}", default=None, help=SUPPRESS)
        return parser

    def _set_seed(self) -> None:
        """Refuses a seed that no generator takes.

        Raises:
            SettingsError: naming the key, its value, and what would be right.
        """
        seed = self._get(self.config, "seed_everything")
        if isinstance(seed, int) and not 0 <= seed < SEEDS:
            raise SettingsError(f"seed_everything={seed}; it must lie in [0, {SEEDS})")
        super()._set_seed()
        begin_anew()

    def before_instantiate_classes(self) -> None:
        """Holds settings against their ranges, and chooses the folder of the run before a logger opens it.

        Raises:
            SettingsError: naming the key, its value, and what would be right.
        """
        settings = nested(self.config[self.subcommand] if self.subcommand else self.config)
        refuse_out_of_range(settings, SECTIONS)
        if self.subcommand is None:
            return
        if "ckpt_path" not in self._subcommand_method_arguments[self.subcommand] and settings.get("ckpt_path"):
            raise SettingsError(
                f"ckpt_path={settings['ckpt_path']}, but {self.subcommand} looks at the reference, not at a "
                "checkpoint; leave it out"
            )
        config = expand_home(self.config[self.subcommand])
        plain = of_text(self._parser(self.subcommand).dump(config, skip_none=False))
        self.plain: dict[str, Any] = plain
        if not config["trainer"]["fast_dev_run"]:
            if self.subcommand == "fit":
                place_fit(config, plain)
            else:
                place_use(config, plain, self.subcommand)
        self.config_dump = placed(plain, config)  # which Lightning would make anew

    def instantiate_classes(self) -> None:
        """Builds everything; what a constructor refuses is a mistake in the configuration.

        Raises:
            SettingsError: with the constructor's own message.
        """
        settings = nested(self.config[self.subcommand] if self.subcommand else self.config)
        address = settings.get("ckpt_path")
        if address:
            refuse_address(str(address))
        try:
            super().instantiate_classes()
        except Refusal as error:
            raise SettingsError(with_path(str(error), settings)) from error
        except Exception as error:
            found = of_somebodys(error)
            if found is None and not isinstance(error, (*MISTAKES, MisconfigurationException)):
                raise
            raise SettingsError(with_path(innermost(str(error)) if found is None else found, settings)) from error
        refuse_precision(self.trainer)
        if self.subcommand == "fit":
            refuse_options(self.trainer, self.model, self.datamodule)

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        """Takes the newest intact checkpoint where ``last`` is damaged."""
        found = super()._prepare_subcommand_kwargs(subcommand)
        if found.get("ckpt_path") == "last":
            found["ckpt_path"] = last_intact(self.trainer) or "last"
        return found

    def after_fit(self) -> None:
        """Makes up for what was due at the very end, where the run that was resumed had been killed there."""
        bring_last_up_to_date(self.trainer)
        evaluate = next(c for c in self.trainer.callbacks if isinstance(c, Evaluate))  # type: ignore[attr-defined]
        if evaluate.owes(self.trainer, self.model):
            self.trainer.validate(self.model, datamodule=self.datamodule, ckpt_path=self.trainer.ckpt_path)

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Lightning's, with bar and summary of ours in place of its defaults, and a writer of what predict draws."""
        trainer = super().instantiate_trainer(**kwargs)
        named = str(self._get(self.config, "trainer.callbacks"))
        if "ProgressBar" not in named:
            with_plain_bar(trainer)
        if "ModelSummary" not in named:
            with_short_summary(trainer)
        callbacks: list[L.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        if self.subcommand == "predict" and not any(isinstance(c, BasePredictionWriter) for c in callbacks):
            callbacks.insert(0, WriteSamples())
        callbacks.append(GiveBackMemory())  # after the callbacks that collect and evaluate
        for callback in callbacks:
            if isinstance(callback, Collect) and self.subcommand is not None:
                callback.configuration = yaml.safe_dump(
                    unresolved({k: self.plain[k] for k in REFERENCE}), sort_keys=False
                )
            if isinstance(callback, Provenance):
                callback.plain = self.config_dump
        return trainer

    def _run_subcommand(self, subcommand: str) -> None:
        """Runs a command, and says what it has left where, and what comes next."""
        trainer: L.Trainer = self.trainer
        folder = Path(trainer.log_dir or trainer.default_root_dir)  # collective
        if subcommand in WEIGHTS and self.plain.get("ckpt_path") == "last":
            require_last(self.config[subcommand])
        marks = folder / HYPER_PARAMETERS if trainer.is_global_zero and subcommand != "fit" else None
        before = marks is None or marks.exists()
        super()._run_subcommand(subcommand)
        if marks is not None and not before:
            marks.unlink(missing_ok=True)  # a run's are those of its fit; loggers write them whatever is run
        tell_what_is_where(self, subcommand)

    def after_tune(self) -> None:
        """Writes the configuration with the settings that were chosen, ready for ``fit``."""
        trainer: Any = self.trainer
        found = trainer.tuned
        if found is None or found.point is None:
            return
        parser = self._parser("tune")
        config = of_text(parser.dump(self.config["tune"], skip_none=False))
        kept = {key: config[key] for key in ("seed_everything", *BLOCKS) if key in config}
        weightings = {
            name: {"class_path": "graft_lightning.processes.weightings.CappedInverseAlpha", "init_args": {"cap": cap}}
            for name, cap in trainer.caps.items()
        }
        path = run_folder(trainer) / "tuned.yaml"
        text = yaml.safe_dump(unresolved(with_settings(kept, found.point, weightings)), sort_keys=False)
        write_text(path, f"# Chosen by tune; fit --config {path}\n{text}")
        print(f"Written: {path}")

    def _parse_ckpt_path(self) -> None:
        """Leaves the configuration as it was written: hyper-parameters of a checkpoint never override it in silence."""


def run_lightning(args: Sequence[str] | None = None) -> GraftCLI:
    """Parses and runs a command of Lightning's kind.

    Raises:
        SystemExit: 2 on a bad configuration or bad input, 1 where something else goes wrong; with one message.
    """
    with telling():
        line = with_shipped(words_of(args))
        if args is None:
            sys.argv[1:] = line  # which Lightning starts its processes with
        read_sources(line)
        note_secrets(line)
        keep_freed_memory()
        return GraftCLI(
            save_config_kwargs={"overwrite": True},
            seed_everything_default=0,
            args=None if args is None else line,
        )
