"""Both sides of the real architectures' table: through the package, and by hand over the same network."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from graft_lightning.inversion.noise_pool import NoiseInversion
from graft_lightning.modules import PGraft, Pretrain
from graft_lightning.modules.corrected import steps_of
from graft_lightning.modules.denoising import DenoisingModule
from graft_lightning.processes.noise import Noise
from graft_lightning.processes.outputs import convert
from graft_lightning.reports.trial import pure_noise, texts_for
from graft_lightning.types import as_state, bare, on_device
from tests.benchmarks.loops import _centred, _drawn, _noised, _table
from tests.benchmarks.real import Subject

Work = Callable[[], Any]


def module_of(subject: Subject) -> DenoisingModule:
    """What is trained; guidance is absorbed, so that a step is one pass forwards and one back."""
    if subject.lora is None:
        return Pretrain(reference=subject.reference)
    return PGraft(handoff=0.25, reference=subject.reference, lora=subject.lora, guidance="absorbed")


def our_sampling(subject: Subject, module: DenoisingModule) -> Work:
    """A batch of the frozen view by the package's sampler."""
    reference, device = subject.reference, module.device
    condition = reference.encode(subject.texts, device)
    static = reference.static_fields(subject.texts, device) if subject.mixed else None

    def sample() -> Any:
        noise, shape = Noise(torch.arange(len(subject.texts)), device), reference.shape(subject.texts)
        return reference.sampler.sample(
            module.opened().frozen, reference.process, condition, noise, shape, static=static
        ).x_0

    return sample


def bare_sampling(subject: Subject, module: DenoisingModule) -> Work:
    """The same steps with one generator for the batch, over the same network."""
    reference, device, count = subject.reference, module.device, len(subject.texts)
    network, process, sampler = module.opened().original, reference.process, reference.sampler
    levels = torch.tensor(sampler.levels(process), dtype=torch.float64)
    table, eta, scale = _table(process.schedule, levels), sampler.eta, reference.guidance_scale  # type: ignore[attr-defined]
    condition = reference.encode(subject.texts, device)
    if scale != 1:
        null = reference.encode([""], device)
        condition = torch.cat([null.expand(count, *null.shape[1:]), condition])
    start = pure_noise(reference, subject.texts, device)
    output = reference.output["positions"] if subject.mixed else reference.output  # type: ignore[index]
    mask = start["mask"] if subject.mixed else None
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapters = [layer for layer in network.modules() if isinstance(layer, BaseTunerLayer)]

    @torch.no_grad()
    def sample() -> Any:
        for layer in adapters:
            layer._disable_adapters = True
        state = as_state(start)
        x, types = state["positions" if subject.mixed else "x"], state.get("types")
        for n in range(sampler.steps, 0, -1):
            (a, b), (a_s, b_s) = table[n], table[n - 1]
            t = torch.full((count * (1 if scale == 1 else 2),), float(levels[n]), dtype=torch.float64, device=device)
            if subject.mixed:
                raw = reference.denoise(network, {"positions": x, "types": types, "mask": mask}, t, condition)
                of_x = raw["positions"]
            else:
                of_x = reference.denoise(network, x if scale == 1 else torch.cat([x, x]), t, condition)
                if scale != 1:
                    of_x = of_x[:count] + scale * (of_x[count:] - of_x[:count])
            found = convert(output, of_x, x, a, b)
            new = eta * max(b**2 - (a / a_s) ** 2 * b_s**2, 0.0) ** 0.5 * b_s / b
            x = a_s * found.x_0 + max(b_s**2 - new**2, 0.0) ** 0.5 * found.epsilon
            if new:
                x = x + new * _centred(torch.randn_like(x), mask)
            if subject.mixed:
                types = _drawn(raw["types"], types, a**2, a_s**2) * mask
        for layer in adapters:
            layer._disable_adapters = False
        return x

    return sample


def bare_training(subject: Subject, module: DenoisingModule, steps: int, autocast: bool) -> Work:
    """Network, loss, backward pass and optimiser over the same weights."""
    reference, device = subject.reference, module.device
    network, schedule = module.network, reference.process.schedule
    texts = texts_for(subject.texts, subject.batch)
    condition = reference.encode(texts, device)
    x_0 = examples(subject, device)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad])
    levels = torch.arange(1, 1001, dtype=torch.float64, device=device) * schedule.t_max / 1000
    alphas, sigmas = (value.float() for value in schedule.coefficients(levels))

    def train() -> None:
        network.train()
        for _ in range(steps):
            place = torch.randint(250, 1000, (subject.batch,), device=device)
            x = x_0["positions"] if subject.mixed else x_0
            a, b = (value[place].view(-1, *[1] * (x.ndim - 1)) for value in (alphas, sigmas))
            e = _centred(torch.randn_like(x), x_0["mask"] if subject.mixed else None)
            x_t, t = a * x + b * e, levels[place]
            with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
                if subject.mixed:
                    state = {"positions": x_t, "types": _noised(x_0["types"], a.flatten() ** 2), "mask": x_0["mask"]}
                    raw = reference.denoise(network, state, t, condition)
                    loss = ((raw["positions"] - (a * e - b * x)) ** 2).mean()
                    loss = loss + nn.functional.cross_entropy(raw["types"].movedim(-1, 1), x_0["types"])
                else:
                    target = e if reference.output == "epsilon" else e - x
                    loss = ((reference.denoise(network, x_t, t, condition) - target) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return train


def inversion(subject: Subject, module: DenoisingModule) -> tuple[Work, Work]:
    """The flow's steps inverted, and the network called as often, by itself."""
    steps = steps_of(subject.reference, module.network, "flow")
    x_0 = examples(subject, module.device)
    seeds = torch.arange(len(x_0))
    inverter = NoiseInversion(start_level=1)
    calls = int(inverter.run(steps, x_0, seeds).evaluations.sum()) // len(x_0)
    t = torch.full((len(x_0),), 0.5, dtype=torch.float64, device=module.device)
    condition = subject.reference.encode([""] * len(x_0), module.device)

    @torch.no_grad()
    def bare_calls() -> None:
        for _ in range(calls):
            subject.reference.denoise(module.network, x_0, t, condition)

    return lambda: inverter.run(steps, x_0, seeds), bare_calls


def examples(subject: Subject, device: Any) -> Any:
    """States for a training step: noise, whose values do not matter to what it costs."""
    texts = texts_for(subject.texts, subject.batch)
    return on_device(bare(as_state(pure_noise(subject.reference, texts, device))), device)
