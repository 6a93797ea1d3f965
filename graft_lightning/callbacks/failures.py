"""An error of one process reaches the others as its own message, within seconds, whatever they are waiting in."""

import contextlib
import json
import os
import sys
import threading
import time
from typing import Any

import lightning as L
import torch.distributed as dist

KEY, SEEN = "graft_lightning/failure", "graft_lightning/failure_seen"
LOOK = 0.5
"""Seconds between two looks at whether another process has failed."""
HEARD = 5.0
"""Seconds that a process which failed waits for the others to have heard of it."""
JOINED = 2.0
"""Seconds that a process waits for its watching to end."""
GRACE = 3.0
"""Seconds after which one that has heard ends: the one that failed goes first, and a launcher tells of that one."""


class TellOthers(L.Callback):
    """Watches for a failure of another process of the run, says it, and ends; tells the others of its own.

    A process that waits for others in a collective call cannot be woken. Without this it ends when the connection
    breaks, minutes later, with an error about that. The processes talk through the store by which they have found each
    other.
    """

    def __init__(self) -> None:
        self._store: Any = None
        self._rank, self._world = 0, 1
        self._over: Any = None  # an event, which could not be handed to processes that are spawned
        self._watcher: threading.Thread | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if self._store is not None or trainer.world_size < 2 or not dist.is_initialized():
            return
        store = dist.distributed_c10d._get_default_store()
        self._store = store.clone() if hasattr(store, "clone") else store
        self._rank, self._world = trainer.global_rank, trainer.world_size
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True, name="watch other processes")
        self._watcher.start()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._end()
        self._store = None

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Tells the others what went wrong here, and waits until they have heard it."""
        store, self._store = self._store, None
        self._end()
        if store is None:
            return
        name = "" if isinstance(exception, ValueError) else f"{type(exception).__name__}: "
        with contextlib.suppress(RuntimeError):
            if store.check([KEY]):  # what broke here is what broke there
                time.sleep(GRACE)
                return
            store.set(KEY, json.dumps([self._rank, f"{name}{exception}"]))
            until = time.monotonic() + HEARD
            while int(store.add(SEEN, 0)) < self._world - 1 and time.monotonic() < until:
                time.sleep(LOOK / 5)

    def _end(self) -> None:
        if self._over is not None:
            self._over.set()
        if self._watcher is not None:
            # A thread that asks the store while the interpreter ends takes the process down with it.
            self._watcher.join(JOINED)
            self._watcher = None

    def _watch(self) -> None:
        store, over = self._store, self._over
        while not over.wait(LOOK):
            try:
                if not store.check([KEY]):
                    continue
                rank, message = json.loads(store.get(KEY))
                store.add(SEEN, 1)
            except (RuntimeError, ValueError):  # the run is over, and the store with it
                return
            if rank == self._rank:
                return
            sys.stderr.write(f"error: process {rank} of {self._world} failed: {message}\n")
            sys.stderr.flush()
            if not over.wait(GRACE):
                os._exit(2)
            return
