"""A frozen flow whose noise is corrected before it is sampled: what every corrector shares (Eq. 8, 9)."""

import copy
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from graft_lightning.identity import comparable, differences
from graft_lightning.inversion.sampler_steps import SamplerSteps
from graft_lightning.modules.sampled import SampledModule
from graft_lightning.modules.stages import Stage, evaluations_of
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.samplers import Sampler
from graft_lightning.processes.schedules import RectifiedFlow
from graft_lightning.rejection.reference import FrozenDenoiser, Reference, TrainableDenoiser
from graft_lightning.types import Draws, SettingsError, StateLike


class CorrectedFlow(SampledModule):
    """Noise -> corrector -> frozen flow.

    The flow is no part of the checkpoint, which holds the corrector and the fingerprint of the flow that it was made
    for; another flow, or another sampler of the same, is refused when it is loaded.

    Args:
        flow: the frozen flow, a rectified one; its sampler is what was inverted and what samples.
        arguments: of the class beside this one: `DenoisingModule`, where the corrector is trained.
    """

    has_base = True
    inverts = True

    def __init__(self, flow: Reference, **arguments: Any) -> None:
        super().__init__(**arguments)
        schedule = flow.process.gaussian.schedule
        if not isinstance(schedule, RectifiedFlow):
            raise ValueError(f"model.flow has the schedule {type(schedule).__name__}; a RectifiedFlow can be inverted")
        if flow.guidance_scale != 1:
            raise ValueError(f"model.flow.guidance_scale={flow.guidance_scale}; only an unguided flow can be inverted")
        self.flow = flow
        self._frozen: list[nn.Module] = []  # in a list, so that it is no submodule: nothing trains or saves it
        self._flow_fingerprint: dict[str, Any] | None = None

    @property
    def decoder(self) -> Reference:
        return self.flow

    @property
    def flow_network(self) -> nn.Module:
        """The frozen network.

        Raises:
            RuntimeError: before `configure_model`.
        """
        if not self._frozen:
            raise RuntimeError("the networks are not built yet; configure_model() builds them")
        return self._frozen[0]

    def configure_model(self) -> None:
        if not self._frozen:
            self._frozen.append(self.flow.build().requires_grad_(False).eval())
            if self.flow.compile:
                self._frozen[0].compile()
        super().configure_model()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        super()._apply(fn, recurse)
        for network in self._frozen:
            network._apply(fn)
        return self

    @abstractmethod
    def correct(self, draws: Draws) -> Tensor:
        """Corrected noise of the draws' own seeds, at t = 1, ``(batch, *shape)``."""

    @abstractmethod
    def log_density(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The corrector's log density of noise ``(batch, *shape)``, nats, and where it is known; ``(batch,)`` both."""

    def flow_stage(self) -> Stage:
        """The frozen flow, which the base is, and which a corrected sample ends with."""
        calls = evaluations_of(self.flow)
        return Stage("flow", self.flow, calls, calls, lambda: FrozenDenoiser(self.flow, self.flow_network))

    def sample(self, draws: Draws) -> StateLike:
        return self._through_flow(draws, self.correct(draws))

    def sample_base(self, draws: Draws) -> StateLike:
        """What the flow makes of the same seeds without the corrector."""
        noise = Noise(draws.seeds, self.device)
        return self._through_flow(draws, self.flow.process.prior(self.flow.shape(draws.conditions), noise))

    def _through_flow(self, draws: Draws, noise: StateLike) -> StateLike:
        flow = self.flow
        return flow.sampler.resume(
            FrozenDenoiser(flow, self.flow_network),
            flow.process,
            flow.encode(draws.conditions, self.device),
            Noise(draws.seeds, self.device),
            noise,
            flow.process.t_max,
        ).x_0

    def flow_steps(self, double: bool = False) -> SamplerSteps:
        """The frozen flow's sampler, step by step, differentiable.

        Args:
            double: by a copy of the network in float64.

        Raises:
            SettingsError: if the sampler has no inverse; names what is wrong.
        """
        network = copy.deepcopy(self.flow_network).double() if double else self.flow_network
        return steps_of(self.flow, network, "model.flow")

    def flow_fingerprint(self) -> dict[str, Any]:
        """What the inverse noise, and so the corrector, depends on."""
        if self._flow_fingerprint is None:
            self._flow_fingerprint = self.flow.fingerprint(self.flow_network)
        return self._flow_fingerprint

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["flow"] = self.flow_fingerprint()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses a corrector that was made for another flow.

        Raises:
            SettingsError: naming each differing key and both values.
        """
        super().on_load_checkpoint(checkpoint)
        stored, own = checkpoint.get("flow", {}), self.flow_fingerprint()
        if different := differences(comparable(stored, own), comparable(own, stored)):
            raise SettingsError(f"the checkpoint's corrector was made for another model.flow ({'; '.join(different)})")


def steps_of(reference: Reference, network: nn.Module, key: str, sampler: Sampler | None = None) -> SamplerSteps:
    """The steps of an unconditional reference's sampler, differentiable.

    Args:
        reference: gives process and sampler.
        network: its network, in the mode in which it is to be evaluated.
        key: the setting to name where the sampler has no inverse.
        sampler: another than the reference's own.

    Raises:
        SettingsError: if the sampler is stochastic, clips, or does not run from 0 to 1.
    """
    device = next(network.parameters()).device
    try:
        return SamplerSteps(
            sampler or reference.sampler,
            reference.process,
            TrainableDenoiser(reference, network),
            lambda count: reference.encode([""] * count, device),
        )
    except ValueError as error:
        raise SettingsError(f"{key}: {error}") from None


def prior_noise(reference: Reference, draws: Draws, device: torch.device) -> Tensor:
    """Standard normal noise of the draws' seeds, the same that the flow alone would start from."""
    noise = reference.process.prior(reference.shape(draws.conditions), Noise(draws.seeds, device))
    assert isinstance(noise, Tensor)
    return noise
