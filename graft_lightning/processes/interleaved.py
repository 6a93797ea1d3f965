"""Interleaved sampling of mixed states: one block after the other, each given what the other has become."""

from graft_lightning.processes.grids import Grid
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.paths import CategoricalPath, GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.samplers import DDIM, Predict, update_fields
from graft_lightning.types import State, mask_of


class Interleaved(DDIM):
    """Block Gibbs steps (after IGD, arXiv 2502.13450): the categorical block moves first, the Gaussian one follows.

    At a step t -> t_next the categorical fields move given the Gaussian ones at t; the Gaussian fields then move given
    the *new* classes, which asks the denoiser for the pair of levels (t_next, t). A step costs two evaluations. Moving
    all fields by one prediction is `DDPM` or `DDIM`, the factorised baseline. The denoiser must have been trained at
    both pairs of levels: `GridTime` with ``interleaved``.

    Args:
        steps: N.
        eta: share of the ancestral noise in the Gaussian fields; 1 is ancestral sampling.
        grid: which levels are visited; the process's own grid by default.
        clip_sample: bound of |x_0| of the Gaussian fields.
    """

    def __init__(
        self, steps: int = 50, eta: float = 1.0, grid: Grid | None = None, clip_sample: float | None = None
    ) -> None:
        super().__init__(steps, eta, grid, clip_sample)
        self.stochastic = True  # the categorical block always is

    def evaluations(self, within: bool) -> int:
        return 2

    def step(
        self, process: Process, predict: Predict, x: State, t: float, t_next: float, noise: Noise, within: bool
    ) -> State:
        update = self.reversal(t, t_next, noise, mask_of(x))
        x = update_fields(process, x, predict(x, t), update, only=CategoricalPath)
        levels = {n: t_next if isinstance(path, CategoricalPath) else t for n, path in process.paths.items()}
        return update_fields(process, x, predict(x, levels), update, only=GaussianPath)
