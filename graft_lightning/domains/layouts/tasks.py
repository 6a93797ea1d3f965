"""Conditional tasks: what of a layout is shown, and what is left to the model.

* unconditional: the number of elements alone
* label (C -> S + P in LayoutDM's words): all labels
* label_size (C + S -> P): all labels and sizes
* completion: every element or none of it, each shown with the same probability, drawn between 0 and 20 %; at least one
* refinement: all labels, and boxes moved by Gaussian numbers of standard deviation .01

References:
    LayoutDM, arXiv 2303.08137, sec. 4.3 and its published evaluation; refinement after RUITE (IUI 2021).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from graft_lightning.domains.base import Examples
from graft_lightning.domains.base.conditions import Conditions
from graft_lightning.domains.layouts.examples import LayoutExamples
from graft_lightning.domains.layouts.partial import Known, written
from graft_lightning.domains.layouts.vocabularies import Vocabulary
from graft_lightning.processes.noise import Noise, place_seeds
from graft_lightning.types import SettingsError

Task = Literal["unconditional", "label", "label_size", "completion", "refinement"]
TASKS: tuple[Task, ...] = ("unconditional", "label", "label_size", "completion", "refinement")

SHOWN = 0.2
"""The greatest probability that completion shows an element."""

MOVED = 0.01
"""Standard deviation by which refinement moves boxes, in shares of the page's side."""

SHARES = {"unconditional": 0.6, "label": 0.15, "label_size": 0.1, "completion": 0.15}
"""Of training examples by task. Refinement needs no share: the network sees its labels, as in the task of that name."""


def condition_for(task: str, label: Tensor, box: Tensor, vocabulary: Vocabulary, noise: Noise) -> str:
    """The condition that shows of one layout what a task shows.

    Args:
        task: one of `TASKS`.
        label: int64 ``(elements,)``.
        box: centre and size in [0, 1], ``(elements, 4)``.
        vocabulary: of the labels.
        noise: of one trajectory; completion and refinement draw from it.
    """
    return written(len(label), known_in(task, label, box, noise), vocabulary)


def known_in(task: str, label: Tensor, box: Tensor, noise: Noise) -> list[Known]:
    """What a task shows of one layout. Arguments as in `condition_for`."""
    labels, boxes = label.tolist(), box.tolist()
    if task == "label":
        return [Known(one) for one in labels]
    if task == "label_size":
        return [Known(one, (math.nan, math.nan, *size[2:])) for one, size in zip(labels, boxes, strict=True)]
    if task == "completion":
        uniform = noise.uniform(len(labels) + 1)[0].tolist()
        shown = [number < SHOWN * uniform[-1] for number in uniform[:-1]]
        first = min(range(len(labels)), key=uniform.__getitem__)
        # Element i of a condition is element i of the layout that it was made of: what is free has its place too.
        return [
            Known(one, tuple(place)) if shown[i] or i == first else Known()
            for i, (one, place) in enumerate(zip(labels, boxes, strict=True))
        ]
    if task == "refinement":
        moved = (box + MOVED * noise.normal(*box.shape)[0]).clamp(0, 1).tolist()
        return [Known(one, tuple(place), (True,) * 4) for one, place in zip(labels, moved, strict=True)]
    return []


class WithTasks(Examples):
    """Training layouts of which a part is shown: each example has a task, drawn anew every time it comes.

    Args:
        examples: the layouts.
        shares: of examples by task; `SHARES` by default.

    Raises:
        SettingsError: if a task is unknown, or the shares are negative or all zero.
    """

    def __init__(self, examples: LayoutExamples, shares: dict[str, float] | None = None) -> None:
        self.examples, self.shares = examples, dict(SHARES if shares is None else shares)
        unknown = sorted(self.shares.keys() - set(TASKS))
        if unknown or min(self.shares.values(), default=-1) < 0 or not sum(self.shares.values()) > 0:
            raise SettingsError(f"shares={self.shares}; it maps {', '.join(TASKS)} to shares of the examples")

    def batch(self, positions: Sequence[int], seed: int) -> tuple[Any, list[str]]:
        states, conditions = self.examples.batch(positions, seed)
        seeds = place_seeds("task", seed, positions)
        names, weights = zip(*self.shares.items(), strict=True)
        ends = torch.tensor(weights, dtype=torch.float64).cumsum(0)
        drawn = Noise(seeds).uniform().double() * ends[-1]
        tasks = torch.searchsorted(ends, drawn, right=True).clamp_max(len(names) - 1).tolist()
        vocabulary = self.examples.layouts.vocabulary
        shown = [
            condition if names[task] == "unconditional" else self._shown(names[task], states, row, seeds, vocabulary)
            for row, (condition, task) in enumerate(zip(conditions, tasks, strict=True))
        ]
        return states, shown

    @staticmethod
    def _shown(task: str, states: Mapping[str, Tensor], row: int, seeds: Tensor, vocabulary: Vocabulary) -> str:
        mask = states["mask"][row]
        box = (states["box"][row][mask] + 1) / 2
        return condition_for(task, states["label"][row][mask], box, vocabulary, Noise(seeds[row : row + 1]))


class TaskConditions(Conditions):
    """What a task shows of held-out layouts: the conditions on which the field compares models.

    Args:
        examples: whose layouts, in the order of the set.
        task: what is shown.
        limit: at most so many, from the start; all by default.
        seed: of what completion and refinement draw.

    Raises:
        SettingsError: if the task is unknown, or the limit is not positive.
    """

    def __init__(self, examples: LayoutExamples, task: Task = "label", limit: int | None = None, seed: int = 0) -> None:
        if task not in TASKS:
            raise SettingsError(f"task={task!r}; it is one of {', '.join(TASKS)}")
        if limit is not None and limit < 1:
            raise SettingsError(f"limit={limit}; it must be at least 1")
        self.examples, self.task, self.limit, self.seed = examples, task, limit, seed

    def texts(self) -> list[str]:
        """One condition a layout; those that are the same have a mark, so that each is drawn as often as it comes."""
        layouts = self.examples.layouts
        numbers = range(len(layouts) if self.limit is None else min(self.limit, len(layouts)))
        seeds = place_seeds(f"condition/{self.task}", self.seed, numbers)
        found: list[str] = []
        seen: dict[str, int] = {}
        for number in numbers:
            one = layouts[number]
            noise = Noise(seeds[number : number + 1])
            text = condition_for(self.task, one["label"], one["box"], layouts.vocabulary, noise)
            head, bar, rest = text.partition(" | ")
            repeated = seen[text] = seen.get(text, -1) + 1
            found.append(f"{head} #{repeated}{bar}{rest}" if repeated else text)
        return found
