"""How good and how varied generated pictures of digits are, by means that fine-tuning never sees.

The judge is another family of classifier than the reward's, trained on real digits that neither the reward's
classifier nor the generative model has seen.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from graft_lightning.domains.digits.classifier import CLASSIFIER_FILE, NONE, labelled_crops, load_classifier
from graft_lightning.domains.digits.data import CANVAS_SIZE, DIGIT_SIZE, crops, digits
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
            samples: pictures (B, 1, 16, 16) in [0, 1].
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


def mean_pairwise_distance(samples: Tensor) -> Tensor:
    """Return the mean Euclidean distance, a scalar, between two different samples of (B, ...); NaN for fewer than 2."""
    flat = samples.flatten(1).double()
    count = len(flat)
    if count < 2:
        return torch.tensor(torch.nan)
    return (torch.cdist(flat, flat).sum() / (count * (count - 1))).float()


class Diversity:
    """Mean over conditions of the mean pairwise distance within a condition.

    Conditions with a single sample have no distance and are left out.
    """

    def __init__(self) -> None:
        """Start with no samples."""
        self._samples: dict[str, list[Tensor]] = {}

    def update(self, samples: Tensor, conditions: Sequence[str]) -> None:
        """Add samples (B, ...), each under its condition."""
        for sample, condition in zip(samples.detach().cpu(), conditions, strict=True):
            self._samples.setdefault(condition, []).append(sample)

    def per_condition(self) -> dict[str, float]:
        """Return the mean pairwise distance of every condition that has two samples or more."""
        groups = {name: torch.stack(group) for name, group in self._samples.items() if len(group) > 1}
        return {name: mean_pairwise_distance(group).item() for name, group in groups.items()}

    def compute(self) -> float:
        """Return the mean over conditions, NaN where none has two samples."""
        distances = list(self.per_condition().values())
        return sum(distances) / len(distances) if distances else float("nan")


class DigitFeatures(nn.Module):
    """Features of the reward's classifier, for Frechet-like distances (`feature=` of torchmetrics).

    A single digit has 32, a picture of two has those of its four slots, 128.
    """

    def __init__(self, image_size: int = CANVAS_SIZE, classifier: str | None = None) -> None:
        """Load the classifier.

        Args:
            image_size: 8 for single digits, 16 for pictures of two.
            classifier: safetensors file of a `DigitClassifier`; the shipped one if absent.

        Raises:
            ValueError: if `image_size` is another.
        """
        super().__init__()
        if image_size not in (DIGIT_SIZE, CANVAS_SIZE):
            raise ValueError(f"image_size is {image_size}; it is {DIGIT_SIZE} (one digit) or {CANVAS_SIZE} (two)")
        self.image_size = image_size
        self.classifier = load_classifier(Path(classifier or CLASSIFIER_FILE))
        self.num_features = self.classifier.num_features * (1 if image_size == DIGIT_SIZE else len(SLOTS))

    def forward(self, images: Tensor) -> Tensor:
        """Return features (B, num_features) of images (B, 1, image_size, image_size) in [0, 1]."""
        if images.shape[1:] != (1, self.image_size, self.image_size):
            raise ValueError(f"images are {tuple(images.shape)}; (B, 1, {self.image_size}, {self.image_size}) expected")
        pieces = images if self.image_size == DIGIT_SIZE else crops(images)
        return self.classifier.features(pieces.flatten(0, 1)).reshape(len(images), -1)
