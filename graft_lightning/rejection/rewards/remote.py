"""A reward in another process or environment, asked over HTTP."""

import base64
import contextlib
import http.client
import json
import re
import socket
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

import torch
from tensordict import TensorDictBase
from torch import Tensor

from graft_lightning.ranges import Natural, NonNegative, Positive
from graft_lightning.refusals import Refusal, SettingsError
from graft_lightning.rejection.reward import Reward
from graft_lightning.rejection.rewards.server import LARGEST, REQUEST_ID, VERSION

_ASK_AGAIN = {408, 425, 429}


class RemoteRewardError(Refusal, RuntimeError):
    """A reward server that cannot be reached, refuses, or breaks the schema."""


class RemoteReward(Reward):
    """Asks a server (`graft_lightning.rejection.rewards.server`, which also states the schema).

    Lets a reward's dependencies live in an environment of their own. What is lost on the way is asked for again, after
    ``backoff``, 2 ``backoff``, 4 ``backoff``, ... seconds; a request that the server refuses is not.

    Args:
        url: http or https; ``user:password@`` before the host is sent, and never shown.
        batch_size: samples a request.
        timeout: seconds in which an answer must be whole. What takes longer is computed once all the same: a repetition
            waits for what the server is computing.
        retries: how often a failed request is repeated.
        backoff: seconds before the first repetition.
        quantise: send samples in [0, 1] as uint8, a quarter of the bytes; what scorers of images see anyway. A sample
            with a value that is not finite, which bytes cannot say, is not sent, and is worth NaN.
        name: the name of the column in pools and logs.
    """

    apart = True

    def __init__(
        self,
        url: str,
        batch_size: int = 32,
        timeout: Positive = 120.0,
        retries: Natural = 4,
        backoff: NonNegative = 0.5,
        quantise: bool = False,
        name: str = "RemoteReward",
    ) -> None:
        self.shown = refuse_address(url)
        self.url = url
        self._batch_size = batch_size
        self.quantise = quantise
        self._timeout, self._retries, self._backoff = timeout, retries, backoff
        self._name = name

    def __call__(self, samples: Any, conditions: Sequence[str]) -> Tensor:
        rows = finite_rows(samples) if self.quantise else list(range(len(conditions)))
        scores = torch.full((len(conditions),), torch.nan)
        for start in range(0, len(rows), self._batch_size):
            part = rows[start : start + self._batch_size]
            scores[part] = torch.tensor(self._score(samples[part], [conditions[row] for row in part]))
        return scores

    @property
    def name(self) -> str:
        return self._name

    def evidence(self) -> str:
        """The identity that the server declares."""
        return str(self._ask(None).get("identity", ""))

    def _score(self, samples: Any, conditions: list[str]) -> list[float]:
        request = {"version": VERSION, "conditions": conditions, "samples": packed(samples, self.quantise)}
        scores = self._ask(json.dumps(request).encode()).get("scores")
        if not isinstance(scores, list) or len(scores) != len(conditions):
            raise RemoteRewardError(f"{self.shown} answered {str(scores)[:80]!r}, expected {len(conditions)} scores")
        try:
            return [float("nan") if value is None else float(value) for value in scores]
        except (TypeError, ValueError):
            raise RemoteRewardError(f"{self.shown} answered {str(scores)[:80]!r}, expected numbers or null") from None

    def _ask(self, body: bytes | None) -> dict[str, Any]:
        """The answer to a POST, or without a body to a GET; all attempts carry the same request id."""
        name, problem = uuid.uuid4().hex, ""
        for attempt in range(self._retries + 1):
            if attempt:
                time.sleep(self._backoff * 2 ** (attempt - 1))
            try:
                status, answer = exchange(self.url, body, {REQUEST_ID: name}, self._timeout)
            except (OSError, http.client.HTTPException) as error:
                problem = f"{type(error).__name__}: {error}"
                continue
            if status == 200:
                return self._checked(answer)
            problem = f"status {status}, {_message(answer)}"
            if status < 500 and status not in _ASK_AGAIN:
                raise RemoteRewardError(f"{self.shown} refused the request: {problem}")
        raise RemoteRewardError(
            f"{self.shown} failed {self._retries + 1} times, last with {problem}; is the reward server running, "
            f"and is timeout = {self._timeout:g} s enough for {self._batch_size} samples?"
        )

    def _checked(self, body: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(body)
        except ValueError as error:
            raise RemoteRewardError(f"{self.shown} answered {body[:80]!r}, expected a JSON object") from error
        version = answer.get("version") if isinstance(answer, dict) else None
        if version != VERSION:
            raise RemoteRewardError(f"{self.shown} speaks version {version!r} of the schema, this reward {VERSION}")
        return answer


def refuse_address(url: str) -> str:
    """The address as messages show it: without a password.

    Raises:
        ValueError: if it cannot be asked.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none
        usable = False
    if not usable:
        shown = re.sub(r"//[^/@]*@", "//", url)
        raise ValueError(f"url: {shown!r} is not an http or https address, such as http://127.0.0.1:8000")
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def exchange(url: str, body: bytes | None, headers: Mapping[str, str], timeout: float) -> tuple[int, bytes]:
    """Status and body of an answer that is whole within ``timeout`` seconds, however slowly it arrives.

    Raises:
        OSError: if there is none in that time, or it is larger than `LARGEST` bytes.
        http.client.HTTPException: if it is none of HTTP.
    """
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=timeout)
    expired = threading.Event()

    def end() -> None:
        expired.set()
        with contextlib.suppress(OSError, AttributeError):
            opened.shutdown(socket.SHUT_RDWR)

    began = time.monotonic()
    clock = threading.Timer(timeout, end)
    try:
        connection.connect()
        opened = connection.sock
        clock.interval = max(0.0, timeout - (time.monotonic() - began))
        clock.start()
        target = parts._replace(scheme="", netloc="", fragment="", path=parts.path or "/").geturl()
        kept = {"Content-Type": "application/json", "Connection": "close", **headers}
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            kept["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        connection.request("GET" if body is None else "POST", target, body, kept)
        reply = connection.getresponse()
        answer = reply.read(LARGEST + 1)
    except (OSError, http.client.HTTPException):
        if expired.is_set():
            raise TimeoutError(f"no whole answer in {timeout:g} s") from None
        raise
    finally:
        clock.cancel()
        connection.close()
    if expired.is_set():
        raise TimeoutError(f"no whole answer in {timeout:g} s")
    if len(answer) > LARGEST:
        raise OSError(f"an answer of more than {LARGEST} bytes")
    return reply.status, answer


def finite_rows(samples: Any) -> list[int]:
    """The rows of samples that bytes can stand for: those whose every value is finite.

    Raises:
        SettingsError: if values of such a row are outside [0, 1] by more than half a byte's step.
    """
    leaves = samples.values(True, True) if isinstance(samples, TensorDictBase) else [torch.as_tensor(samples)]
    floats = [leaf.detach().flatten(1).float() for leaf in leaves if leaf.is_floating_point()]
    finite = torch.ones(len(samples), dtype=torch.bool)
    for leaf in floats:
        finite &= leaf.isfinite().all(1).cpu()
    for values in (leaf[finite.to(leaf.device)] for leaf in floats):
        low, high = map(float, values.aminmax()) if values.numel() else (0.0, 1.0)
        if low < -0.5 / 255 or high > 1 + 0.5 / 255:
            raise SettingsError(
                f"quantise=True is for samples in [0, 1], and these reach from {low:.4g} to {high:.4g}; set it to false"
            )
    return finite.nonzero().flatten().tolist()


def packed(samples: Any, quantise: bool = False) -> dict[str, Any]:
    """Samples in the form that travels, see `graft_lightning.rejection.rewards.server`.

    Raises:
        TypeError: if they are neither a tensor nor a TensorDict.
    """
    if isinstance(samples, TensorDictBase):
        flat = samples.flatten_keys(".")
        return {"fields": {name: _array(flat[name], quantise) for name in sorted(flat.keys())}}
    if isinstance(samples, Tensor):
        return _array(samples, quantise)
    raise TypeError(f"samples: a {type(samples).__name__} does not travel; only tensors and TensorDicts do")


def _array(values: Tensor, quantise: bool) -> dict[str, Any]:
    values = values.detach().cpu()
    if values.is_floating_point():
        values = (values * 255).round().clamp(0, 255).to(torch.uint8) if quantise else values.float()
    array = values.contiguous().numpy()
    array = array.astype(array.dtype.newbyteorder("<"))
    return {
        "dtype": array.dtype.name,
        "shape": list(array.shape),
        "data": base64.b64encode(array.tobytes()).decode(),
    }


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace") or "without a message"
