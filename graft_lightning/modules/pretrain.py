"""Pre-training of a reference."""

from typing import Any

from graft_lightning.modules.denoising import DenoisingModule
from graft_lightning.processes.denoiser import Denoiser
from graft_lightning.rejection.reference import Views, open_views


class Pretrain(DenoisingModule):
    """Trains a reference's network on real data: Eq. 6 at s = 0, from scratch or further on.

    Args:
        from_scratch: False continues from the reference's weights.
        method_name: the name in reports.
        arguments: of `DenoisingModule`.
    """

    def __init__(self, from_scratch: bool = True, method_name: str = "pretrained", **arguments: Any) -> None:
        super().__init__(**arguments)
        self.save_hyperparameters()
        self.from_scratch = from_scratch
        self.method_name = method_name

    @property
    def method(self) -> str:
        return self.method_name

    def open_views(self) -> Views:
        network = self.reference.build(pretrained=not self.from_scratch)
        # Guidance is for sampling; the conditional output alone is what learns.
        return open_views(self.reference, network, guidance="absorbed", copies=False)

    def sampling_denoiser(self) -> Denoiser:
        return self.opened().frozen
