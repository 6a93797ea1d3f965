"""``make bench``: what the framework costs beside a bare loop over the same network, as ratios taken in one run.

Timed parts alternate, and the median of their ratios is printed, so that a busy machine disturbs both sides alike; and
it is the processor's time that is measured.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import lightning as L
import torch
from torch import Tensor

from graft_lightning.allocator import keep_freed_memory
from graft_lightning.datamodules.accepted import AcceptedTrajectories
from graft_lightning.domains.digits import DigitPrompts, DigitReference
from graft_lightning.modules.graft import PGraft
from graft_lightning.processes import objectives
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.objectives import Objective
from graft_lightning.processes.samplers import DDPM
from graft_lightning.processes.weightings import CappedInverseAlpha
from graft_lightning.rejection.acceptance import TopK
from graft_lightning.rejection.collection import Collection
from graft_lightning.rejection.reference import FrozenDenoiser
from graft_lightning.rejection.reward import Reward
from tests.benchmarks import report
from tests.benchmarks.loops import Clock, Empty, fitted
from tests.benchmarks.measure import Compared, clock, of_pairs, seconds
from tests.domains.text_to_image.throughput import loops

REPEATS = 9
SAMPLES, STEPS = 256, 20
TRAINING_STEPS = 60


class Random(Reward):
    """A reward that costs nothing."""

    def __call__(self, samples: Any, conditions: Any) -> Tensor:
        return torch.rand(len(conditions), generator=torch.Generator().manual_seed(0))


def ratio(ours: Callable[[], Any], bare: Callable[[], Any]) -> tuple[float, float]:
    """Throughput of ``ours`` relative to ``bare`` (1 is equal), and the bare seconds; medians of alternating runs."""
    ours(), bare()
    pairs = [(seconds(bare), seconds(ours)) for _ in range(REPEATS)]
    return statistics.median(b / o for b, o in pairs), statistics.median(b for b, _ in pairs)


def sampling(reference: DigitReference) -> tuple[float, float]:
    """Our sampler with a seed per trajectory, against the textbook loop with one generator for the batch."""
    network = reference.build(pretrained=False)
    texts = (DigitPrompts("train").texts() * SAMPLES)[:SAMPLES]
    tokens = reference.encode(texts, "cpu")
    process = reference.process
    levels = torch.tensor(reference.sampler.levels(process))
    alpha, sigma = (value.float() for value in process.gaussian.alpha_sigma(levels))
    denoiser = FrozenDenoiser(reference, network)

    def ours() -> None:
        reference.sampler.sample(
            denoiser, process, tokens, Noise(torch.arange(SAMPLES)), reference.shape(texts), keep=[levels[5].item()]
        )

    @torch.no_grad()
    def bare() -> None:
        x = torch.randn(SAMPLES, 1, 16, 16)
        for n in range(STEPS, 0, -1):
            v = network(x, (levels[n] / 1000).float().expand(SAMPLES), tokens)
            x_0 = (alpha[n] * x - sigma[n] * v).clamp(-1, 1)
            ratio = alpha[n] / alpha[n - 1]
            spread = (sigma[n] ** 2 - ratio**2 * sigma[n - 1] ** 2).sqrt()
            x = (ratio * sigma[n - 1] ** 2 * x + alpha[n - 1] * spread**2 * x_0) / sigma[n] ** 2
            x = x + spread * sigma[n - 1] / sigma[n] * torch.randn_like(x)

    return ratio(ours, bare)


def filled_pool(folder: Path, reference: DigitReference) -> AcceptedTrajectories:
    """A datamodule on a small pool of an untrained reference."""
    network = reference.build(pretrained=False)
    collection = Collection(reference, [Random()], folder / "pool", DigitPrompts("train").texts(), 16, [0.25])
    opened = collection.fill(FrozenDenoiser(reference, network), {}).round
    data = AcceptedTrajectories(DigitPrompts("train"), TopK(4), str(folder / "pool"), 64, TRAINING_STEPS, seed=0)
    data.use(opened, "Random", next(iter(opened.kept_levels)))
    return data


class Timed:
    """A function, and the median of what its calls take of their thread in the place where they are made.

    After a step of a network less of what is called next is in the processor's caches than in a row of such calls.
    """

    def __init__(self, work: Callable[..., Any]) -> None:
        self._work, self._took = work, list[float]()

    def __call__(self, *given: Any, **named: Any) -> Any:
        start = time.thread_time()
        found = self._work(*given, **named)
        self._took.append(time.thread_time() - start)
        return found

    @property
    def milliseconds(self) -> float:
        return statistics.median(self._took) * 1e3


class Training(NamedTuple):
    """A step of a fit against a bare one.

    Attributes:
        step: both.
        once: milliseconds that a fit takes besides: to begin and to end.
        reading: of a batch of the pool, milliseconds within a step.
        noising: of levels and noise, milliseconds within a step.
    """

    step: Compared
    once: float
    reading: float
    noising: float


def training(reference: DigitReference, data: AcceptedTrajectories, folder: Path) -> Training:
    """A step of ``Trainer.fit`` of P-GRAFT from the pool, against a bare loop of network, loss and optimiser.

    The processor's time between two steps of a fit.
    """
    reference.save(reference.build(pretrained=False), folder / "weights.safetensors", {})
    reference.weights = str(folder / "weights.safetensors")
    module = PGraft(handoff=0.25, reference=reference, objective=Objective(CappedInverseAlpha()))
    module.configure_model()
    network = reference.build(pretrained=False)
    optimizer = torch.optim.AdamW(network.parameters())
    batch = data.read(range(64))
    tokens = reference.encode(batch.conditions, "cpu")
    alphas, sigmas = (v.float() for v in reference.process.gaussian.alpha_sigma(torch.arange(1001)))
    first, last = TRAINING_STEPS // 6, TRAINING_STEPS - 1
    loader = data.train_dataloader()
    loader.read, noising = (reading := Timed(loader.read)), Timed(objectives.noisy)

    def ours() -> tuple[float, float]:
        ends = Clock(first, last)
        start = clock()
        trainer = L.Trainer(
            max_steps=TRAINING_STEPS,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[ends],
        )
        with patch.object(objectives, "noisy", noising):
            trainer.fit(module, train_dataloaders=loader)
        whole, step = clock() - start, (ends.ends[1] - ends.ends[0]) / (last - first)
        return step, whole - step * TRAINING_STEPS

    def bare() -> float:
        start = clock()
        for _ in range(TRAINING_STEPS):
            t = torch.randint(251, 1001, (64,))
            a, s = alphas[t].view(-1, 1, 1, 1), sigmas[t].view(-1, 1, 1, 1)
            e = torch.randn_like(batch.x)
            loss = ((network(a * batch.x + s * e, t / 1000, tokens) - e) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return (clock() - start) / TRAINING_STEPS

    ours(), bare()
    rows = [(*ours(), bare()) for _ in range(REPEATS)]
    once = statistics.median(once for _, once, _ in rows) * 1e3
    step = of_pairs([(mine, theirs) for mine, _, theirs in rows])
    return Training(step, once, reading.milliseconds, noising.milliseconds)


def molecules(count: int = 1000) -> tuple[float, dict[str, float]]:
    """Seconds to sample molecules from the shipped reference, and those that each reward takes for them."""
    from graft_lightning.domains.molecules import AtomCounts, MoleculeReference, rewards

    reference = MoleculeReference()
    network = reference.build().eval()
    texts = AtomCounts(groups=count).texts()
    start = clock()
    parts = []
    for first in range(0, count, 250):
        some = texts[first : first + 250]
        found = reference.sampler.sample(
            FrozenDenoiser(reference, network),
            reference.process,
            reference.encode(some, "cpu"),
            Noise(torch.arange(first, first + len(some))),
            reference.shape(some),
            (),
            reference.static_fields(some, "cpu"),
        )
        parts.append(reference.decode(found.x_0))
    sampled = clock() - start
    samples = torch.cat(parts)
    judges = [
        rewards.Stable(),
        rewards.Heteroatoms(3),
        rewards.Valid(),
        rewards.LowStrain(),
        rewards.LogPWindow(0.0, 2.0),
        rewards.SyntheticAccessibility(),
        rewards.DrugLikeness(),
    ]
    costs = {judge.name: seconds(partial(judge, samples.clone(), texts)) for judge in judges}
    return sampled, costs | {"keys (canonical SMILES)": seconds(partial(reference.keys, samples.clone()))}


def digits() -> dict[str, Any]:
    """The real network of digits: sampling, training, and how long a batch of the pool takes."""
    reference = DigitReference(sampler=DDPM(steps=STEPS, clip_sample=1.0))
    sampled, bare = sampling(reference)
    print(f"  sampling  {sampled:.3f} of a bare loop's throughput (goal 0.97; {SAMPLES / bare:.0f} samples/s bare)")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = filled_pool(folder, reference)
        step, once, reading, noising = training(reference, data, folder)
        empty = statistics.median(fitted(Empty(), data.read(range(64)).x, [""] * 64, TRAINING_STEPS) for _ in range(3))
    found = {
        "sampling": sampled,
        "training": 1 / step.ratio,
        "training_ms_bare": step.bare,
        "training_ms_ours": step.ours,
        "lightning_ms": empty * 1e3,
        "pool_read_ms": reading,
        "levels_and_noise_ms": noising,
        "fit_begins_and_ends_ms": once,
    }
    above = step.ours - step.bare
    print(f"  training  {1 / step.ratio:.3f} of a bare loop's throughput (goal 0.95; {step.bare:.1f} ms a step bare)")
    print(
        f"            {above:.2f} ms above it: reading {reading:.2f}, levels and noise {noising:.2f}, Lightning's own"
    )
    print(
        f"            loop {empty * 1e3:.2f} (around nothing), and the rest; a fit begins and ends in {once:.0f} ms",
        flush=True,
    )
    return found


def small_pipelines() -> dict[str, float]:
    """Our sampler against the loops of small pipelines of diffusers."""
    found = {}
    for name, eta in (("sd2", 0.0), ("sd2", 1.0), ("sdxl", 0.0), ("sd3", 0.0)):
        share, bare = ratio(*loops(name, eta))
        found[f"{name}, eta {eta:g}"] = share
        print(f"  {name}, eta {eta:g}  {share:.3f} of its own throughput (goal 0.97; {bare:.2f} s a call)", flush=True)
    return found


def small_molecules() -> dict[str, float]:
    """Samples a second of the shipped reference, and what rewards cost beside."""
    sampled, judged = molecules()
    print(f"  {1000 / sampled:.0f} samples/s; of that time judging takes")
    for name, cost in judged.items():
        print(f"    {name:<26} {cost / sampled:.3f} (goal 0.1; {cost:.2f} s for 1,000)", flush=True)
    return {"samples_a_second": 1000 / sampled} | {name: cost / sampled for name, cost in judged.items()}


def main(arguments: list[str] | None = None) -> None:
    """Measures everything, part by part; prints it, and writes one JSON file."""
    parser = argparse.ArgumentParser(
        prog="make bench", description="What the framework adds to a step, in ratios taken in one run. 6 minutes."
    )
    parser.add_argument("--out", type=Path, default=Path("runs/bench/bench.json"), help="the JSON file")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="which parts")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    quieten()
    keep_freed_memory()  # as every command does
    found = report.machine()
    for part in options.only:
        title, measure = PARTS[part]
        print(f"{title}\n", end="", flush=True)
        found[part] = measure()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"written to {options.out}")


PARTS: dict[str, tuple[str, Callable[[], Any]]] = {
    "free_networks": (
        f"Networks that cost nothing (goals: sampling 1.5, training 2, digits 1 ms above Lightning)\n{report.HEAD}",
        report.free_networks,
    ),
    "pool_reads": ("Reading the pool", report.pool_reads),
    "around": ("Around the steps", report.around),
    "digits": ("Digits, the real network", digits),
    "pipelines": ("Small pipelines of diffusers", small_pipelines),
    "molecules": ("Molecules, the shipped reference", small_molecules),
}


def quieten() -> None:
    """What libraries say in every run."""
    import logging
    import warnings

    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.ERROR)


if __name__ == "__main__":
    main()
