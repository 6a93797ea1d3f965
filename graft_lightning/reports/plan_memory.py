"""What a plan says of memory: what is kept, what a step needs, and whether the machine has it."""

from typing import Any

from tensordict import TensorDictBase

from graft_lightning.modules.sampled import SampledModule
from graft_lightning.rejection.reference import Reference
from graft_lightning.reports.costs import Work
from graft_lightning.reports.memory import activation_bytes, recomputes, size_of
from graft_lightning.reports.peak import Footing
from graft_lightning.reports.trial import texts_for, training_step
from graft_lightning.reports.units import readable


def activations_of(module: Any, conditions: Any, batch_size: int) -> tuple[int, int]:
    """Bytes that a training step keeps for its backward pass, and those of one example, found on two examples.

    Args:
        module: its networks are built.
        conditions: of the examples.
        batch_size: of the step.
    """
    views = module.views
    held = [*views.original.parameters(), *views.network.parameters(), *views.network.buffers()]
    module.reference.encode(texts_for(conditions, 1), module.device)  # its encoders are loaded once, not a step
    return activation_bytes(lambda count: training_step(module, conditions, count)(), held, batch_size)


def too_large(footing: Footing | None) -> str:
    """Why a run cannot begin: weights and what goes with them exceed the machine's memory."""
    if footing is None or footing.peak() <= footing.there:
        return ""
    return (
        f"it does not fit: at least {readable(footing.peak())} of memory are needed, and this "
        f"{'machine' if footing.device.type == 'cpu' else 'GPU'} has {readable(footing.there)}"
    )


def step_too_large(footing: Footing | None, activations: int, batch_size: int) -> str:
    """Why a training step is not tried in a CPU's memory: the system would end the process."""
    if footing is None or footing.device.type != "cpu":
        return ""
    if footing.peak(activations + footing.memory.gradients) <= footing.there:
        return ""
    return (
        f"a training step on {batch_size} examples does not fit: it keeps {readable(activations)} for its backward "
        "pass; a smaller `data.batch_size` with a larger `trainer.accumulate_grad_batches` is the same step"
    )


def peak_line(footing: Footing | None, step: int, tried: bool) -> list[str]:
    """The most that is held at a time, and whether it is there.

    Args:
        footing: what is held throughout.
        step: bytes of the largest piece of work, 0 if they are not known.
        tried: whether all pieces of work were; what was not needs more than is known.
    """
    if footing is None:
        return []
    most = "about" if tried and step and footing.known else "at least"
    line = f"  peak memory      {most} {readable(footing.peak(step))} of {readable(footing.there)}"
    parts = [
        "the program" if footing.device.type == "cpu" else "",
        f"{readable(footing.beside)} of networks beside" if footing.beside else "",
        f"{readable(step)} in a step" if step else "",
    ]
    line += f": with {', '.join(filter(None, parts))}" if any(parts) else ""
    return [line if footing.peak(step) <= footing.there else f"{line}; it does not fit"]


def memory_lines(
    module: Any, data: Any, work: Work, footing: Footing | None, activations: tuple[int, int] | None
) -> list[str]:
    """What training keeps in memory and leaves on disk; activations only where the networks could be built."""
    if not module.trains:
        return _memory_of_closed_form(module, work)
    views = module.views or module.meta_views()
    if views is None or footing is None:
        return []
    memory = footing.memory
    trained = sum(p.numel() for p in views.network.parameters() if p.requires_grad)
    network = sum(p.numel() for p in views.original.parameters()) - memory.adapters * trained
    frozen = [stage for stage in module.stages() if not stage.trained]
    trained_name = next((stage.name for stage in module.stages() if stage.trained), "network")
    optimiser = (
        "of the optimiser not measured" if memory.optimiser is None else f"{readable(memory.optimiser)} optimiser"
    )
    what = [
        f"{readable(memory.flow)} frozen {' and '.join(stage.name for stage in frozen)}" if frozen else "",
        f"{readable(memory.original)} {trained_name if frozen else 'weights'} ({memory.dtype})",
        f"{readable(memory.trained)} {'adapters' if memory.adapters else 'trained copy'}" if memory.trained else "",
        f"{readable(memory.gradients)} gradients",
        optimiser,
        f"{readable(memory.average)} average" if memory.average else "",
    ]
    parts = f"{network:,} in the network"
    if frozen:
        listed = ", ".join(f"{parameters(stage.reference):,} in the {stage.name}" for stage in frozen)
        parts = f"{listed}, {network:,} in the {trained_name}"
    lines = [
        f"  parameters       {parts}, {trained:,} trained",
        f"  memory           {readable(memory.resident)} in training = {' + '.join(filter(None, what))}",
    ]
    if module.decoder.beside:
        beside = ", ".join(module.decoder.beside)
        lines.append(f"                   without {beside} and rewards")
    if memory.checkpoint is not None:
        lines.append(f"  checkpoint       {readable(memory.checkpoint)}")
    if activations is None:
        lines.append("  activations      not measured")
        return lines + (["  encoded texts    not measured"] if any(work.conditions) else [])
    whole, each = activations
    least = "at least " if recomputes(views.network) else ""
    lines.append(
        f"  activations      {least}{readable(whole)} in a step of {data.batch_size} examples, {readable(each)} each"
    )
    encoded: Any = module.reference.encode(texts_for(work.conditions, 2), module.device)
    fields: Any = encoded.values() if isinstance(encoded, TensorDictBase) else [encoded]
    one = size_of(fields) / 2
    texts = len(set(work.conditions))
    return lines + ([f"  encoded texts    {readable(one * texts)} for {texts:,} conditions"] if one else [])


def _memory_of_closed_form(module: SampledModule, work: Work) -> list[str]:
    """What trains no network: the frozen ones, a few tensors, and while they are fitted the noise."""
    stages = module.stages()
    if not stages:
        return []
    listed = ", ".join(f"{parameters(stage.reference):,} in the {stage.name}" for stage in stages)
    lines = [f"  parameters       {listed}, none of them trained"]
    if work.inverting is None:
        return lines
    frozen = sum(size_of(stage.reference.meta_network().parameters()) for stage in stages)
    fitted, noise = module.closed_form_bytes(work.inverting.samples)
    return [
        *lines,
        f"  memory           {readable(frozen + fitted + noise)} in the fit = {readable(frozen)} frozen flow + "
        f"{readable(fitted)} Gaussian + {readable(noise)} noise",
        f"  checkpoint       {readable(fitted)}",
    ]


def parameters(reference: Reference) -> int:
    """Weights of a reference's network."""
    return sum(p.numel() for p in reference.meta_network().parameters())
