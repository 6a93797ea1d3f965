"""What a terminal is told: our own messages, one line each, and of other libraries what matters here."""

import logging
import sys
import warnings
from typing import Any


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


def quieten() -> None:
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
        "LightningCLI's args parameter is intended.*",  # a command of ours may have a command of Lightning's inside
    ):
        warnings.filterwarnings("ignore", message=message)
