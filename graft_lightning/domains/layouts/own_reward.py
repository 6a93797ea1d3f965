"""A reward of layouts. Change `score`: the larger the number of a layout, the sooner it is trained on.

It need not be differentiable. NaN says that a layout cannot be judged: it is counted, and never accepted.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor


def score(samples: Mapping[str, Tensor], conditions: Sequence[str]) -> Tensor:
    """How large the elements are: the mean share of the page that one takes.

    Args:
        samples: padded layouts: ``box`` ``(batch, elements, 4)``, centre and size as shares of the page's sides, and
            ``label`` and ``mask`` ``(batch, elements)``, True where there is an element.
        conditions: what was asked for, such as "n=7", a text a layout.

    Returns:
        One number a layout, ``(batch,)``; NaN without an element.
    """
    box, mask = samples["box"], samples["mask"]
    return (box[..., 2] * box[..., 3] * mask).sum(1) / mask.sum(1)
