"""Where an inversion starts: at the data, or at the data noised analytically to a start level."""

from torch import Tensor

from graft_lightning.processes.noise import Noise, derived_seeds


def start_state(x_0: Tensor, t: float, seeds: Tensor | None, perturbation: float = 0.0) -> Tensor:
    """The state from which an inversion begins: ``(1 - t) (x_0 + perturbation e) + t z``.

    z and e are drawn from streams of their own, so that neither depends on whether the other is wanted, nor on what
    else is drawn from the same seeds.

    Args:
        x_0: data ``(batch, *shape)``.
        t: of the start, in [0, 1); 0 is the data.
        seeds: int64 ``(batch,)``; None where nothing is drawn.
        perturbation: standard deviation of noise added to the data.

    Raises:
        ValueError: if t is not in [0, 1), the perturbation is negative, or seeds are missing or miscounted.
    """
    if not 0 <= t < 1:
        raise ValueError(f"t={t}; an inversion starts between 0, the data, and 1, the noise, which is excluded")
    if perturbation < 0:
        raise ValueError(f"perturbation={perturbation}; it is a standard deviation, 0 or above")
    if t == 0 and perturbation == 0:
        return x_0
    if seeds is None:
        raise ValueError(f"a start at t={t} with perturbation={perturbation} draws noise: seeds are needed")
    if len(seeds) != len(x_0):
        raise ValueError(f"{len(seeds)} seeds for {len(x_0)} samples; there must be one each")
    x = x_0
    if perturbation > 0:
        x = x + perturbation * _normal(seeds, "perturbation of the data", x)
    if t > 0:
        x = (1 - t) * x + t * _normal(seeds, "start of the inversion", x)
    return x


def _normal(seeds: Tensor, purpose: str, like: Tensor) -> Tensor:
    return Noise(derived_seeds(seeds, purpose), like.device, like.dtype).normal(*like.shape[1:])
