"""Hand-off levels: shares of a sampler's steps as indices and noise levels of its grid."""

from collections.abc import Sequence

from graft_lightning.rejection.reference import Reference


def kept_levels(reference: Reference, fractions: Sequence[float]) -> dict[int, float]:
    """State index N_I and its level for fractions of the sampler's steps, counted from the data; 0 is left out.

    Raises:
        ValueError: if a fraction lies outside [0, 1).
    """
    levels = reference.sampler.levels(reference.process)
    return {n: levels[n] for n in sorted({state_index(reference, f) for f in fractions}) if n > 0}


def state_index(reference: Reference, fraction: float) -> int:
    """N_I, the state index that a fraction of the sampler's steps stands for.

    Raises:
        ValueError: if the fraction lies outside [0, 1), or is so near to 1 that no step would be left.
    """
    if not 0 <= fraction < 1:
        raise ValueError(
            f"handoff={fraction}: N_I / N must lie in [0, 1); "
            "0 trains every level (GRAFT), 1 would leave nothing to train"
        )
    index = round(fraction * reference.sampler.steps)
    if index == reference.sampler.steps:
        raise ValueError(
            f"handoff={fraction} of {index} steps is nearest to N_I = {index}, which leaves nothing to train; "
            f"the largest that does is {(index - 1) / index:g}"
        )
    return index
