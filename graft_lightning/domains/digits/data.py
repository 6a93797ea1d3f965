"""Images of two handwritten digits, made from the 8 x 8 digits that come with scikit-learn.

A picture is a 16 x 16 canvas with one digit in each of two slots: side by side (left, right) or one above the other
(top, bottom). The real digits are split once into thirds that never meet: the generative model is pre-trained on
`reference`, the reward's classifier on `reward`, the judge, a held-out metric, on `judge`.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.utils.data import Dataset

from graft_lightning.domains.digits.prompts import BOTTOM, LEFT, RELATIONS, RIGHT, TOP, kind_prompt, relation_prompt
from graft_lightning.processes.splitmix import STEP, mixed, shifted_right

THIRDS = ("reference", "reward", "judge")
DIGIT_SIZE = 8
CANVAS_SIZE = 16
CORNERS = {LEFT: (4, 0), RIGHT: (4, 8), TOP: (0, 4), BOTTOM: (8, 4)}
"""Upper left corner (row, column) of each slot on the canvas."""

_ARRANGEMENTS = torch.tensor([[LEFT, RIGHT], [TOP, BOTTOM]])
_SPLIT_SEED = 0


@lru_cache(maxsize=3)
def digits(third: str) -> tuple[Tensor, Tensor]:
    """Return one third of the real digits: images (n, 8, 8), float32 in [0, 1], and labels (n,), int64.

    The split is stratified by digit and drawn from a fixed seed. The tensors are shared: copy before writing.

    Raises:
        ValueError: if `third` is not one of `THIRDS`.
    """
    if third not in THIRDS:
        raise ValueError(f"third {third!r} is unknown; there are {', '.join(THIRDS)}")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(bunch.images).float() / 16
    labels = torch.from_numpy(bunch.target).long()
    generator = torch.Generator().manual_seed(_SPLIT_SEED)
    parts = []
    for digit in range(10):
        members = (labels == digit).nonzero()[:, 0]
        members = members[torch.randperm(len(members), generator=generator)]
        # The remainder of a class goes to another third for each digit, so that the thirds stay equally large.
        parts.append(members[(THIRDS.index(third) + digit) % 3 :: 3])
    chosen = torch.cat(parts).sort().values
    return images[chosen], labels[chosen]


def place(images: Tensor, slots: Tensor) -> Tensor:
    """Return canvases (B, 1, 16, 16) in [0, 1] that hold the digits `images` (B, n, 8, 8) in their `slots` (B, n).

    The two slots of an arrangement do not overlap; where others do, the brighter pixel wins.
    """
    canvas = images.new_zeros(len(images), 1, CANVAS_SIZE, CANVAS_SIZE)
    for slot, (row, column) in CORNERS.items():
        shown = (images * (slots == slot)[:, :, None, None]).amax(dim=1)
        window = canvas[:, 0, row : row + DIGIT_SIZE, column : column + DIGIT_SIZE]
        torch.maximum(window, shown, out=window)
    return canvas


def crops(pictures: Tensor) -> Tensor:
    """Return the four slots (B, 4, 8, 8) of pictures (B, 1, 16, 16), in the order of `prompts.SLOTS`.

    Raises:
        ValueError: if the pictures have another shape.
    """
    if pictures.shape[1:] != (1, CANVAS_SIZE, CANVAS_SIZE):
        raise ValueError(f"images are {tuple(pictures.shape)}; (B, 1, {CANVAS_SIZE}, {CANVAS_SIZE}) is expected")
    windows = [pictures[:, 0, r : r + DIGIT_SIZE, c : c + DIGIT_SIZE] for r, c in CORNERS.values()]
    return torch.stack(windows, dim=1)


class DigitPairs(Dataset[tuple[Tensor, str]]):
    """Endless variety of captioned images; picture i is a function of (`seed`, i) alone.

    Both digits are drawn uniformly from the real digits of one third, and the arrangement by a fair coin. A share of
    the captions is wrong, as captions from the web are: it describes another picture, drawn independently (and so is
    right by chance about once in 180).
    """

    def __init__(self, length: int, seed: int = 0, third: str = "reference", wrong_captions: float = 0.4) -> None:
        """Describe the pictures.

        Args:
            length: number of images.
            seed: pictures of two seeds are independent.
            third: which real digits are shown, one of `THIRDS`.
            wrong_captions: share of captions that are drawn independently of their picture, in [0, 1].

        Raises:
            ValueError: if an argument is outside its range.
        """
        if length < 1:
            raise ValueError(f"length is {length}; at least 1 picture is needed")
        if not 0 <= wrong_captions <= 1:
            raise ValueError(f"wrong_captions is {wrong_captions}; it is a share in [0, 1]")
        if third not in THIRDS:
            raise ValueError(f"third {third!r} is unknown; there are {', '.join(THIRDS)}")
        self.length, self.seed, self.third, self.wrong_captions = length, seed, third, wrong_captions

    def __len__(self) -> int:
        """Return the number of images."""
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, str]:
        """Return picture (1, 16, 16) in model space [-1, 1] and caption number `index`."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, str]]:
        """Return the pictures of a batch: what a data loader calls, many times faster than one by one."""
        outside = [index for index in indices if not 0 <= index < self.length]
        if outside:
            raise IndexError(f"picture {outside[0]} of {self.length}")
        return list(zip(*self.batch(torch.as_tensor(indices)), strict=True))

    def batch(self, indices: Tensor) -> tuple[Tensor, list[str]]:
        """Return pictures (B, 1, 16, 16) in model space [-1, 1] and their captions, for indices (B,)."""
        uniform = _uniforms(self.seed, indices, columns=8)
        images, labels = digits(self.third)
        chosen, arrangement = _drawn(uniform[:, :3], len(labels))
        other, other_arrangement = _drawn(uniform[:, 3:6], len(labels))
        wrong = uniform[:, 6] < self.wrong_captions
        told = labels[torch.where(wrong[:, None], other, chosen)]
        told_arrangement = torch.where(wrong, other_arrangement, arrangement)
        wording = (uniform[:, 7] < 0.5).long()
        pictures = place(images[chosen], _ARRANGEMENTS[arrangement]) * 2 - 1
        return pictures, [_caption(*row) for row in torch.stack([*told.T, told_arrangement, wording], dim=1).tolist()]


def _drawn(uniform: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Turn uniforms (B, 3) into indices of two of `count` digits (B, 2) and an arrangement (B,), 0 or 1."""
    return (uniform[:, :2] * count).long().clamp(max=count - 1), (uniform[:, 2] < 0.5).long()


def _caption(first: int, second: int, arrangement: int, wording: int) -> str:
    """Describe digits `first` (left or top) and `second` (right or bottom)."""
    if first == second:
        return kind_prompt(first)
    relation = list(RELATIONS)[2 * arrangement + wording]
    return relation_prompt(second, relation, first) if wording else relation_prompt(first, relation, second)


def _uniforms(seed: int, indices: Tensor, columns: int) -> Tensor:
    """Return uniforms (B, columns), float64 in [0, 1), each a function of (seed, index, column) alone.

    A counter through the finaliser of SplitMix64 (Steele, Lea and Flood, 2014): a torch.Generator per picture would
    cost more than the picture.
    """
    counter = indices.long()[:, None] * columns + torch.arange(columns)
    bits = mixed(mixed(torch.tensor(seed)) + counter * STEP)
    return shifted_right(bits, 11).double() / 2**53
