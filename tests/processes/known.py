"""Schedules of a few plain numbers and noise given in advance, so that every result can be worked out by hand.

Signal and noise do not preserve variance here: a factor that is 1 for published schedules is seen if it is left out.
"""

import math

import torch
from torch import Tensor

from graft_lightning.processes.noise import Noise
from graft_lightning.processes.paths import CategoricalPath, CentredGaussianPath, GaussianPath
from graft_lightning.processes.process import Process
from graft_lightning.processes.schedules import FromTable, Schedule
from graft_lightning.processes.times import TimeDistribution


class Known(Schedule):
    """alpha_t and sigma_t listed for t = 0, 1, .. T."""

    discrete = True

    def __init__(self, alpha: list[float], sigma: list[float]) -> None:
        self.table = torch.tensor([alpha, sigma], dtype=torch.float64)
        self.t_max = len(alpha) - 1.0

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = self.table[:, t.long()]
        return alpha, sigma


class Given(Noise):
    """Noise that hands out the given tensors ``(batch, *shape)``, in order, and checks what is asked for."""

    def __init__(self, normal: tuple[Tensor, ...] = (), uniform: tuple[Tensor, ...] = ()) -> None:
        self.waiting = {"normal": list(normal), "uniform": list(uniform)}

    def normal(self, *shape: int) -> Tensor:
        return self._given("normal", shape)

    def uniform(self, *shape: int) -> Tensor:
        return self._given("uniform", shape)

    def _given(self, kind: str, shape: tuple[int, ...]) -> Tensor:
        found = self.waiting[kind].pop(0)
        assert found.shape[1:] == shape
        return found


ALPHA_Y, SIGMA_Y = [1.0, 0.8, 0.4], [0.0, 0.3, 0.9]
ALPHA_Z, SIGMA_Z = [1.0, 0.5, 0.1], [0.0, 0.6, 1.2]
SURVIVAL = [1.0, 0.9, 0.3]
TARGET = [0.2, 0.5, 0.3]
Y, Z, C = Known(ALPHA_Y, SIGMA_Y), Known(ALPHA_Z, SIGMA_Z), FromTable([0.9, 0.3])
"""Three schedules that share T = 2 and nothing else."""

MASK = torch.tensor([[True, True, False, False], [True, True, True, False]])
"""Two real elements, and three."""


def unequal() -> Process:
    """Points in the whole space, centred points and classes, each noised by a schedule of its own."""
    return Process({"y": GaussianPath(Y), "z": CentredGaussianPath(Z), "c": CategoricalPath(C, 3, TARGET)})


def real(field: Tensor) -> Tensor:
    """A field ``(2, 4, ...)`` with 0 where `MASK` has padding."""
    return torch.where(MASK.reshape(2, 4, *[1] * (field.ndim - 2)), field, torch.zeros_like(field))


def centred(field: Tensor) -> Tensor:
    """A field ``(2, 4, d)`` less its mean over two points, and over three; 0 elsewhere."""
    two, three = field[0, :2].mean(0), field[1, :3].mean(0)
    return real(field - torch.stack([two, three]).unsqueeze(1))


def numbers(*shape: int, seed: int = 0) -> Tensor:
    """Arbitrary float64 numbers, padding included."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


UNIFORM = torch.tensor([[0.1, 0.6, 0.9, 0.8], [0.95, 0.3, 0.69, 0.8]])
"""Of the classes; what padding gets would be a class other than 0."""

STD_Y = math.sqrt(0.9**2 - 0.5**2 * 0.3**2)
"""sigma_ts of `Y` from level 1 to 2, Eq. 2: alpha_ts = 0.4 / 0.8."""
STD_Z = math.sqrt(1.2**2 - 0.2**2 * 0.6**2)
"""sigma_ts of `Z` from level 1 to 2: alpha_ts = 0.1 / 0.5."""
KEPT = 0.3 / 0.9
"""beta_ts of the classes from level 1 to 2."""


def noise() -> Given:
    """Of the fields y, z and c, one draw each."""
    return Given((numbers(2, 4, 2, seed=1), numbers(2, 4, 3, seed=2)), (UNIFORM,))


def state() -> dict[str, Tensor]:
    """A state whose padding is empty, as every path leaves it."""
    classes = torch.tensor([[1, 2, 0, 0], [0, 1, 2, 0]])
    return {"y": real(numbers(2, 4, 2, seed=3)), "z": centred(numbers(2, 4, 3, seed=4)), "c": classes, "mask": MASK}


class At(TimeDistribution):
    """Always the given levels."""

    def __init__(self, levels: list) -> None:
        self.given = torch.tensor(levels, dtype=torch.float64)

    def draw(self, noise: Noise, low: float, high: float, schedule: Schedule) -> Tensor:
        self.asked = (low, high)
        return self.given
