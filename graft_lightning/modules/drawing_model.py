"""The model that drew a round of the pool, once training has gone on from it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from graft_lightning.processes.denoiser import Denoiser


class DrawingModel(Denoiser):
    """The trained model as it was when it drew: its weights of then, put in for the time of a call.

    One copy of the trained parameters is all that it takes, under LoRA that of the adapters. Nothing is dropped out.

    Args:
        trained: the view that is trained.
        network: holds its parameters; in one piece.
        weights: of then, by name, of all that is trained.
    """

    def __init__(self, trained: Denoiser, network: nn.Module, weights: Mapping[str, Tensor]) -> None:
        self.trained, self.network, self.weights = trained, network, weights
        self.output, self.boundaries, self.origin = trained.output, trained.boundaries, trained.origin

    @torch.no_grad()
    def __call__(self, x_t: Any, t: Tensor, condition: Any) -> Any:
        parameters = dict(self.network.named_parameters())
        now = {name: parameters[name].data for name in self.weights}
        training = [part for part in self.network.modules() if part.training]
        try:
            for part in training:
                part.training = False
            for name, weight in self.weights.items():
                parameters[name].data = weight.to(now[name].device)
            return self.trained(x_t, t, condition)
        finally:
            for name, weight in now.items():
                parameters[name].data = weight
            for part in training:
                part.training = True


def weights_now(network: nn.Module) -> dict[str, Tensor]:
    """Copies of the trained parameters, by name."""
    return {name: p.detach().clone() for name, p in network.named_parameters() if p.requires_grad}
