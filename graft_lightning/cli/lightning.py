"""``fit``, ``validate``, ``test``, ``predict``, ``plan``, ``diagnose``: one LightningCLI."""

import difflib
import logging
import os
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NoReturn

os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")

import lightning as L
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

# Whatever a YAML file may name by its bare class name is imported here, and with the domains, which are found.
import graft_lightning.callbacks
import graft_lightning.datamodules
import graft_lightning.modules
import graft_lightning.processes.grids
import graft_lightning.processes.velocity
import graft_lightning.processes.weightings
import graft_lightning.rejection.acceptance  # noqa: F401
from graft_lightning import domains
from graft_lightning.callbacks.collect import Collect
from graft_lightning.callbacks.evaluate import Evaluate
from graft_lightning.checkpoints import refuse_address
from graft_lightning.cli.allocator import keep_freed_memory
from graft_lightning.cli.secrets import SaveConfig, note_secrets
from graft_lightning.cli.sentences import innermost, read_yaml, sentence, with_path
from graft_lightning.cli.settings import expand_home, refuse_out_of_range
from graft_lightning.cli.telling import telling
from graft_lightning.cli.trainer import GraftTrainer, last_intact
from graft_lightning.refusals import Refusal, SettingsError


class Parser(LightningArgumentParser):
    """A parser whose errors fit on the screen and suggest what was meant.

    Attributes:
        sources: the configurations as they were written; in them an error finds the whole path of its key.
    """

    sources: ClassVar[list[Any]] = []

    def error(self, message: str, *args: Any, **kwargs: Any) -> NoReturn:
        """Prints the message, without the usage text, and exits with 2."""
        if kwargs.get("ex") is not None or args:
            message = message or str(args[0] if args else kwargs["ex"])
        parsers = [self, *(p for a in self._actions for p in (getattr(a, "_name_parser_map", None) or {}).values())]
        known = [action.dest for parser in parsers for action in parser._actions]
        told = sentence(message, Parser.sources)
        for wrong in re.findall(r"[Oo]ption '([\w.]+)'|[Uu]nrecognized arguments: --([\w.]+)", message):
            name = next(part for part in wrong if part)
            close = difflib.get_close_matches(name, known, n=1) or difflib.get_close_matches(
                name.rsplit(".", 1)[-1], [k.rsplit(".", 1)[-1] for k in known], n=1
            )
            if close and "did you mean" not in told:
                told += f"; did you mean '{close[0]}'?"
        sys.stderr.write(f"error: {told}\n")
        raise SystemExit(2)


class GraftCLI(LightningCLI):
    """Lightning's CLI with our blocks `collect` and `evaluate`, and with our commands.

    Args:
        arguments: of `LightningCLI` that differ from ours.
    """

    def __init__(self, **arguments: Any) -> None:
        ours: dict[str, Any] = {
            "model_class": L.LightningModule,
            "datamodule_class": L.LightningDataModule,
            "subclass_mode_model": True,
            "subclass_mode_data": True,
            "trainer_class": GraftTrainer,
            "auto_configure_optimizers": False,
            "parser_kwargs": {"parser_mode": "omegaconf"},
        }
        _quieten()
        domains.load_all()
        super().__init__(**ours | arguments)

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's, plan and diagnose."""
        return {**LightningCLI.subcommands(), "plan": {"model", "datamodule"}, "diagnose": {"model", "datamodule"}}

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """A `Parser`."""
        parser = Parser(allow_abbrev=False, **{k: v for k, v in kwargs.items() if k != "allow_abbrev"})
        parser.add_argument(
            "-c", "--config", action="config", help="A YAML file; several are merged, the later one wins."
        )
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The blocks of a run beside data, model and trainer."""
        parser.add_lightning_class_args(Collect, "collect")
        parser.add_lightning_class_args(Evaluate, "evaluate")

    def instantiate_classes(self) -> None:
        """Builds everything; what a constructor refuses is a mistake in the configuration.

        Raises:
            SettingsError: with the constructor's own message.
        """
        settings = self.config[self.subcommand] if self.subcommand else self.config
        expand_home(settings)
        refuse_out_of_range(settings, {"collect": Collect, "evaluate": Evaluate})
        address = settings.get("ckpt_path")
        if address:
            refuse_address(str(address))
        try:
            super().instantiate_classes()
        except Refusal as error:
            raise SettingsError(with_path(str(error), settings)) from error
        except (ValueError, TypeError, ImportError, AttributeError, RuntimeError) as error:
            raise SettingsError(with_path(innermost(str(error)), settings)) from error

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        """Takes the newest intact checkpoint where ``last`` is damaged."""
        found = super()._prepare_subcommand_kwargs(subcommand)
        if found.get("ckpt_path") == "last":
            found["ckpt_path"] = last_intact(self.trainer) or "last"
        return found

    def after_fit(self) -> None:
        """Makes up for the last validation, where the run that was resumed had been killed inside it."""
        evaluate = next(c for c in self.trainer.callbacks if isinstance(c, Evaluate))  # type: ignore[attr-defined]
        if evaluate.owes(self.trainer, self.model):
            self.trainer.validate(self.model, datamodule=self.datamodule, ckpt_path=self.trainer.ckpt_path)

    def _parse_ckpt_path(self) -> None:
        """Leaves the configuration as it was written: hyper-parameters of a checkpoint never override it in silence."""


def run_lightning(args: Sequence[str] | None = None) -> GraftCLI:
    """Parses and runs a command of Lightning's kind.

    Raises:
        SystemExit: 2 on a bad configuration or bad input, 1 where something else goes wrong; with one message.
    """
    with telling():
        line = list(sys.argv[1:] if args is None else args)
        _read_sources(line)
        note_secrets(line)
        keep_freed_memory()
        return GraftCLI(
            save_config_callback=SaveConfig,
            save_config_kwargs={"overwrite": True},
            seed_everything_default=0,
            args=None if args is None else list(args),
        )


def _read_sources(args: Sequence[str]) -> None:
    """Reads the configurations that a command line names, for errors to find their keys in; refuses files of many runs.

    Raises:
        SettingsError: if a file cannot be read as text, is none of YAML, or describes many runs; says what that is for.
    """
    Parser.sources = []
    for name in args:
        file = Path(name.removeprefix("--config="))
        if file.suffix not in (".yaml", ".yml") or not file.is_file():
            continue
        found = read_yaml(file)
        if isinstance(found, dict) and {"cells", "chains"} <= found.keys():
            raise SettingsError(f"{file} describes many runs: python -m graft_lightning sweep {file}")
        Parser.sources.append(found)


class _CurrentStandardError(logging.StreamHandler):
    """Writes to what standard error is now: who runs a command in this process may send it elsewhere."""

    @property
    def stream(self) -> Any:
        """Standard error."""
        return sys.stderr

    @stream.setter
    def stream(self, value: Any) -> None:
        """Nothing is bound."""


def _no_advertisement(record: logging.LogRecord) -> bool:
    return "\N{ELECTRIC LIGHT BULB}" not in record.getMessage()


def _quieten() -> None:
    """Our own messages at INFO, one line each; Lightning's advertisements and known harmless warnings away."""
    root = logging.getLogger("graft_lightning")
    if not root.handlers:
        handler = _CurrentStandardError()
        handler.setFormatter(logging.Formatter("%(message)s"))
        root.addHandler(handler)
        root.setLevel(logging.INFO)
        root.propagate = False
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        for bound in [h for h in logging.getLogger(name).handlers if type(h) is logging.StreamHandler]:
            logging.getLogger(name).removeHandler(bound)
            logging.getLogger(name).addHandler(_CurrentStandardError())
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.trainer.setup"):
        logging.getLogger(name).addFilter(_no_advertisement)  # added once, however often it is asked for
    for message in (
        ".*does not have many workers.*",
        ".*treespec.*",
        ".*overrides the configure_model callback.*",
        ".*LeafSpec.*",
        ".*smaller than the logging interval.*",
        ".*Couldn't infer the batch indices.*",
    ):
        warnings.filterwarnings("ignore", message=message)
