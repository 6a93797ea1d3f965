"""The stitched denoiser: one model above the hand-off level, another at and below it."""

from typing import Any

import torch
from torch import Tensor

from graft_lightning.processes.denoiser import Denoiser


class Stitched(Denoiser):
    """``above`` where t > handoff, ``below`` where t <= handoff.

    A step belongs wholly to the model of its *input*: the step from state n to n - 1 is made by ``above`` if and only
    if n > N_I. P-GRAFT puts the fine-tuned model above and the reference below; RP-GRAFT the other way round. A sampler
    whose grid lacks the hand-off inserts it (see `boundaries`). A state whose fields move one by one belongs to the
    model of the field that is last.

    Args:
        above: denoiser of the levels t > handoff.
        below: denoiser of the levels t <= handoff.
        handoff: the level s.
    """

    def __init__(self, above: Denoiser, below: Denoiser, handoff: float) -> None:
        if above.output != below.output:
            raise ValueError(f"stitched models must share their output type: {above.output} and {below.output}")
        self.above, self.below, self.handoff = above, below, handoff
        self.output = above.output
        own = (handoff,) if handoff > 0 else ()
        self.boundaries = tuple(sorted({*above.boundaries, *below.boundaries, *own}))

    def __call__(self, x_t: Any, t: Tensor, condition: Any) -> Any:
        """As `Denoiser.__call__`. A loop that knows the level asks for the model (`at`) and has nothing to read back.

        Raises:
            ValueError: if the batch lies on both sides of the hand-off.
        """
        levels = t if t.ndim == 1 else t.amax(1)
        lowest, highest = torch.stack(levels.aminmax()).tolist()
        if (highest > self.handoff) != (lowest > self.handoff):
            raise ValueError(
                f"a batch lies on both sides of the hand-off {self.handoff:g}: t from {lowest} to {highest}"
            )
        return self.at(highest)(x_t, t, condition)

    def at(self, t: float) -> Denoiser:
        return (self.above if t > self.handoff else self.below).at(t)
