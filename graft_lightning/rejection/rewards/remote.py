"""A reward in another process or environment, asked over HTTP."""

import base64
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import torch
from tensordict import TensorDictBase
from torch import Tensor

from graft_lightning.rejection.reward import Reward
from graft_lightning.rejection.rewards.server import VERSION

# Reward servers stand beside the run: a proxy from the environment would be asked for http://127.0.0.1 in vain.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_ASK_AGAIN = {408, 425, 429}


class RemoteRewardError(RuntimeError):
    """A reward server that cannot be reached, refuses, or breaks the schema."""


class RemoteReward(Reward):
    """Asks a server (`graft_lightning.rejection.rewards.server`, which also states the schema).

    Lets a reward's dependencies live in an environment of their own. What is lost on the way is asked for again, after
    ``backoff``, 2 ``backoff``, 4 ``backoff``, ... seconds; a request that the server refuses is not.

    Args:
        url: http or https.
        batch_size: samples a request.
        timeout: seconds to wait for an answer.
        retries: how often a failed request is repeated.
        backoff: seconds before the first repetition.
        quantise: send samples in [0, 1] as uint8, a quarter of the bytes; what scorers of images see anyway.
        name: the name of the column in pools and logs.
    """

    def __init__(
        self,
        url: str,
        batch_size: int = 32,
        timeout: float = 120.0,
        retries: int = 4,
        backoff: float = 0.5,
        quantise: bool = False,
        name: str = "RemoteReward",
    ) -> None:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
            raise ValueError(f"url: {url!r} is not an http or https address, such as http://127.0.0.1:8000")
        self.url = url
        self._batch_size = batch_size
        self.quantise = quantise
        self._timeout, self._retries, self._backoff = timeout, retries, backoff
        self._name = name

    def __call__(self, samples: Any, conditions: Sequence[str]) -> Tensor:
        scores: list[float] = []
        for start in range(0, len(conditions), self._batch_size):
            part = slice(start, start + self._batch_size)
            scores.extend(self._score(samples[part], list(conditions[part])))
        return torch.tensor(scores, dtype=torch.float32)

    @property
    def name(self) -> str:
        return self._name

    def evidence(self) -> str:
        """The identity that the server declares."""
        return str(self._ask(urllib.request.Request(self.url)).get("identity", ""))

    def _score(self, samples: Any, conditions: list[str]) -> list[float]:
        request = {"version": VERSION, "conditions": conditions, "samples": packed(samples, self.quantise)}
        answer = self._ask(
            urllib.request.Request(
                self.url, json.dumps(request).encode(), {"Content-Type": "application/json"}, method="POST"
            )
        )
        scores = answer.get("scores")
        if not isinstance(scores, list) or len(scores) != len(conditions):
            raise RemoteRewardError(f"{self.url} answered {str(scores)[:80]!r}, expected {len(conditions)} scores")
        return [float("nan") if value is None else float(value) for value in scores]

    def _ask(self, request: urllib.request.Request) -> dict[str, Any]:
        for attempt in range(self._retries + 1):
            if attempt:
                time.sleep(self._backoff * 2 ** (attempt - 1))
            try:
                with _OPENER.open(request, timeout=self._timeout) as reply:
                    return self._checked(reply.read())
            except urllib.error.HTTPError as error:
                problem = f"status {error.code}, {_message(error)}"
                if error.code < 500 and error.code not in _ASK_AGAIN:
                    raise RemoteRewardError(f"{self.url} refused the request: {problem}") from error
            except (OSError, http.client.HTTPException) as error:
                problem = f"{type(error).__name__}: {getattr(error, 'reason', error)}"
        raise RemoteRewardError(
            f"{self.url} failed {self._retries + 1} times, last with {problem}; is the reward server running, "
            f"and is timeout = {self._timeout:g} s enough for {self._batch_size} samples?"
        )

    def _checked(self, body: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(body)
        except ValueError as error:
            raise RemoteRewardError(f"{self.url} answered {body[:80]!r}, expected a JSON object") from error
        version = answer.get("version") if isinstance(answer, dict) else None
        if version != VERSION:
            raise RemoteRewardError(f"{self.url} speaks version {version!r} of the schema, this reward {VERSION}")
        return answer


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


def _message(error: urllib.error.HTTPError) -> str:
    body = error.read()
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace") or error.reason
