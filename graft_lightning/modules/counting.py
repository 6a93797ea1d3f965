"""Counting floating-point operations, in the same way wherever they are reported."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@contextmanager
def counted_operations() -> Iterator[FlopCounterMode]:
    """PyTorch's own counter: products, convolutions and attention, a multiplication and an addition as two.

    What acts element by element is not counted. Attention is computed by its formula meanwhile: the counter knows
    products, but not the fused kernel that a CPU would choose, and metrics must not depend on the device.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        yield counter
