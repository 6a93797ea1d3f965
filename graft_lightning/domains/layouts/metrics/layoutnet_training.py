"""Training of the network that layout FID is measured in, on the layouts at hand.

As published: half of the layouts get Gaussian noise on their boxes, the network tells which, and rebuilds what it was
shown; cross entropies and ten times the squared error of boxes; Adam at 3e-4, batches of 64, elements in the order of
reading. What differs is the number of steps: 200,000 in papers, 500 here by default, some minutes on a CPU.
"""

import fcntl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from graft_lightning.domains.base.weights import load_weights, save_weights
from graft_lightning.domains.layouts.dataset import LayoutSet
from graft_lightning.domains.layouts.layout import edges
from graft_lightning.domains.layouts.metrics.layoutnet import LayoutNet
from graft_lightning.identity import digest_of
from graft_lightning.shuffles import shuffles
from graft_lightning.types import SettingsError

VERSION = 1
"""Raised when the training changes, so that old weights are left alone."""

NOISE = 0.05
"""Standard deviation of the noise on boxes."""

LEARNING_RATE = 3e-4


@dataclass(frozen=True)
class Training:
    """How a network is trained.

    Args:
        steps: of the optimiser.
        batch_size: layouts a step.
        seed: of initial weights, order, noise and dropout.
    """

    steps: int = 500
    batch_size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1:
            raise SettingsError(f"steps={self.steps}, batch_size={self.batch_size}; both must be at least 1")


def trained(layouts: LayoutSet, training: Training, cache: Path, progress: bool = True) -> LayoutNet:
    """A network trained on layouts; read where it was kept, else trained and kept. In evaluation mode, frozen.

    Args:
        layouts: what it is trained on.
        training: how.
        cache: folder in which networks are kept.
        progress: whether to show a progress bar.
    """
    labels, places = len(layouts.vocabulary), layouts.width
    config = {"labels": labels, "max_elements": places}
    made_of = {"version": VERSION, "set": layouts.folder.name, "indices": digest_of(layouts.indices.tolist())}
    path = cache / f"layoutnet-{digest_of({**config, **made_of, **vars(training)})}.safetensors"
    cache.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the first of several processes trains, the others wait
        if path.is_file():
            network = LayoutNet(labels, places)
            load_weights(network, path, config, "deleting it")
        else:
            network = train(layouts, training, progress)
            save_weights(network, path, config, {**made_of, **vars(training)})
    return network.eval().requires_grad_(False)


def train(layouts: LayoutSet, training: Training, progress: bool = True) -> LayoutNet:
    """A freshly trained network. Torch's own generator is left as it was."""
    from tqdm.auto import tqdm

    # metrics are asked for features where no gradient is kept
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        torch.manual_seed(training.seed)
        network = LayoutNet(len(layouts.vocabulary), layouts.width).train()
        optimiser = torch.optim.Adam(network.parameters(), LEARNING_RATE)
        order = shuffles(len(layouts), training.seed, "layoutnet")
        bar = tqdm(range(training.steps), "training LayoutNet", disable=not progress, mininterval=1, leave=False)
        for step in bar:
            start = step * training.batch_size
            found = layouts.read(order.at(range(start, start + training.batch_size)))
            optimiser.zero_grad()
            losses(network, in_reading_order(found)).backward()
            optimiser.step()
    return network


def losses(network: LayoutNet, samples: Any) -> Tensor:
    """The loss of a batch, a scalar; noise comes from torch's own generator."""
    label, mask = samples["label"], samples["mask"]
    noised = torch.rand(len(label)) < 0.5
    noise = NOISE * torch.randn_like(samples["box"]) * noised[:, None, None]
    box = network.seen((samples["box"] + noise).clamp(0, 1))
    features = network.encode(label, box, mask)
    told = F.binary_cross_entropy_with_logits(network.fc_out_disc(features)[:, 0], (~noised).float())
    logits, rebuilt = network.decode(features, mask)
    return told + F.cross_entropy(logits, label[mask] + network.first_label) + 10 * F.mse_loss(rebuilt, box[mask])


def in_reading_order(samples: Any) -> dict[str, Tensor]:
    """The same layouts, elements from top to bottom, and from left to right where tops are equal; padding last."""
    ltrb, mask = edges(samples["box"]), samples["mask"]
    left = ltrb[..., 0].masked_fill(~mask, torch.inf)
    order = left.argsort(stable=True, dim=-1)
    top = ltrb[..., 1].masked_fill(~mask, torch.inf).gather(1, order)
    order = order.gather(1, top.argsort(stable=True, dim=-1))
    return {
        "label": samples["label"].gather(1, order),
        "box": samples["box"].gather(1, order[..., None].expand(-1, -1, 4)),
        "mask": mask.gather(1, order),
    }
