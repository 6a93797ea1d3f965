"""The classes that configurations call by their bare names."""

import inspect
import sys

import lightning.pytorch.callbacks
import lightning.pytorch.loggers

import graft_lightning.cli.lightning  # noqa: F401 - imports whatever a configuration may name so
from graft_lightning import domains

domains.load_all()

BY_NAME = {
    name: found
    for module in [lightning.pytorch.callbacks, lightning.pytorch.loggers, *sys.modules.values()]
    if module.__name__.startswith(("graft_lightning", "lightning.pytorch.callbacks", "lightning.pytorch.loggers"))
    for name, found in inspect.getmembers(module, inspect.isclass)
    if found.__module__.startswith(("graft_lightning", "lightning.pytorch"))
}
