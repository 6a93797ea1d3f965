"""An unconditional flow of ours: its weights lie in one file, with what its network was made of."""

from inspect import signature
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from graft_lightning.domains.base.images import UnconditionalFlow
from graft_lightning.domains.base.weights import load_weights, save_weights
from graft_lightning.processes.samplers import Euler, Sampler
from graft_lightning.types import SettingsError


class SavedFlow(UnconditionalFlow):
    """A flow, or with another path and a narrower network the corrector of its noise, that `fit` trains and saves.

    Args:
        weights: safetensors file; needed where the flow is not trained but used.
        sampler: 20 steps of Euler by default.
        path: "linear", where the network gives the velocity eps - x_0, or "trigonometric", the variance-preserving
            path, where it gives the v-prediction.
        network: arguments of `network_class` that are not its defaults.

    Attributes:
        network_class: takes states ``(batch, channels, height, width)`` and times ``(batch,)`` in [0, 1].
        remake: the command that makes the weights, for error messages.
    """

    network_class: ClassVar[type[nn.Module]]
    remake: ClassVar[str]

    def __init__(
        self,
        weights: str | None = None,
        sampler: Sampler | None = None,
        path: Literal["linear", "trigonometric"] = "linear",
        network: dict[str, int] | None = None,
    ) -> None:
        super().__init__(sampler or Euler(steps=20), path)
        self.weights, self.network = weights, dict(network or {})

    @property
    def weights_file(self) -> Path:
        """Where the weights are read.

        Raises:
            SettingsError: if no file is named.
        """
        if self.weights is None:
            raise SettingsError(f"weights is not set; name the file of a trained flow, which `{self.remake}` makes")
        return Path(self.weights)

    def make(self) -> nn.Module:
        """The network, untrained."""
        return self.network_class(**self.network)

    def architecture(self) -> dict[str, Any]:
        """What the network is made of; weights of another one are refused."""
        defaults = {name: p.default for name, p in signature(self.network_class).parameters.items()}
        return defaults | self.network | {"path": self.path_name}

    def build(self, pretrained: bool = True) -> nn.Module:
        network = self.make()
        if pretrained:
            load_weights(network, self.weights_file, self.architecture(), self.remake)
        return network

    def save(self, network: nn.Module, path: Path, provenance: dict[str, Any]) -> None:
        """Writes weights that `build` reads."""
        save_weights(network, path, self.architecture(), provenance)

    def denoise(self, network: nn.Module, x_t: Tensor, t: Tensor, condition: Any) -> Tensor:
        assert isinstance(x_t, Tensor)
        return network(x_t, t.to(x_t.dtype))
