"""Reading a round: rows are gathered from the parts in which they lie."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from graft_lightning.rejection.pool.view import View
from graft_lightning.rejection.pool.writing import widened


class Reading(View):
    """A view whose trajectories can be read."""

    @property
    def fields(self) -> list[str]:
        """Names of the stored fields; those of nested states are joined by "/". Empty as long as nothing is written."""
        layouts = (part.files.layout() for part in self.parts)
        names = list(next((layout for layout in layouts if layout), ()))
        added = [name for n, beside in self._levels.items() if n in self.kept_levels for name in beside.fields()]
        kept = {f"states/{n}" for n in self.kept_levels}
        return [
            name
            for name in dict.fromkeys([*names, *added])
            if not name.startswith("states/") or "/".join(name.split("/")[:2]) in kept
        ]

    def read(self, indices: Tensor | np.ndarray | Sequence[int], fields: Sequence[str] | None = None) -> TensorDict:
        """Gathers trajectories from the shards; loads nothing else.

        Args:
            indices: global indices ``(batch,)``, in any order, repeated or not.
            fields: names as in `fields`, or the beginning of some: "x_0", "states", "states/12". All by default.

        Raises:
            IndexError: if an index is outside the round, or its shard is not written yet.
            KeyError: for an unknown field; lists the known ones.
        """
        index = np.asarray(indices, dtype=np.int64).reshape(-1)
        if index.size and (index.min() < 0 or index.max() >= len(self)):
            raise IndexError(f"indices from {index.min()} to {index.max()}; {self.path} has 0 to {len(self) - 1}")
        values: dict[str, Any] = {}
        for name, value in self._gather(index, self._select(fields)).items():
            *parents, leaf = name.split("/")
            inner = values
            for parent in parents:
                inner = inner.setdefault(parent, {})
            inner[leaf] = value
        return TensorDict(values, batch_size=[len(index)])

    def _gather(self, index: np.ndarray, names: list[str]) -> dict[str, Tensor]:
        if not self.fields:
            raise IndexError(f"{self.path} holds no trajectories yet")
        parts, rows = self._part[index], self._row[index]
        if (parts < 0).any():
            raise IndexError(self._not_grown(int(index[np.flatnonzero(parts < 0)[0]])))
        follow = {"condition": index // self.draws, "draw": index % self.draws}
        found = {name: torch.from_numpy(follow[name]) for name in names if name in follow}
        stored = [name for name in names if name not in follow]
        several = np.unique(parts).tolist() or [0]
        if len(several) == 1:
            return found | self._of_part(several[0], rows, stored)
        for part in several:
            at = torch.from_numpy(np.flatnonzero(parts == part))
            for name, value in self._of_part(part, rows[at.numpy()], stored).items():
                if name not in found:
                    found[name] = torch.empty(len(index), *value.shape[1:], dtype=value.dtype)
                found[name][at] = value
        return found

    def _of_part(self, number: int, rows: np.ndarray, names: list[str]) -> dict[str, Tensor]:
        part = self.parts[number]
        layout = part.files.layout()
        if layout is None:
            raise IndexError(f"{part.files.path(part.shards[0])} is not written yet, and no other of its part")
        found = part.files.gather(rows, [name for name in names if name in layout])
        for n, beside in self._levels.items():
            added = [name for name in names if name not in layout and name.split("/")[:2] == ["states", str(n)]]
            if added:
                self._require_states(n)
                found |= beside.gather(number, rows, added)
        return widened(found, layout, part.keep_as)

    def _require_states(self, n: int) -> None:
        if f"states/{n}" not in self._whole:
            lacking = [shard for level, shard in self.missing_states() if level == n]
            if lacking:
                raise IndexError(
                    f"{self.path}: {len(lacking)} shards lack the states of {n}; the next collection adds them"
                )
            self._whole.add(f"states/{n}")

    def _select(self, fields: Sequence[str] | None) -> list[str]:
        known = self.fields
        if fields is None or not known:
            return known
        chosen = {field: [name for name in known if name == field or name.startswith(f"{field}/")] for field in fields}
        unknown = [field for field, names in chosen.items() if not names]
        if unknown:
            raise KeyError(f"{self.path} has no {', '.join(unknown)}; it has {', '.join(known)}")
        return [name for names in chosen.values() for name in names]

    def column(self, name: str) -> Tensor:
        """A field of the complete round with conditions and draws as axes: ``(conditions, draws, *row shape)``."""
        values = self._gather(np.arange(len(self)), self._select([name]))[name]
        return values.reshape(len(self.conditions), self.draws, *values.shape[1:])
