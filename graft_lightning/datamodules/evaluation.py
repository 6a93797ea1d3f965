"""What is sampled in evaluation: the same conditions, draws and seeds for every model that is compared."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import lightning as L
import torch

from graft_lightning.domains.base import Conditions, listed
from graft_lightning.processes.noise import hashed_seed, trajectory_seeds
from graft_lightning.ranges import Natural
from graft_lightning.types import Draws


def draws_of(conditions: Conditions, draws: int, seed: int, purpose: str) -> Draws:
    """``draws`` samples of every condition, with seeds that no training trajectory has.

    A text that stands in the list twice counts once: its samples would be the same, and an interval too narrow.

    Args:
        conditions: held-out conditions.
        draws: samples per condition.
        seed: of the run.
        purpose: "validation", "test", "predict": each has seeds of its own.
    """
    texts = [text for text in dict.fromkeys(listed(conditions)) for _ in range(draws)]
    numbers = [number for _ in range(len(texts) // draws) for number in range(draws)]
    seeds = trajectory_seeds(hashed_seed(purpose, seed), 0, texts, numbers)
    return Draws(texts, torch.tensor(numbers), seeds)


class DrawLoader:
    """Batches of draws; batch j belongs to process j modulo the number of processes.

    Every process gets as many batches as any other, since evaluation ends in a collective call, and sharded networks
    make one at every step. Where there are not enough samples for that, the first one is drawn again with the draw
    number -1, and is not to be counted.

    Args:
        draws: gives all of them; called once an epoch, so that nothing is loaded before it is needed.
        batch_size: samples drawn at a time, at most.
        rank: of this process.
        world: number of processes.
        group: draws of one condition, which stay in one batch where they fit: some rewards look at all of them.
    """

    def __init__(
        self, draws: Callable[[], Draws], batch_size: int, rank: int = 0, world: int = 1, group: int = 1
    ) -> None:
        self.draws = draws
        self.batch_size = batch_size
        self.rank, self.world = rank, world
        self.group = group if group <= batch_size else 1

    def __len__(self) -> int:
        groups = len(self.draws().conditions) // self.group
        return -(-groups // (self.batch_size // self.group * self.world))

    def __iter__(self) -> Iterator[Draws]:
        every = self.draws()
        groups, batches = len(every.conditions) // self.group, len(self) * self.world
        for batch in range(self.rank, batches, self.world):
            start, stop = (end * groups // batches * self.group for end in (batch, batch + 1))
            part = slice(start, stop)
            if part.start == part.stop:
                yield Draws(every.conditions[:1], torch.tensor([-1]), every.seeds[:1])
            else:
                yield Draws(every.conditions[part], every.draw[part], every.seeds[part])


class HeldOutConditions(L.LightningDataModule):
    """The loaders of validation, test and prediction, which all datamodules share.

    Args:
        validation: held-out conditions for choosing settings.
        test: held-out conditions for reporting; those of validation by default.
        predict: conditions of `predict`; those of test by default.
        eval_draws: samples per condition in validation and test.
        predict_draws: samples per condition of `predict`.
        eval_batch_size: samples drawn at a time.
        seed: of the run. ``seed_everything`` by default.
    """

    def __init__(
        self,
        validation: Conditions | None = None,
        test: Conditions | None = None,
        predict: Conditions | None = None,
        eval_draws: int = 8,
        predict_draws: int = 1,
        eval_batch_size: int = 256,
        seed: Natural | None = None,
    ) -> None:
        super().__init__()
        self.validation, self.test, self.predict = validation, test or validation, predict or test or validation
        self.eval_draws, self.predict_draws, self.eval_batch_size = eval_draws, predict_draws, eval_batch_size
        self.seed = global_seed() if seed is None else seed

    @property
    def place(self) -> tuple[int, int]:
        """Rank of this process and number of processes."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def val_dataloader(self) -> DrawLoader | list[Any]:
        return self._held_out(self.validation, "validation", self.eval_draws)

    def test_dataloader(self) -> DrawLoader | list[Any]:
        return self._held_out(self.test, "test", self.eval_draws)

    def predict_dataloader(self) -> DrawLoader | list[Any]:
        return self._held_out(self.predict, "predict", self.predict_draws)

    def _held_out(self, conditions: Conditions | None, purpose: str, draws: int) -> DrawLoader | list[Any]:
        if conditions is None:
            return []
        return DrawLoader(
            partial(draws_of, conditions, draws, self.seed, purpose), self.eval_batch_size, *self.place, draws
        )


def global_seed() -> int:
    """The seed of ``seed_everything``, 0 where none was set."""
    return int(os.environ.get("PL_GLOBAL_SEED", "0"))
