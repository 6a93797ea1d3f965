"""A reward that remembers, on disk, what it has scored."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from graft_lightning.durable import write_text
from graft_lightning.identity import describe, digest_of
from graft_lightning.rejection.reward import Reward, score
from graft_lightning.rejection.rewards.score_store import KEY_BYTES, ScoreStore


class CachedReward(Reward):
    """Scores each pair of sample and condition once, ever.

    A score is kept under the content of the sample, the text of its condition, and the identity of the reward
    (`graft_lightning.identity`: class, settings, a user's source text, what the settings point to); nothing is ever
    overwritten, another reward has another folder. What identity does not see, such as an update of a library that the
    reward calls, asks for another ``version``.

    Args:
        reward: what is remembered; pointwise.
        folder: where scores are kept; one folder serves any number of rewards and processes.
        version: part of the identity, to start afresh.
    """

    def __init__(self, reward: Reward, folder: str, version: str = "") -> None:
        if reward.groupwise:
            raise ValueError(
                f"reward: {reward.name} scores a sample by the others of its group, so that its scores cannot be kept; "
                "use it without CachedReward, or cache the pointwise rewards inside it"
            )
        self.reward = reward
        self.version = version
        self._root = Path(folder).expanduser()
        self._store: ScoreStore | None = None
        self._asked = self._scored = 0

    def __call__(self, samples: Any, conditions: Sequence[str]) -> Tensor:
        store = self._opened()
        keys = content_keys(samples, conditions)
        rows = {key: row for row, key in reversed(list(enumerate(keys))) if key not in store}
        self._asked += len(keys)
        if rows:
            chosen = sorted(rows.values())
            fresh = score(self.reward, samples[torch.tensor(chosen)], [conditions[row] for row in chosen])
            store.update((keys[row], value) for row, value in zip(chosen, fresh.tolist(), strict=True))
            self._scored += len(chosen)
        return torch.tensor([store[key] for key in keys], dtype=torch.float32)

    @property
    def name(self) -> str:
        return self.reward.name

    def apart_for(self, count: int) -> bool:
        return self.reward.apart_for(count)

    @property
    def hit_rate(self) -> float:
        """The share of samples asked for so far whose score was there already; NaN before the first."""
        return 1 - self._scored / self._asked if self._asked else float("nan")

    def to(self, device: torch.device | str) -> "CachedReward":
        self.reward.to(device)
        return self

    def _opened(self) -> ScoreStore:
        if self._store is None:
            description = {"reward": describe(self.reward, evidence=True), "version": self.version}
            folder = self._root / f"{self.reward.name}-{digest_of(description)}"
            _write_once(folder / "reward.json", json.dumps(description, indent=2, sort_keys=True))
            self._store = ScoreStore(folder)
        return self._store


def content_keys(samples: Any, conditions: Sequence[str]) -> list[bytes]:
    """A 16-byte key of the content of every pair of sample and condition.

    Two samples share a key if every field has the same shape, type and bytes, and the condition the same text.

    Raises:
        TypeError: if the samples are neither a tensor nor a TensorDict.
    """
    fields = _fields(samples)
    keys = []
    for row, condition in enumerate(conditions):
        hasher = hashlib.blake2b(condition.encode(), digest_size=KEY_BYTES)
        for name, field in fields.items():
            hasher.update(f"\0{name}\0{field.dtype}{tuple(field.shape[1:])}\0".encode())
            hasher.update(field[row].contiguous().reshape(-1).view(torch.uint8).numpy().data)
        keys.append(hasher.digest())
    return keys


def _fields(samples: Any) -> dict[str, Tensor]:
    if isinstance(samples, Tensor):
        return {"": samples.detach().cpu()}
    if isinstance(samples, TensorDictBase):
        flat = samples.detach().cpu().flatten_keys(".")
        return {name: flat[name] for name in sorted(flat.keys())}
    raise TypeError(f"samples: a {type(samples).__name__} has no content to hash; only tensors and TensorDicts do")


def _write_once(path: Path, text: str) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
