"""A reward behind HTTP: this file alone, with numpy, is the whole server.

It imports nothing of its package, so that it can be copied into, or run from, another environment that has what the
reward needs::

    python server.py my_module:score --port 8000

where ``score(samples, conditions)`` gets a numpy array ``(batch, ...)``, or a dictionary of arrays, and a list of
texts, and returns one number (or None, or NaN: "cannot be judged") a sample.

A request is a POST of one JSON object, an answer is another::

    {"version": 1, "conditions": ["a cat", ...], "samples": ARRAY or {"fields": {"name": ARRAY, ...}}}
    {"version": 1, "scores": [0.5, null, ...]}
    {"version": 1, "error": "what went wrong"}          with status 400 (do not ask again) or 500 (may be asked again)

    ARRAY = {"dtype": "uint8", "shape": [2, 3, 512, 512], "data": base64 of the bytes, C order, little endian}

Images travel as ``(batch, channels, height, width)``, either float32 in [0, 1] or uint8 in [0, 255]. A GET answers
``{"version": 1, "identity": ...}``, a text that changes when the scores would.

A request may carry a header ``X-Request-Id``, the same whenever it is repeated: what is being computed for it, or was,
is then waited for, and not computed again. Every request is answered, also one that cannot be understood (400), is too
large (413) or does not arrive in time (408).
"""

import argparse
import base64
import contextlib
import hashlib
import importlib
import json
import math
import socket
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

VERSION = 1
Score = Callable[[Any, list[str]], Sequence[Any]]
LARGEST = 1 << 28
"""Bytes of a request."""
SLOWEST = 60.0
"""Seconds in which a request must have arrived."""
REMEMBERED = 64
"""Answers that are kept for requests that are repeated."""
REQUEST_ID = "X-Request-Id"
Answer = tuple[int, dict[str, Any]]
"""Status and content."""


class RewardServer(ThreadingHTTPServer):
    """Answers requests with ``score``, one at a time: a network on a GPU gains nothing from two callers at once.

    Args:
        score: the reward.
        host: the address to listen at; anything but the loopback is open to the network.
        port: 0 takes a free one.
        identity: a text that changes when the scores would.
        largest: bytes of a request.
        slowest: seconds in which it must have arrived.
    """

    daemon_threads = True

    def __init__(
        self,
        score: Score,
        host: str = "127.0.0.1",
        port: int = 8000,
        identity: str = "",
        largest: int = LARGEST,
        slowest: float = SLOWEST,
    ) -> None:
        super().__init__((host, port), _Handler)
        self.score = score
        self.identity = identity
        self.largest, self.slowest = largest, slowest
        self.turn = threading.Lock()
        self._answers: OrderedDict[str, Future[Answer]] = OrderedDict()
        self._known = threading.Lock()

    def answer(self, name: str, body: bytes) -> Answer:
        """The answer to a request; that of an earlier one of the same name, if it is known or being computed."""
        with self._known:
            found = self._answers.get(name) if name else None
            mine = found is None
            if found is None:
                found = Future()
                if name:
                    self._answers[name] = found
                while len(self._answers) > REMEMBERED:
                    self._answers.popitem(last=False)
        if mine:
            computed = self._computed(body)
            if computed[0] != 200 and name:
                with self._known:
                    self._answers.pop(name, None)  # what failed may be tried again
            found.set_result(computed)
        return found.result()

    def _computed(self, body: bytes) -> Answer:
        try:
            samples, conditions = unpack(json.loads(body))
        except Exception as error:  # whatever a request holds that is none
            return 400, {"error": f"{type(error).__name__}: {error}"}
        try:
            with self.turn:
                scores = [number(value) for value in self.score(samples, conditions)]
            if len(scores) != len(conditions):
                raise ValueError(f"{len(scores)} scores for {len(conditions)} samples")
        except (Exception, SystemExit) as error:  # whatever a reward raises is the caller's to see
            return 500, {"error": f"{type(error).__name__}: {error}"}
        return 200, {"scores": scores}

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: RewardServer

    def do_GET(self) -> None:
        self._reply(200, {"identity": self.server.identity})

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            return self._reply(411, {"error": f"Content-Length: {length!r} is no number of bytes"})
        if int(length) > self.server.largest:
            self.close_connection = True
            return self._reply(413, {"error": f"{length} bytes; a request has at most {self.server.largest}"})
        late = threading.Timer(self.server.slowest, self._shut)
        late.start()
        try:
            body = self.rfile.read(int(length))
        finally:
            late.cancel()
        if len(body) < int(length):
            self.close_connection = True
            return self._reply(408, {"error": f"{len(body)} of {length} bytes in {self.server.slowest:g} s"})
        status, content = self.server.answer(self.headers.get(REQUEST_ID, ""), body)
        self._reply(status, content)

    def _shut(self) -> None:
        """Ends the reading of a request that does not arrive; it can still be answered."""
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RD)

    def _reply(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps({"version": VERSION, **content}, allow_nan=False).encode()
        with contextlib.suppress(ConnectionError):  # who has asked may be gone
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the overridden argument
        """Says nothing: a line a request would bury what the reward prints."""


def unpack(request: dict[str, Any]) -> tuple[Any, list[str]]:
    """Samples and conditions of a request.

    Raises:
        ValueError: if the request does not follow the schema; says what is wrong.
    """
    if not isinstance(request, dict):
        raise ValueError(f"a {type(request).__name__}; a request is one JSON object")
    if request.get("version") != VERSION:
        raise ValueError(f"version {request.get('version')!r}; this server speaks version {VERSION}")
    conditions, packed = request["conditions"], request["samples"]
    arrays = {name: array(field) for name, field in packed.get("fields", {"": packed}).items()}
    for name, found in arrays.items():
        if len(found) != len(conditions):
            raise ValueError(f"{len(conditions)} conditions for {len(found)} samples{f' of {name!r}' if name else ''}")
    return (arrays if "fields" in packed else arrays[""]), conditions


def array(packed: dict[str, Any]) -> np.ndarray:
    """An array from its packed form."""
    dtype = np.dtype(packed["dtype"])
    if dtype.hasobject:
        raise ValueError(f"dtype {packed['dtype']!r} does not travel")
    data = base64.b64decode(packed["data"], validate=True)
    return np.frombuffer(data, dtype.newbyteorder("<")).reshape(packed["shape"]).astype(dtype)


def number(value: Any) -> float | None:
    """A score as JSON knows it: None for what cannot be judged."""
    if value is None or math.isnan(value):
        return None
    if math.isinf(value):
        raise ValueError("an infinite score does not travel; return a large finite one")
    return float(value)


def source_digest(module: ModuleType) -> str:
    """A digest of the texts of a module and of what it has imported from its own folder; "" where it has no file."""
    if not (own := getattr(module, "__file__", None)):
        return ""
    folder = Path(own).resolve().parent
    files = {Path(found).resolve() for one in [*sys.modules.values()] if (found := getattr(one, "__file__", None))}
    near = {
        file
        for file in files
        if file.is_relative_to(folder) and file.suffix == ".py" and file != Path(__file__).resolve()
    }
    texts = hashlib.blake2b(digest_size=8)
    for file in sorted(file for file in near if "site-packages" not in file.relative_to(folder).parts):
        texts.update(f"{file.relative_to(folder)}\0".encode() + file.read_bytes())
    return texts.hexdigest()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves the reward named on the command line until interrupted."""
    parser = argparse.ArgumentParser(description="Serve a reward over HTTP.")
    parser.add_argument("score", help="module:function")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    told = "a text that changes when the scores would; by default a digest of the module's file and its neighbours"
    parser.add_argument("--identity", default="", help=told)
    chosen = parser.parse_args(arguments)
    name, _, function = chosen.score.partition(":")
    sys.path.insert(0, "")
    module = importlib.import_module(name)
    identity = chosen.identity or source_digest(module)
    server = RewardServer(getattr(module, function), chosen.host, chosen.port, identity)
    print(f"{chosen.score} at {server.url}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
