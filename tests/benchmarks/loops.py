"""Both sides of the free networks' table: our sampler and trainer, and what a script of twenty lines does."""

from collections.abc import Callable, Iterator
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from graft_lightning.datamodules.stream import StreamLoader, noise_seeds
from graft_lightning.modules.pretrain import Pretrain
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.outputs import convert
from graft_lightning.processes.schedules import Schedule
from graft_lightning.rejection.reference import FrozenDenoiser
from graft_lightning.types import Batch
from tests.benchmarks.free import TYPES, Case
from tests.benchmarks.measure import clock, seconds, wait

Step = Callable[[], Any]


def our_sampling(case: Case, steps: int, device: str = "cpu") -> Step:
    """A batch by the package's sampler, a seed a trajectory."""
    reference = case.reference(steps)
    denoiser = FrozenDenoiser(reference, reference.build().to(device))
    texts = [""] * case.batch
    condition, static = reference.encode(texts, device), case.static(device)

    def sample() -> Any:
        noise = Noise(torch.arange(case.batch), device)
        return reference.sampler.sample(
            denoiser, reference.process, condition, noise, reference.shape(texts), static=static
        ).x_0

    return sample


def bare_sampling(case: Case, steps: int, device: str = "cpu") -> Step:
    """The same steps with one generator for the batch, coefficients from a table."""
    reference = case.reference(steps)
    network = reference.build().to(device)
    process = reference.process
    levels = torch.tensor(reference.sampler.levels(process), dtype=torch.float64)
    table = _table(process.schedule, levels)
    mask = case.static(device)["mask"] if case.mixed else None

    @torch.no_grad()
    def sample() -> Any:
        x = _centred(torch.randn(case.batch, *case.shape, device=device), mask)
        types = torch.randint(TYPES, (case.batch, case.shape[0]), device=device) if case.mixed else None
        for n in range(steps, 0, -1):
            (a, b), (a_s, b_s) = table[n], table[n - 1]
            t = torch.full((case.batch,), float(levels[n]), device=device)
            raw = network({"positions": x, "types": types} if case.mixed else x, t)
            of_x = raw["positions"] if case.mixed else raw
            found = convert(case.output, of_x, x, a, b)
            spread = max(b**2 - (a / a_s) ** 2 * b_s**2, 0.0) ** 0.5
            new = spread * b_s / b
            x = a_s * found.x_0 + max(b_s**2 - new**2, 0.0) ** 0.5 * found.epsilon
            if new:
                x = x + new * _centred(torch.randn_like(x), mask)
            if case.mixed:
                types = _drawn(raw["types"], types, a**2, a_s**2) * mask
        return x

    return sample


def bare_training(case: Case, steps: int, device: str = "cpu") -> Step:
    """Network, loss, backward pass and optimiser; the same batch throughout."""
    reference = case.reference()
    network = reference.build().to(device)
    optimizer = torch.optim.AdamW(network.parameters())
    schedule = reference.process.schedule
    x_0, mask = _examples(case, device), case.static(device)["mask"] if case.mixed else None
    levels = torch.arange(1, 1001, dtype=torch.float64) * schedule.t_max / 1000
    alphas, sigmas = (v.float().to(device) for v in schedule.coefficients(levels))

    def train() -> None:
        for _ in range(steps):
            place = torch.randint(1000, (case.batch,), device=device)
            a, b = (v[place].view(-1, *[1] * len(case.shape)) for v in (alphas, sigmas))
            x = x_0["positions"] if case.mixed else x_0
            e = _centred(torch.randn_like(x), mask)
            x_t, target = a * x + b * e, {"epsilon": e, "flow": e - x}.get(case.output)
            target = a * e - b * x if target is None else target
            if case.mixed:
                raw = network({"positions": x_t, "types": _noised(x_0["types"], a.flatten() ** 2)}, place)
                loss = ((raw["positions"] - target) ** 2).mean()
                loss = loss + nn.functional.cross_entropy(raw["types"].movedim(-1, 1), x_0["types"])
            else:
                loss = ((network(x_t, place) - target) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return train


class Empty(L.LightningModule):
    """One weight and nothing to do: what is timed is Lightning's own loop."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def training_step(self, batch: Any, index: int) -> Tensor:
        return self.weight * 0.0

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters())


class Clock(L.Callback):
    """When two steps ended; it is not looked at between them, as it is not in a bare loop.

    Args:
        first: number of the one, counted from 0.
        last: of the other.
    """

    def __init__(self, first: int, last: int) -> None:
        self.at, self.steps, self.ends = (first, last), 0, list[float]()

    def on_train_batch_end(self, *given: Any) -> None:
        if self.steps in self.at:
            wait()
            self.ends.append(clock())
        self.steps += 1


def our_module(case: Case) -> L.LightningModule:
    """Pre-training with the free network: the step of every objective here."""
    return Pretrain(reference=case.reference())


def fitted(
    module: L.LightningModule, x: Any, texts: list[str], steps: int, accelerator: str = "cpu", **settings: Any
) -> float:
    """Seconds a step of ``Trainer.fit``, from the end of the first fifth of its steps to that of the last.

    Args:
        module: is trained.
        x: the states of every batch.
        texts: their conditions.
        steps: how many.
        accelerator: "cpu" or "gpu".
        settings: of the trainer.
    """

    def read(positions: Any) -> Batch:
        return Batch(x, texts, noise_seeds(0, positions), torch.ones(len(texts)))

    between = Clock(first := steps // 5, steps - 1)
    trainer = L.Trainer(
        max_steps=steps,
        accelerator=accelerator,
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[between],
        **settings,
    )
    trainer.fit(module, StreamLoader(read, len(texts), steps))
    return (between.ends[1] - between.ends[0]) / (steps - 1 - first)


def trained(case: Case, steps: int, accelerator: str = "cpu") -> Iterator[tuple[float, float, float]]:
    """Seconds a step of ours, by hand, and of Lightning's loop around nothing, again and again."""
    bare = bare_training(case, steps, "cpu" if accelerator == "cpu" else "cuda")
    x, texts = _examples(case, "cpu"), [""] * case.batch
    while True:
        ours, empty = (fitted(module, x, texts, steps, accelerator) for module in (our_module(case), Empty()))
        yield ours, seconds(bare) / steps, empty


def _table(schedule: Schedule, levels: Tensor) -> list[tuple[float, float]]:
    return [(float(a), float(b)) for a, b in zip(*schedule.coefficients(levels), strict=True)]


def _examples(case: Case, device: str) -> Any:
    x = torch.randn(case.batch, *case.shape, device=device)
    if not case.mixed:
        return x
    types = torch.randint(TYPES, x.shape[:2], device=device)
    return {"positions": x, "types": types, **case.static(device)}


def _centred(x: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return x
    weight = mask.unsqueeze(-1)
    return (x - (x * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True)) * weight


def _noised(types: Tensor, survival: Tensor) -> Tensor:
    """Types that survive, or are drawn anew."""
    anew = torch.rand(types.shape, device=types.device) >= survival[:, None]
    return torch.where(anew, torch.randint_like(types, TYPES), types)


def _drawn(logits: Tensor, types: Tensor, survival: float, earlier: float) -> Tensor:
    """A draw of the earlier types, the clean ones summed out, uniform over all classes where they do not survive."""
    here = nn.functional.one_hot(types, TYPES).float()
    kept = survival / earlier
    share = logits.softmax(-1) / (survival * here + (1 - survival) / TYPES)
    prior = earlier * share + (1 - earlier) / TYPES * share.sum(-1, keepdim=True)
    posterior = (kept * here + (1 - kept) / TYPES) * prior
    return posterior.flatten(0, 1).multinomial(1).view(types.shape)
