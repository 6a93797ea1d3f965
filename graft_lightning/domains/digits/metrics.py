"""The judge of generated pairs of digits: a held-out metric that fine-tuning never sees.

It is a classifier of another family than the reward's, trained on real digits that neither the reward's classifier nor
the generative model has seen.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from graft_lightning.domains.digits.classifier import NONE, labelled_crops
from graft_lightning.domains.digits.data import crops, digits
from graft_lightning.domains.digits.prompts import SLOTS
from graft_lightning.domains.digits.rewards import shown
from graft_lightning.rejection.reward import Reward

if TYPE_CHECKING:
    from sklearn.svm import SVC


class DigitPairJudge(Reward):
    """1 where both slots of a layout that satisfies the prompt are recognised as the digits asked for, else 0.

    The recogniser is a support vector machine with a Gaussian kernel, trained by the first call in about a second.
    """

    @torch.no_grad()
    def __call__(self, samples: Tensor, conditions: Sequence[str]) -> Tensor:
        """Return verdicts (B,), float32, NaN for a picture that is not finite.

        Args:
            samples: images (B, 1, 16, 16) in [0, 1].
            conditions: the prompt of each picture.
        """
        finite = samples.flatten(1).isfinite().all(dim=1).cpu()
        pieces = crops(samples.nan_to_num(0.0, 1.0, 0.0)).flatten(0, 1)
        verdict = nn.functional.one_hot(recognise(pieces), NONE + 1).float()
        return shown(verdict.unflatten(0, (-1, len(SLOTS))), conditions).masked_fill(~finite, torch.nan)


def recognise(images: Tensor) -> Tensor:
    """Return the judge's class (B,), int64 on the CPU, of crops (B, 8, 8) in [0, 1]: a digit, or 10 for none."""
    if not len(images):
        return torch.zeros(0, dtype=torch.int64)
    return torch.from_numpy(_recogniser().predict(images.flatten(1).cpu().double().numpy())).long()


@lru_cache(maxsize=1)
def _recogniser() -> "SVC":
    from sklearn.svm import SVC

    images, labels = digits("judge")
    generator = torch.Generator().manual_seed(0)
    drawn, classes = labelled_crops(images, labels, count=600, generator=generator)
    machine = SVC(C=10.0, gamma=0.06)
    return machine.fit(torch.cat([images, drawn]).flatten(1).double().numpy(), torch.cat([labels, classes]).numpy())
