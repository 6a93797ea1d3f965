"""Steering at inference: evaluation and ``predict`` draw samples that follow a reward, and nothing is trained."""

from typing import Any, Literal

import lightning as L

from graft_lightning.callbacks.trained_reward import trained_reward
from graft_lightning.modules.corrected import CorrectedFlow
from graft_lightning.modules.denoising import DenoisingModule
from graft_lightning.modules.stages import visited
from graft_lightning.ranges import Count, Fraction, Positive
from graft_lightning.rejection.potentials import Potential
from graft_lightning.rejection.reward import Reward
from graft_lightning.rejection.steering import Steering
from graft_lightning.statistics import Interval, without_interval
from graft_lightning.types import SettingsError


class Steer(L.Callback):
    """Has ``test``, ``validate`` and ``predict`` draw by Feynman-Kac steering: of the reference, or of a checkpoint.

    Every sample is a group of particles (`Steering`). The cost beside that of plain sampling, ``particles`` times as
    many calls of the network, and of the reward those of every look at the predictions, is recorded with what is
    evaluated. Best-of-N costs as many calls of the network at N = ``particles``. A fit is never steered.

    Args:
        particles: in a group; 1 is plain sampling.
        every: steps of the sampler between two looks at the predictions.
        temperature: the reward is divided by it; the smaller, the more one reward outweighs another.
        potential: "max", the largest reward so far; "difference" from the last; "sum" of all so far.
        threshold: a group is resampled where its effective number of particles is below this share of them.
        choose: the sample of a group: "best", its greatest reward, or "drawn" by weight.
        reward: that is followed; the one that is trained on by default.
    """

    def __init__(
        self,
        particles: Count = 1,
        every: Count = 5,
        temperature: Positive = 0.1,
        potential: Potential = "max",
        threshold: Fraction = 0.5,
        choose: Literal["best", "drawn"] = "best",
        reward: Reward | None = None,
    ) -> None:
        self.steering = Steering(particles, every, temperature, potential, threshold, choose)
        self.reward = reward
        self._fits = False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Hands the module what it is to be sampled by.

        Raises:
            SettingsError: if the module cannot be steered, or there is no reward, or one of whole groups.
        """
        self._fits = self._fits or stage == "fit"
        if self.steering.particles == 1 or self._fits:
            return
        if not isinstance(pl_module, DenoisingModule) or isinstance(pl_module, CorrectedFlow):
            raise SettingsError(
                f"steer.particles={self.steering.particles}, but model is {type(pl_module).__name__}: a model of one "
                "denoiser is steered (PGraft, Graft, Pretrain); set it to 1"
            )
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        reward = self.reward or trained_reward(trainer, data)[1]
        if reward is None:
            raise SettingsError(
                f"steer.particles={self.steering.particles} needs a reward to follow: set steer.reward, or "
                "collect.reward"
            )
        self.steering.require(reward)
        pl_module.steering = self.steering, reward

    def teardown(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        """Leaves a module that is sampled as it is."""
        if isinstance(pl_module, DenoisingModule):
            pl_module.steering = None


def cost_of_steering(module: Any) -> dict[str, Interval]:
    """Calls of network and reward that one sample takes, where it is steered."""
    steering = getattr(module, "steering", None)
    if steering is None:
        return {}
    groups, stage = steering[0], module.stages()[0]
    steps = len(visited(stage.reference, module.sampling_denoiser().boundaries))
    return {
        "network_calls": without_interval(groups.particles * stage.calls),
        "reward_calls": without_interval(groups.particles * (groups.looks(steps) + 1)),
    }


def steered(module: Any) -> dict[str, dict[str, Any]]:
    """How samples were steered; nothing where they were not."""
    steering = getattr(module, "steering", None)
    return {} if steering is None else {"steered": {**vars(steering[0]), "reward": steering[1].name}}
