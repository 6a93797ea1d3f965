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
"""

import argparse
import base64
import importlib
import json
import math
import sys
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

VERSION = 1
Score = Callable[[Any, list[str]], Sequence[Any]]


class RewardServer(ThreadingHTTPServer):
    """Answers requests with ``score``, one at a time: a network on a GPU gains nothing from two callers at once.

    Args:
        score: the reward.
        host: the address to listen at; anything but the loopback is open to the network.
        port: 0 takes a free one.
        identity: a text that changes when the scores would.
    """

    daemon_threads = True

    def __init__(self, score: Score, host: str = "127.0.0.1", port: int = 8000, identity: str = "") -> None:
        super().__init__((host, port), _Handler)
        self.score = score
        self.identity = identity
        self.turn = threading.Lock()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self.server_address[0]!s}:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: RewardServer

    def do_GET(self) -> None:
        self._reply(200, {"identity": self.server.identity})

    def do_POST(self) -> None:
        try:
            samples, conditions = unpack(json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0)))))
        except (ValueError, KeyError, TypeError) as error:
            return self._reply(400, {"error": f"{type(error).__name__}: {error}"})
        try:
            with self.server.turn:
                scores = [number(value) for value in self.server.score(samples, conditions)]
            if len(scores) != len(conditions):
                raise ValueError(f"{len(scores)} scores for {len(conditions)} samples")
        except Exception as error:  # whatever a reward raises is the caller's to see
            return self._reply(500, {"error": f"{type(error).__name__}: {error}"})
        self._reply(200, {"scores": scores})

    def _reply(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps({"version": VERSION, **content}, allow_nan=False).encode()
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


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves the reward named on the command line until interrupted."""
    parser = argparse.ArgumentParser(description="Serve a reward over HTTP.")
    parser.add_argument("score", help="module:function")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--identity", default="", help="a text that changes when the scores would")
    chosen = parser.parse_args(arguments)
    module, _, name = chosen.score.partition(":")
    sys.path.insert(0, "")
    server = RewardServer(getattr(importlib.import_module(module), name), chosen.host, chosen.port, chosen.identity)
    print(f"{chosen.score} at {server.url}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
