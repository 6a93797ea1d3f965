"""The noise corrector: a small model that maps N(0, I) to the inverse noise of a frozen flow."""

import logging
from typing import Any

from torch import Tensor

from graft_lightning.inversion.likelihood import map_log_density
from graft_lightning.modules.corrected import CorrectedFlow, prior_noise, steps_of
from graft_lightning.modules.denoising import DenoisingModule
from graft_lightning.modules.stages import Stage, evaluations_of
from graft_lightning.processes.denoiser import Denoiser
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.objectives import Objective
from graft_lightning.processes.weightings import OwnOutput
from graft_lightning.rejection.reference import FrozenDenoiser, Reference, Views, open_views
from graft_lightning.types import Draws, StateLike

log = logging.getLogger(__name__)


class NoiseCorrector(CorrectedFlow, DenoisingModule):
    """Trains a small flow on inverse noise; samples noise -> corrector -> frozen flow.

    The corrector is a reference like any other, usually the flow's own class with a narrower network. With few steps
    its path matters: a linear path's own Euler error is as large as what it is to correct and shrinks the noise; the
    variance-preserving path (`Trigonometric`, v-prediction) moves standard normal noise not at all.

    Args:
        flow: the frozen flow.
        reference: the corrector: process, network, and the sampler of K_c steps.
        objective: the loss; by default the plain squared error of the network's own output, on both paths.
        arguments: of `DenoisingModule`.
    """

    def __init__(
        self, flow: Reference, reference: Reference, objective: Objective | None = None, **arguments: Any
    ) -> None:
        if reference.guidance_scale != 1:
            raise ValueError(
                f"model.reference.guidance_scale={reference.guidance_scale}; a corrector has no condition to be guided "
                "by: leave it at 1"
            )
        super().__init__(flow=flow, reference=reference, objective=objective or Objective(OwnOutput()), **arguments)
        self.save_hyperparameters()
        self._share: str = ""

    @property
    def method(self) -> str:
        """``inc@`` and the corrector's size in units of the flow's."""
        if not self._share:
            ours, theirs = (
                sum(p.numel() for p in reference.meta_network().parameters())
                for reference in (self.reference, self.flow)
            )
            self._share = f"{ours / theirs:.2g}"
        return f"inc@{self._share}"

    def open_views(self) -> Views:
        return open_views(self.reference, self.reference.build(pretrained=False), copies=False)

    def stages(self) -> list[Stage]:
        corrector = self.reference
        calls = evaluations_of(corrector)
        return [Stage("corrector", corrector, calls, 0, lambda: self.opened().frozen, trained=True), self.flow_stage()]

    def sample(self, draws: Draws, denoiser: Denoiser | None = None) -> StateLike:
        if denoiser is not None:
            raise TypeError("a corrected flow samples from its own networks; sample_base leaves the corrector out")
        return super().sample(draws)

    def sampling_denoiser(self) -> Denoiser:
        return FrozenDenoiser(self.reference, self.network)

    def correct(self, draws: Draws) -> Tensor:
        corrector = self.reference
        noise = prior_noise(corrector, draws, self.device)
        x = corrector.sampler.resume(
            self.sampling_denoiser(),
            corrector.process,
            corrector.encode(draws.conditions, self.device),
            Noise(draws.seeds, self.device),
            noise,
            corrector.process.t_max,
        ).x_0
        assert isinstance(x, Tensor)
        return x

    def log_density(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Exact for the K_c-step map; d x d Jacobians, so for small dimension."""
        found = map_log_density(steps_of(self.reference, self.network, "model.reference"), noise, batch_size=256)
        if not found.one_to_one:
            log.warning(
                "eta L of the corrector's steps reaches %.2f: they may fold, and no density is known; take more steps",
                found.eta_L.max(),
            )
        return found.log_density, found.known
