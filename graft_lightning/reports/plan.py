"""``plan``: what a configuration will cost, as text: counted from its settings, and measured on a few steps."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from graft_lightning.callbacks.collect import Collect
from graft_lightning.callbacks.invert import Invert
from graft_lightning.callbacks.round_kl import SAMPLES
from graft_lightning.modules.sampled import SampledModule
from graft_lightning.refusals import Refusal, first_line
from graft_lightning.rejection.pool import TrajectoryPool
from graft_lightning.rejection.reward import Reward
from graft_lightning.reports.costs import Calls, Loop, Work, base_calls, tuned_calls, work_of
from graft_lightning.reports.inverting import Inverting
from graft_lightning.reports.operations import operations
from graft_lightning.reports.peak import footing_of
from graft_lightning.reports.plan_memory import activations_of, memory_lines, peak_line, step_too_large, too_large
from graft_lightning.reports.trial import seconds_of_networks, seconds_of_reward, seconds_of_training
from graft_lightning.reports.units import duration, readable

CPU = torch.device("cpu")
TRIED = 5e12
"""Operations of a batch, at most, for it to be timed: a minute on one slow core."""


def make_plan(
    module: SampledModule,
    data: Any,
    collect: Collect,
    loop: Loop,
    invert: Invert | None = None,
    measure: bool = True,
    device: torch.device = CPU,
    rewards: Sequence[Reward] = (),
) -> str:
    """The costs of a configuration, as text.

    Args:
        module: the module; its networks are built if ``measure``.
        data: its datamodule.
        collect: settings of the collection; without a reward there is none.
        loop: what the trainer will do.
        invert: settings of the inversion, where there is one.
        measure: time network, reward and training step on this machine.
        device: on which they are timed.
        rewards: of evaluation, whose networks take memory too.
    """
    work = work_of(module, data, collect, loop, invert)
    counts = {stage.name: operations(stage.reference, work.conditions[0]) for stage in module.stages()}
    lines = [
        "What this configuration costs",
        *_counted(module, data, collect, loop, work),
        *_operations(module, counts),
    ]
    judges = [*(collect.rewards.values() if work.drawn is not None else []), *rewards]
    footing = footing_of(module, judges, loop.averaged, device) if module.trains else None  # type: ignore[arg-type]
    size = timed_batch(collect if work.drawn is not None else None, data)
    held: list[int] = []
    reason = "" if measure else "not asked for"
    if not reason and device.type == "cpu":
        reason = _too_much(counts, max(size, data.batch_size))
    reason = too_large(footing) or reason
    activations = None
    if not reason and module.stages():
        try:
            module.configure_model()
            module.to(device)
            if module.trains:
                activations = activations_of(module, work.conditions, data.batch_size)
                reason = step_too_large(footing, activations[0], data.batch_size)
            if not reason:
                lines += _timed(module, data, collect, loop, work, size, held)
        except (OSError, torch.OutOfMemoryError) as error:  # weights that are not here, a batch that does not fit
            reason, activations = str(error).partition("\n")[0], None
    if reason:
        held = [activations[0] + footing.memory.gradients] if activations and footing else []
    lines += memory_lines(module, data, work, footing, activations)
    lines += peak_line(footing, max(held, default=0), tried=not reason)
    if reason:
        lines.append(f"  time             not measured: {reason}")
    return "\n".join(lines)


def sample_calls(module: SampledModule) -> Calls:
    """Network evaluations of what a plan calls a sample: one of the reference, or of a corrected flow."""
    return base_calls(module) if module.has_base and not module.inverts else tuned_calls(module)


def _counted(module: SampledModule, data: Any, collect: Collect, loop: Loop, work: Work) -> list[str]:
    """What follows from the settings alone."""
    lines = []
    if work.absent:
        lines.append(f"  conditions       cannot be read, counted as one: {work.absent}")
    lines.append(f"  sampler          {_samplers(module)}")
    if work.drawn is not None:
        lines.append(
            f"  collection       {work.drawn:,} trajectories = {len(work.conditions):,} conditions x {collect.draws} "
            f"draws x {collect.rounds} rounds"
        )
        lines += _in_the_pool(data, collect, work.conditions)
    elif module.inverts:
        lines += _inversion(work.inverting)
    else:
        lines.append("  collection       none")
    lines.append(
        f"  evaluation       {work.held_out * work.evaluations:,} samples = {work.held_out:,} x {work.evaluations} "
        "evaluations"
    )
    if collect.rounds > 1 and work.drawn is not None:
        lines.append(f"  not counted      what a round has spent of KL, on at most {SAMPLES} of its accepted samples")
    if loop.measures and loop.validations:
        lines.append(f"  not counted      {', '.join(loop.measures)}, at each of {loop.validations} evaluations")
    lines.append(f"  model calls      {_through(work.calls)}, without gradient")
    if work.drawn is not None:
        lines.append(f"  reward calls     {work.scored:,} in collection")
    if not module.trains:
        lines.append(f"  gradient steps   none: {module.untrained}")
    else:
        beside = f" on each of {loop.processes} processes" if loop.processes > 1 else ""
        lines.append(
            f"  gradient steps   {loop.steps:,} on {work.examples:,} examples, batches of {data.batch_size}{beside}"
        )
    if work.disk:
        lines.append(f"  disk             {readable(work.disk)} for the pool")
    return lines


def _in_the_pool(data: Any, collect: Collect, conditions: Sequence[str]) -> list[str]:
    """How many trajectories of the first round are there; whether they are this reference's is seen by `fit`."""
    folder = Path(data.pool).expanduser()
    try:
        rounds = TrajectoryPool.open(folder, verify=None).rounds()
    except FileNotFoundError:
        return []
    except Refusal as error:
        return [f"  in the pool      cannot be read: {first_line(error)}"]
    if not rounds:
        return []
    known, committed = rounds[0], sum(shard.stop - shard.start for _, shard in rounds[0].committed())
    asked = len(set(known.conditions) & set(conditions)) * min(known.draws, collect.draws)
    there = round(asked * min(1.0, committed / max(1, len(known))))
    about = "" if committed >= len(known) else "about "  # which files a killed run lacks is not looked at
    return [f"  in the pool      {about}{there:,} of them already, if they are of this reference: {folder}"]


def _samplers(module: SampledModule) -> str:
    """The samplers that a sample goes through, in their order, and what they ask of the networks."""
    stages = module.stages()
    if not stages:
        return "none: samples are read, not drawn"
    samplers = "; ".join(
        f"{f'{one.name}: ' if len(stages) > 1 else ''}{type(one.reference.sampler).__name__}, "
        f"{one.reference.sampler.steps} steps"
        for one in stages
    )
    return f"{samplers}, {sum(sample_calls(module).values())} network evaluations a sample"


def _inversion(inverting: Inverting | None) -> list[str]:
    """How the inverse noise is found, and what is assumed of it."""
    if inverting is None:
        return ["  inversion        none: the callback Invert is missing"]
    absent = [f"  examples         cannot be read, counted as one: {inverting.absent}"] if inverting.absent else []
    stages = "" if inverting.stages == inverting.steps else f" ({inverting.stages} evaluations forwards)"
    limit, most = inverting.most, inverting.calls_at_most
    return [
        *absent,
        f"  inversion        {inverting.samples:,} samples x {inverting.steps} steps{stages} x about "
        f"{inverting.assumed} evaluations{'' if limit is None else f' (at most {limit:,})'} = {inverting.solving:,}",
        f"                   + {inverting.checking:,} for their round trips"
        + ("" if most is None else f"; at the very most {most:,} together"),
    ]


def _through(calls: Calls) -> str:
    """Samples through every network."""
    if not calls:
        return "0 samples"
    first, *others = calls.items()
    return ", ".join(
        [f"{first[1]:,} samples through the {first[0]}", *(f"{n:,} through the {name}" for name, n in others)]
    )


def timed_batch(collect: Collect | None, data: Any) -> int:
    """Samples in a batch that is timed: one of the collection, or where there is none, of evaluation."""
    return min(data.eval_batch_size if collect is None else collect.batch_size, 64)


def _too_much(counts: Mapping[str, int | None], batch: int) -> str:
    """Why nothing is timed: a single batch would take minutes."""
    most = max((count or 0 for count in counts.values()), default=0) * batch
    if most <= TRIED:
        return ""
    return f"a batch of {batch} is {readable(most, 'FLOP')} each way, more than a plan tries on a CPU"


def _operations(module: SampledModule, counts: Mapping[str, int | None]) -> list[str]:
    """Operations of an evaluation and of a sample, where all networks can be called without weights."""
    known = {name: count for name, count in counts.items() if count is not None}
    if not known or len(known) < len(counts):
        return []
    each = ", ".join(
        f"{readable(count, 'FLOP')} an evaluation{f' of the {name}' if len(known) > 1 else ''}"
        for name, count in known.items()
    )
    sample = sum(known[name] * calls for name, calls in sample_calls(module).items())
    return [f"  operations       {each}, {readable(sample, 'FLOP')} a sample"]


def _timed(module: Any, data: Any, collect: Collect, loop: Loop, work: Work, size: int, held: list[int]) -> list[str]:
    """What this machine takes; ``held`` is given the bytes of every piece of work that is tried."""
    each = seconds_of_networks(module, work.conditions, size, held)
    one = sum(each[name] * calls for name, calls in sample_calls(module).items())
    lines = [f"  one sample       {one * 1e3:.2f} ms ({1 / one:.1f} a second), batches of {size}"]
    parts = {"sampling": sum(each[name] * calls for name, calls in work.calls.items())}
    if work.inverting is not None:
        parts["inversion"] = each["flow"] * work.inverting.calls
        parts["sampling"] -= parts["inversion"]
    if collect.reward is not None and work.drawn is not None:
        judging = seconds_of_reward(module, collect.reward, work.conditions, size, held)
        lines.append(f"  one reward       {judging * 1e3:.2f} ms")
        parts["rewards"] = work.scored * judging
    if module.trains:
        step = seconds_of_training(module, work.conditions, data.batch_size, held)
        lines.append(f"  one training step {step * 1e3:.0f} ms")
        parts["training"] = loop.batches * step
    listed = ", ".join(f"{name} {duration(seconds)}" for name, seconds in parts.items())
    return [*lines, f"  time             about {duration(sum(parts.values()))} on this machine: {listed}"]
