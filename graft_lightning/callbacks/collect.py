"""Collection: the callback that has the reference fill the pool, before training and, with several rounds, between."""

import logging
import math
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import lightning as L

from graft_lightning.callbacks.accepting import tell
from graft_lightning.callbacks.loggers import log_curves
from graft_lightning.callbacks.ranks import ranks_of, sum_of_all
from graft_lightning.callbacks.round_kl import RoundKL
from graft_lightning.callbacks.understood import refuse_conditions
from graft_lightning.datamodules.accepted import AcceptedTrajectories
from graft_lightning.domains.base import listed
from graft_lightning.identity import digest
from graft_lightning.modules.graft import PGraft
from graft_lightning.processes.denoiser import Denoiser
from graft_lightning.rejection.collected import add_filling
from graft_lightning.rejection.collection import Collection, Filled
from graft_lightning.rejection.imported import imported_round, of_imported
from graft_lightning.rejection.levels import kept_levels
from graft_lightning.rejection.objectives import PolicyObjective
from graft_lightning.rejection.pool import PoolError, Round, TrajectoryPool
from graft_lightning.rejection.reward import Reward
from graft_lightning.rejection.scoring import by_name
from graft_lightning.rejection.selection import Selection
from graft_lightning.runs import run_folder
from graft_lightning.types import SettingsError

log = logging.getLogger(__name__)


TRIAL = 2
"""Conditions that ``trainer.fast_dev_run`` draws for."""


class Collect(L.Callback):
    """Fills the pool: every condition of the datamodule, ``draws`` times, scored by the reward.

    A pool that was filled by the same reference is used again: a change of the rule, of K, of the hand-off among the
    kept levels draws nothing new, fewer draws or conditions use a part of what is there, and more draws, further
    conditions, further levels draw what is missing. A reward that has changed is refused, unless ``data.rescore`` puts
    its old scores aside. Runs in ``on_fit_start``, and for several rounds at the end of epochs, where the
    pool is drawn again from the current model.

    Args:
        reward: what is maximised; without one the callback does nothing (pre-training).
        draws: M, samples per condition.
        keep: shares N_I / N of the sampler's steps, counted from the data, whose states are kept for P-GRAFT.
        batch_size: trajectories sampled at a time, and stored together.
        also: further rewards to store beside the first.
        rounds: 1 samples the frozen reference once; more re-draw from the current model.
        epochs_per_round: training epochs between rounds.
        keep_as: type that kept states are rounded to on disk, of those that are drawn from now on; as drawn by default.
    """

    def __init__(
        self,
        reward: Reward | None = None,
        draws: int = 32,
        keep: Sequence[float] = (0.25, 0.5, 0.75),
        batch_size: int = 256,
        also: list[Reward] | None = None,
        rounds: int = 1,
        epochs_per_round: int = 1,
        keep_as: Literal["float16", "bfloat16"] | None = None,
    ) -> None:
        for name, value in (("draws", draws), ("batch_size", batch_size), ("rounds", rounds)):
            if value < 1:
                raise ValueError(f"collect.{name}={value}; it must be at least 1")
        if outside := [fraction for fraction in keep if not 0 <= fraction < 1]:
            raise ValueError(f"collect.keep={list(keep)}: {outside[0]} lies outside [0, 1)")
        self.reward, self.also, self.keep_as = reward, list(also or []), keep_as
        self.draws, self.keep, self.batch_size = draws, tuple(keep), batch_size
        self.rounds, self.epochs_per_round = rounds, epochs_per_round
        self.round_index = 0
        self.drawn = 0
        self.configuration: str | None = None
        self._conditions: int | None = None
        self._kl = RoundKL(batch_size)

    @property
    def rewards(self) -> dict[str, Reward]:
        """All rewards by name, the one that is maximised first."""
        return by_name(reward for reward in [self.reward, *self.also] if reward is not None)

    # ---- hooks

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuses what cannot work, before anything is built or sampled."""
        if stage == "fit" and self.reward is not None:
            module, data = _both(trainer, pl_module)
            self.refuse(module, data)
            if trainer.fast_dev_run:  # type: ignore[attr-defined]
                self._try_out(trainer, data)

    def _try_out(self, trainer: L.Trainer, data: AcceptedTrajectories) -> None:
        """Few conditions, in a pool of their own: a run that is only tried out leaves the real pool alone."""
        self._conditions = TRIAL
        folder = run_folder(trainer) / "pool"
        if trainer.is_global_zero:
            shutil.rmtree(folder, ignore_errors=True)
        trainer.strategy.barrier("last trial's pool removed")
        data.pool = str(folder)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Fills round 0, or takes up the round that a resumed run was in; the epoch is not restored yet."""
        if self.reward is None:
            return
        module, data = _both(trainer, pl_module)
        asked = module.pool_objective
        if self.rounds > 1 and module.in_step and asked is not None and asked.asks_drawing:
            raise SettingsError(
                f"collect.rounds={self.rounds} with model.objective={type(asked).__name__}, which compares with the "
                "model that drew the round: sharded weights of then are not kept; use one round, or DDP"
            )
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if callable(tries := getattr(callback, "try_rewards", None)):
                tries(module, data)
        if self.round_index == 0:
            self.collect(trainer, module, data, 0, module.opened().frozen)
            return
        opened = TrajectoryPool.open(data.pool, verify=False).round(
            self.round_index, listed(data.conditions)[: self._conditions], self.draws
        )
        # Refuses the pool of another reference.
        TrajectoryPool.create(data.pool, module.reference_fingerprint(), data.seed, verify=False)
        if not opened.complete:
            raise FileNotFoundError(f"{opened.path} lacks trajectories that this run was trained on; it cannot resume")
        self._kl.begin(module, opened, self.select(module, data, opened))

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draws the round that a run was due to draw when it was stopped between two epochs."""
        self._draw_if_due(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draws the next round, where one is due; not in ``on_train_epoch_start``, before which loaders are made."""
        self._draw_if_due(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Measures what the last of several rounds has spent."""
        if self.rounds > 1 and self.reward is not None:
            self._kl.end(trainer, pl_module, run_folder(trainer))

    def _draw_if_due(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Whole epochs, by the optimiser's steps: max_steps may end a run inside one, which has to be finished first.
        epochs = trainer.global_step // -(-int(trainer.num_training_batches) // trainer.accumulate_grad_batches)
        due = min(epochs // self.epochs_per_round, self.rounds - 1)
        if self.reward is not None and due > self.round_index:
            module, data = _both(trainer, pl_module)
            self._kl.end(trainer, module, run_folder(trainer))
            self.round_index = due
            self.collect(trainer, module, data, due, module.sampling_denoiser())

    def state_dict(self) -> dict[str, Any]:
        return {"round_index": self.round_index, **({"kl": self._kl.state()} if self.rounds > 1 else {})}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.round_index = int(state_dict["round_index"])
        self._kl.restore(state_dict.get("kl", {}))

    # ---- work

    def refuse(self, module: PGraft, data: AcceptedTrajectories) -> None:
        """Refuses what cannot work, before anything is built or sampled: settings, conditions, a disk too small.

        Raises:
            SettingsError: naming key, value, and what would be right.
        """
        try:
            self.check(module, data)
            refuse_conditions(module.reference, data, "conditions")
            self.check_room(module, data)  # a SettingsError is a ValueError
        except ValueError as error:
            raise SettingsError(str(error)) from None

    def check(self, module: PGraft, data: AcceptedTrajectories) -> None:
        """Refuses settings that contradict each other.

        Raises:
            ValueError: naming key, value, and what would be right.
        """
        try:
            data.acceptance.check(self.draws)
        except ValueError as error:
            raise ValueError(f"collect.draws={self.draws} with data.acceptance: {error}") from None
        self._check_imported(module, data)
        kept = kept_levels(module.reference, self.keep)
        needed = module.training_state
        if needed != "x_0" and needed not in kept:
            steps = module.reference.sampler.steps
            listed = ", ".join(f"{n / steps:g}" for n in kept) or "none"
            raise ValueError(
                f"model.handoff={module.handoff}: state {needed} of {steps} is not kept in the pool; "
                f"collect.keep holds {listed}. Add it there, choose one of these, or set model.states to x_0"
            )
        known = [*self.rewards, *stored_rewards(data.pool)]
        if data.reward is not None and data.reward not in known:
            listed = ", ".join(dict.fromkeys(known))
            raise ValueError(f"data.reward={data.reward!r} is neither collected nor in the pool; there are {listed}")
        if self.rounds > 1 and data.reward not in (None, *self.rewards):
            raise ValueError(
                f"collect.rounds={self.rounds}: data.reward={data.reward!r} has scores in the pool and nothing that "
                f"computes them, which the samples of later rounds need; use one round, or one of {[*self.rewards]}"
            )

    def _check_imported(self, module: PGraft, data: AcceptedTrajectories) -> None:
        """Refuses what imported samples, of which there is x_0 alone, cannot be used for."""
        if (opened := imported_round(data.pool)) is None:
            return
        if isinstance(module.pool_objective, PolicyObjective):
            raise SettingsError(
                f"model.objective={type(module.pool_objective).__name__} trains on the steps of trajectories, and "
                f"{data.pool} holds imported samples, which have none; choose an objective of x_0, or another data.pool"
            )
        pool = TrajectoryPool.open(data.pool, verify=None)
        of_imported(pool, opened, listed(data.conditions), self.draws, module.state_index or "x_0")

    def check_room(self, module: PGraft, data: AcceptedTrajectories) -> None:
        """Refuses pools that the disk has no room for: they would never be filled. Reads the conditions.

        Raises:
            ValueError: naming key, value, and what would be right.
        """
        kept = len(kept_levels(module.reference, self.keep))
        texts = listed(data.conditions)[: self._conditions]
        shape = module.reference.shape(texts[:1])
        shapes = shape.values() if isinstance(shape, Mapping) else [shape]
        each = 4 * sum(math.prod(one) for one in shapes) * (1 + kept)
        folder = Path(data.pool).expanduser().absolute()
        there = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free, count = shutil.disk_usage(there).free, self.draws * len(texts)
        if self._conditions is None and each * count > free + size_of(folder):
            raise ValueError(
                f"collect.draws={self.draws}: {count} trajectories of {each} B are {each * count / 1e9:.3g} GB, and "
                f"{there} has room for {free / 1e9:.3g} GB; draw fewer, keep fewer levels, or set data.pool elsewhere"
            )

    def collection(self, module: PGraft, data: AcceptedTrajectories) -> Collection:
        """What is filled for a module and its data: the service below this callback."""
        return Collection(
            module.reference,
            list(self.rewards.values()),
            data.pool,
            listed(data.conditions)[: self._conditions],
            self.draws,
            self.keep,
            data.seed,
            self.batch_size,
            self.keep_as,
            data.rescore,
            module.in_precision,
            module.drawn_in,
        )

    def collect(
        self, trainer: L.Trainer, module: PGraft, data: AcceptedTrajectories, index: int, denoiser: Denoiser
    ) -> Selection:
        """Fills a round and hands it to the datamodule."""
        module.eval()
        began = time.monotonic()
        filled = self.fill(trainer, module, data, index, denoiser)
        if filled.drawn and trainer.is_global_zero:
            rate = filled.drawn / max(time.monotonic() - began, 1e-9)
            log_curves(trainer, {"speed/drawn_samples_per_second": rate}, trainer.global_step)
        if index:
            module.drawn_again()
        module.train()
        selection = self.select(module, data, filled.round)
        if self.rounds > 1:
            self._kl.begin(module, filled.round, selection, denoiser)
        folder = run_folder(trainer)
        if trainer.is_global_zero:
            names = [self._reward_name(data), *self.rewards]
            tell(trainer, module, data, filled.round, selection, filled.drawn, folder, names)
        return selection

    def fill(
        self, trainer: L.Trainer, module: PGraft, data: AcceptedTrajectories, index: int, denoiser: Denoiser
    ) -> Filled:
        """Fills a round, whatever a run is for: the record of it lies in the pool. Collective.

        Returns:
            The round, and the number of trajectories that all processes have drawn.
        """
        module.draw_as(trainer)
        before = _scored(data.pool, index, self.rewards) if trainer.is_global_zero else {}
        # Outside of what one process does alone: sharded weights are gathered by all.
        model = "reference" if index == 0 else digest(p for p in module.network.parameters() if p.requires_grad)
        filled = self.collection(module, data).fill(
            denoiser,
            module.reference_fingerprint(),
            module.device,
            index,
            model,
            ranks_of(trainer),
            module.in_step and (module.lora is not None or denoiser is not module.opened().frozen),
        )
        self.drawn += filled.drawn
        drawn = int(sum_of_all(filled.drawn))
        if trainer.is_global_zero:
            after = _scored(data.pool, index, self.rewards)
            scored = [name for name in self.rewards if before.get(name) != after.get(name)]
            if drawn or scored:
                record = {
                    "round": index,
                    "drawn": drawn,
                    "scored": scored,
                    "conditions": len(filled.round.conditions),
                    "draws": filled.round.draws,
                    "seed": data.seed,
                }
                add_filling(Path(data.pool), record, self.configuration)
        return Filled(filled.round, drawn)

    def select(self, module: PGraft, data: AcceptedTrajectories, opened: Round) -> Selection:
        """Hands a filled round to the datamodule, which selects from it."""
        try:
            name, state = self._reward_name(data), module.training_state
            return data.use(opened, name, state, module.pool_objective, module.policy_steps())
        except ValueError as error:
            raise SettingsError(str(error)) from None

    def _reward_name(self, data: AcceptedTrajectories) -> str:
        return data.reward or next(iter(self.rewards))


def size_of(folder: Path) -> int:
    """Bytes of the files below a folder, 0 where it is absent."""
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors")) if folder.is_dir() else 0


def stored_rewards(pool: str) -> list[str]:
    """Names of the rewards that a pool holds already; none where there is no pool."""
    return sorted(folder.parent.name for folder in Path(pool).glob("rewards/[!.]*/manifest.json"))


def _scored(pool: str, index: int, names: Iterable[str]) -> dict[str, int]:
    """How many trajectories of a round these rewards have scored; nothing where there is no such round, or reward."""
    try:
        opened = TrajectoryPool.open(pool, verify=None)  # the filling looks at every file
        rounds, known = [one for one in opened.rounds() if one.index == index], opened.reward_fingerprints()
        return {name: int(one.scored(name)[0].sum()) for one in rounds for name in names if name in known}
    except (FileNotFoundError, PoolError):
        return {}


def _both(trainer: L.Trainer, module: Any) -> tuple[PGraft, AcceptedTrajectories]:
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    if not getattr(module, "collects", False) or not isinstance(data, AcceptedTrajectories):
        raise SettingsError(
            f"collect.reward is set, but model is {type(module).__name__} and data {type(data).__name__}; "
            "collecting needs PGraft or Graft, and AcceptedTrajectories"
        )
    return module, data
