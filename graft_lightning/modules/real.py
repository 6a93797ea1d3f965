"""Real data in the place of a model: the floor that no measure of distance goes below at this number of samples."""

from graft_lightning.domains.base import Examples
from graft_lightning.modules.sampled import SampledModule
from graft_lightning.rejection.reference import Reference
from graft_lightning.types import Draws, StateLike, on_device


class RealData(SampledModule):
    """Gives real examples where a model would give samples; only to be tested.

    Args:
        reference: decodes and draws them; its network is not built.
        examples: draw number k is position k of their stream.
        seed: of the stream.
        method_name: the name in reports.
    """

    untrained = "real data are only read"

    def __init__(self, reference: Reference, examples: Examples, seed: int = 0, method_name: str = "real") -> None:
        super().__init__()
        self.reference, self.examples, self.seed, self.method_name = reference, examples, seed, method_name

    @property
    def method(self) -> str:
        return self.method_name

    @property
    def decoder(self) -> Reference:
        return self.reference

    def sample(self, draws: Draws) -> StateLike:
        x, _ = self.examples.batch(draws.draw.clamp_min(0).tolist(), self.seed)
        moved: StateLike = on_device(x, self.device)
        return moved
