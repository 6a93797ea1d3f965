"""The reward of the digits domain: how probably does the picture show the prompt?"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from graft_lightning.domains.digits.classifier import CLASSIFIER_FILE, DigitClassifier, load_classifier
from graft_lightning.domains.digits.data import crops
from graft_lightning.domains.digits.prompts import SLOTS, layouts
from graft_lightning.rejection.reward import Reward


class DigitPairReward(Reward):
    """Probability, by a classifier of single digits, that a picture shows its prompt.

    The sum over the layouts that satisfy the prompt of the product over the layout's two slots of the classifier's
    probability of the digit asked for, at most 1.
    """

    def __init__(self, classifier: str | None = None) -> None:
        """Remember where the classifier is; the first call loads it.

        Args:
            classifier: safetensors file of a `DigitClassifier`; the shipped one if absent.
        """
        self.path = classifier
        self.device = torch.device("cpu")
        self._classifier: DigitClassifier | None = None

    def to(self, device: torch.device | str) -> "DigitPairReward":
        """Compute on `device`, and return the reward."""
        self.device = torch.device(device)
        if self._classifier is not None:
            self._classifier.to(self.device)
        return self

    @torch.no_grad()
    def __call__(self, samples: Tensor, conditions: Sequence[str]) -> Tensor:
        """Return the probabilities (B,), float32, on the device of the reward.

        Args:
            samples: images (B, 1, 16, 16) in [0, 1]. Where one holds a NaN its reward is NaN.
            conditions: the prompt of each picture.

        Raises:
            ValueError: if a prompt is not understood, images have another shape, or their number is not that of the
                prompts.
        """
        if self._classifier is None:
            self._classifier = load_classifier(Path(self.path or CLASSIFIER_FILE)).to(self.device)
        pieces = crops(samples.to(self.device, torch.float32))
        probability = self._classifier(pieces.flatten(0, 1)).softmax(dim=1).unflatten(0, (-1, len(SLOTS)))
        return shown(probability, conditions)


def shown(probability: Tensor, prompts: Sequence[str]) -> Tensor:
    """Return the probability (B,) that each prompt is shown, given (B, 4, >= 10): what each slot shows.

    Raises:
        ValueError: if the number of prompts is not B, or one is not understood.
    """
    if len(probability) != len(prompts):
        raise ValueError(f"{len(probability)} images, but {len(prompts)} prompts")
    # One entry for every acceptable layout of every prompt: the prompt's row, then slot and digit of both places.
    entries = [(row, *layout[0], *layout[1]) for row, prompt in enumerate(prompts) for layout in layouts(prompt)]
    index = torch.tensor(entries, dtype=torch.int64, device=probability.device).reshape(-1, 5)
    row, slot_1, digit_1, slot_2, digit_2 = index.T
    product = probability[row, slot_1, digit_1] * probability[row, slot_2, digit_2]
    return probability.new_zeros(len(prompts)).index_add(0, row, product).clamp(max=1)
