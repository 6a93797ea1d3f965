"""Interleaved sampling of mixed states: one block after the other, each given what the other has become."""

from collections.abc import Sequence
from itertools import pairwise

from graft_lightning.processes.grids import Grid
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.process import Process
from graft_lightning.processes.resampled import Predict
from graft_lightning.processes.samplers import DDIM
from graft_lightning.processes.times import Levels
from graft_lightning.processes.transitions import Transition
from graft_lightning.types import State


class Interleaved(DDIM):
    """Block Gibbs steps (after IGD, arXiv 2502.13450): the categorical block moves first, the Gaussian one follows.

    At a step t -> t_next the categorical fields move given the Gaussian ones at t; the Gaussian fields then move given
    the *new* classes, which asks the denoiser for the pair of levels (t_next, t). A step costs two evaluations. Moving
    all fields by one prediction is `DDPM` or `DDIM`, the factorised baseline. The denoiser must have been trained at
    both pairs of levels: `times.VisitedLevels` of this sampler's `training_levels`.

    Args:
        steps: N.
        eta: share of the ancestral noise in the Gaussian fields; 1 is ancestral sampling.
        grid: which levels are visited; the process's own grid by default.
        clip_sample: bound of |x_0| of the Gaussian fields.
    """

    is_ddim = False

    def __init__(
        self, steps: int = 50, eta: float = 1.0, grid: Grid | None = None, clip_sample: float | None = None
    ) -> None:
        super().__init__(steps, eta, grid, clip_sample)

    def evaluations(self, within: bool) -> int:
        return 2

    def training_levels(self, process: Process, descent: Sequence[float] | None = None) -> list[Levels]:
        descent = self.levels(process)[::-1] if descent is None else descent
        every = super().training_levels(process, descent)
        pairs = zip(every, pairwise(descent), strict=True)
        return [levels for first, (t, t_next) in pairs for levels in (first, self._ahead(process, t, t_next))]

    def step(
        self, process: Process, predict: Predict, x: State, t: float, t_next: float, noise: Noise, within: bool
    ) -> State:
        classes = [name for name, path in process.paths.items() if path.discrete]
        others = process.paths.keys() - classes
        x = self.reversed(process, x, predict(x, t), t, t_next, noise, classes)
        levels = dict(zip(process.paths, self._ahead(process, t, t_next), strict=True))
        return self.reversed(process, x, predict(x, levels), t, t_next, noise, others)

    def transitions(
        self, process: Process, predict: Predict, x: State, x_next: State, t: float, t_next: float
    ) -> dict[str, Transition]:
        classes = [name for name, path in process.paths.items() if path.discrete]
        others = process.paths.keys() - classes
        first = self.moved(process, x, predict(x, t), t, t_next, classes)
        given = x | {name: x_next[name] for name in classes}
        levels = dict(zip(process.paths, self._ahead(process, t, t_next), strict=True))
        return first | self.moved(process, given, predict(given, levels), t, t_next, others)

    @staticmethod
    def _ahead(process: Process, t: float, t_next: float) -> Levels:
        """The levels once the categorical block has moved."""
        return tuple(t_next if path.discrete else t for path in process.paths.values())
