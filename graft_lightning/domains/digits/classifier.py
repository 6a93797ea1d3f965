"""The reward's classifier: what does an 8 x 8 crop show, one of the ten digits or none of them?

It is trained on the `reward` third of the real digits and shipped under `data/digits/`. To make it again:

    python -m graft_lightning.domains.digits.classifier
"""

import argparse
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graft_lightning.domains.digits.data import crops, digits, place
from graft_lightning.domains.digits.prompts import BOTTOM, LEFT, RIGHT, TOP
from graft_lightning.shipped import shipped
from graft_lightning.tensors import load_into, read_tensors, write_tensors

CLASSIFIER_FILE = shipped("data/digits/classifier.safetensors")
NONE = 10
"""The class of crops that show no digit."""

REMAKE = "python -m graft_lightning.domains.digits.classifier"


class DigitClassifier(nn.Module):
    """Two convolutions and two linear layers, 21,755 weights; classes 0 to 9 are the digits, 10 is none."""

    num_features = 32

    def __init__(self) -> None:
        """Build the network with random weights."""
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()
        )
        self.to_features = nn.Linear(32 * 4 * 4, self.num_features)
        self.to_logits = nn.Linear(self.num_features, 11)

    def features(self, images: Tensor) -> Tensor:
        """Return features (B, 32) of crops (B, 8, 8) in [0, 1]."""
        return F.relu(self.to_features(self.convolutions(images[:, None] * 2 - 1).flatten(1)))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, 11) of crops (B, 8, 8) in [0, 1]."""
        return self.to_logits(self.features(images))


def load_classifier(path: Path = CLASSIFIER_FILE) -> DigitClassifier:
    """Load the trained classifier, in evaluation mode and without gradients for its weights.

    Raises:
        FileNotFoundError: if the file is absent; the message says how to make it.
        DamagedFile: if its bytes are not those that were written.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no classifier at {path}; `{REMAKE} --output {path}` makes one")
    classifier = DigitClassifier()
    load_into(classifier, read_tensors(path, f"`{REMAKE} --output {path}` makes one")[0], f"path={path}")
    return classifier.eval().requires_grad_(False)


def train_classifier(third: str = "reward", steps: int = 3000, seed: int = 0) -> DigitClassifier:
    """Train a classifier on one third of the real digits: half of each batch shows digits, half shows none."""
    torch.manual_seed(seed)  # initial weights only; the data come from the generator
    generator = torch.Generator().manual_seed(seed)
    classifier = DigitClassifier()
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    for _ in range(steps):
        images, labels = labelled_crops(*digits(third), count=128, generator=generator)
        loss = F.cross_entropy(classifier(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return classifier.eval()


def labelled_crops(images: Tensor, labels: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw crops (2 count, 8, 8) and classes (2 count,): `count` digits, then `count` crops that show none.

    Half of the digits vary a little in size, position and slant. Crops that show none are, in equal parts, what the two
    empty slots of an image show of its digits, digits moved by 3 to 5 pixels, mixtures of two different digits, and
    scattered or empty canvas. Everything carries a little noise, as generated images do.
    """
    shown = torch.randint(len(images), (count,), generator=generator)
    varied, plain = images[shown].split([count // 2, count - count // 2])
    distance = 0.4 * (2 * torch.rand(len(varied), 2, generator=generator) - 1)
    quarter = count // 4
    drawn = torch.cat(
        [
            _moved(varied, distance, generator),
            plain,
            _between_slots(images, quarter, generator),
            _displaced(images, quarter, generator),
            _mixtures(images, labels, quarter, generator),
            _scattered(images, count - 3 * quarter, generator),
        ]
    )
    brightness = 0.8 + 0.3 * torch.rand(len(drawn), 1, 1, generator=generator)
    level = 0.08 * torch.rand(len(drawn), 1, 1, generator=generator)
    drawn = (drawn * brightness + level * torch.randn(drawn.shape, generator=generator)).clamp(0, 1)
    return drawn, torch.cat([labels[shown], torch.full((count,), NONE)])


def _moved(images: Tensor, distance: Tensor, generator: torch.Generator) -> Tensor:
    """Move digits by `distance` (B, 2), in pixels, and distort them by up to 10 % in each linear coefficient."""
    distortion = 0.1 * (2 * torch.rand(len(images), 2, 2, generator=generator) - 1)
    matrix = torch.cat([torch.eye(2) + distortion, (distance / 4)[:, :, None]], dim=2)  # the grid spans 2, pixels 8
    grid = F.affine_grid(matrix, [len(images), 1, 8, 8], align_corners=False)
    return F.grid_sample(images[:, None], grid, align_corners=False)[:, 0]


def _between_slots(images: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """The top or bottom slot of digits side by side, the left or right slot of digits one above the other."""
    pair = images[torch.randint(len(images), (count, 2), generator=generator)]
    upright = torch.rand(count, generator=generator) < 0.5
    used = torch.where(upright[:, None], torch.tensor([TOP, BOTTOM]), torch.tensor([LEFT, RIGHT]))
    empty = torch.where(upright[:, None], torch.tensor([LEFT, RIGHT]), torch.tensor([TOP, BOTTOM]))
    one = torch.randint(2, (count,), generator=generator)
    rows = torch.arange(count)
    return crops(place(pair, used))[rows, empty[rows, one]]


def _displaced(images: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Digits moved by 3 to 5 pixels up, down, left or right, with nothing moving in."""
    shown = images[torch.randint(len(images), (count,), generator=generator)]
    distance = 3 + 2 * torch.rand(count, generator=generator)
    sign = 1 - 2 * torch.randint(2, (count,), generator=generator)
    axis = F.one_hot(torch.randint(2, (count,), generator=generator), 2)
    return _moved(shown, (distance * sign)[:, None] * axis, generator)


def _mixtures(images: Tensor, labels: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Averages of two digits, weights .35 to .65; two of a kind give an empty crop, for they might show a digit."""
    pair = torch.randint(len(images), (count, 2), generator=generator)
    weight = 0.35 + 0.3 * torch.rand(count, 1, 1, generator=generator)
    mixed = weight * images[pair[:, 0]] + (1 - weight) * images[pair[:, 1]]
    return mixed * (labels[pair[:, 0]] != labels[pair[:, 1]])[:, None, None]


def _scattered(images: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Digits with their pixels shuffled, at brightness from 0 to 1.2."""
    scattered = images[torch.randint(len(images), (count,), generator=generator)].flatten(1)
    order = torch.rand(scattered.shape, generator=generator).argsort(dim=1)
    brightness = 1.2 * torch.rand(count, 1, 1, generator=generator)
    return scattered.gather(1, order).reshape(-1, 8, 8) * brightness


@lru_cache(maxsize=1)
def default_classifier() -> DigitClassifier:
    """Return the shipped classifier on the CPU, loaded once."""
    return load_classifier()


def main() -> None:
    """Train on the `reward` third, write the weights, log the accuracy on the other thirds."""
    parser = argparse.ArgumentParser(description="Train the reward's classifier of digits and save its weights.")
    parser.add_argument("--output", type=Path, default=CLASSIFIER_FILE, help="file to write (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and data (default: %(default)s)")
    arguments = parser.parse_args()
    classifier = train_classifier(seed=arguments.seed)
    write_tensors(arguments.output, classifier.state_dict())
    for third in ("reference", "judge"):
        images, labels = digits(third)
        right = (classifier(images).argmax(dim=1) == labels).float().mean().item()
        print(f"{third}: {100 * right:.1f} % of {len(labels)} unseen digits are recognised")


if __name__ == "__main__":
    main()
