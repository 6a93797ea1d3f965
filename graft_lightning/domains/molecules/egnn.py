"""An equivariant graph network on all pairs of atoms.

    m_ij = gate(phi_e(h_i, h_j, |x_i - x_j|^2, |x_i^0 - x_j^0|^2))
    h_i <- h_i + phi_h(h_i, sum_j m_ij / factor)
    x_i <- x_i + sum_j (x_i - x_j) / (|x_i - x_j| + norm_constant) * range * tanh(phi_x(h_i, h_j, ...)) / factor

What depends on positions depends on distances and moves along differences, so that the outputs turn, shift, mirror and
reorder with the inputs.

References:
    E(n) Equivariant Graph Neural Networks, arXiv 2102.09844; as EDM uses it, arXiv 2203.17003.
"""

import math

import torch
from torch import Tensor, nn

from graft_lightning.domains.base.masks import centred
from graft_lightning.domains.base.times import TimedTypes
from graft_lightning.domains.molecules.atoms import SYMBOLS
from graft_lightning.ranges import Natural


class EGNN(nn.Module):
    """Denoises positions and types.

    The defaults are of the embedded size. EDM's for QM9: layers 9, width 256, pair_width 0, radial 0 (5.3 million
    parameters).

    Args:
        classes: of atoms, an absorbing class included where the process has one.
        layers: number of layers.
        width: of the atoms' vectors and of the messages.
        pair_width: of a state of each pair that the layers hand on, 0 for none.
        radial: bumps on the scale of distances in place of the squared distance, 0 for none. They let a small network
            tell bond lengths apart.
        coords_range: bound of what all layers together move an atom along one other, in Angstrom.
        norm_constant: added to distances, in Angstrom, where differences are normalised.
        normalization_factor: sums over atoms are divided by it.
    """

    def __init__(
        self,
        classes: int = len(SYMBOLS),
        layers: int = 4,
        width: int = 64,
        pair_width: Natural = 16,
        radial: Natural = 16,
        coords_range: float = 15.0,
        norm_constant: float = 1.0,
        normalization_factor: float = 1.0,
    ) -> None:
        super().__init__()
        self.inputs = TimedTypes(classes, width)
        self.distances = Distances(radial)
        edge = 2 * self.distances.features + pair_width
        reach = coords_range / layers
        self.layers = nn.ModuleList(
            # Nobody reads what the last layer would write on the pairs.
            Layer(width, edge, pair_width * (i < layers - 1), reach, norm_constant, normalization_factor)
            for i in range(layers)
        )
        self.pair_width = pair_width
        self.types_out = nn.Linear(width, classes)

    def forward(
        self, positions: Tensor, types: Tensor, t_positions: Tensor, t_types: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Predictions for positions ``(batch, atoms, 3)``, zero centre of mass, and logits ``(batch, atoms, classes)``.

        Both are zero where padded.

        Args:
            positions: noisy, ``(batch, atoms, 3)``, Angstrom.
            types: noisy, int64 ``(batch, atoms)`` or one-hot like ``(batch, atoms, classes)``.
            t_positions: ``(batch,)`` in [0, 1], from data to noise.
            t_types: ``(batch,)`` likewise.
            mask: bool ``(batch, atoms)``.
        """
        atoms, times = self.inputs(types, t_positions, t_types)
        present = mask[..., None].to(atoms.dtype)
        h = (atoms + times[:, None]) * present
        pairs = (mask[:, :, None] & mask[:, None])[..., None].to(atoms.dtype)
        pairs = pairs * ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)[..., None]
        start = self.distances(_differences(positions)[1])
        state = positions.new_zeros(*start.shape[:-1], self.pair_width)
        x = positions
        for layer in self.layers:
            difference, distance = _differences(x)
            edges = torch.cat([self.distances(distance), start, state], -1)
            h, x, state = layer(h, x, state, edges, difference, distance, present, pairs)
        return centred(x - positions, mask), self.types_out(h) * present


class Layer(nn.Module):
    """One round of messages, then one move of the atoms.

    Args:
        width: of the atoms' vectors.
        edge: of the pairs' vectors.
        pair_width: of what it adds to the pairs' state, 0 for nothing.
        reach: bound of a move along one other atom, in Angstrom.
        norm_constant: as in `EGNN`.
        normalization_factor: as in `EGNN`.
    """

    def __init__(
        self, width: int, edge: int, pair_width: int, reach: float, norm_constant: float, normalization_factor: float
    ) -> None:
        super().__init__()
        self.message_in, self.message_out = PairLinear(width, edge), nn.Linear(width, width)
        self.gate = nn.Linear(width, 1)
        self.update = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width))
        self.pair = nn.Linear(width, pair_width) if pair_width else None
        self.move_in, self.move_hidden = PairLinear(width, edge), nn.Linear(width, width)
        self.move_out = nn.Linear(width, 1, bias=False)
        # Nearly no move at first: depth must not blow up the geometry before anything is learnt.
        nn.init.xavier_uniform_(self.move_out.weight, gain=0.001)
        self.reach, self.norm_constant, self.normalization_factor = reach, norm_constant, normalization_factor

    def forward(
        self,
        h: Tensor,
        x: Tensor,
        state: Tensor,
        edges: Tensor,
        difference: Tensor,
        distance: Tensor,
        present: Tensor,
        pairs: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """New atoms ``(batch, atoms, width)``, positions and pair state.

        Args:
            h: vectors of the atoms, ``(batch, atoms, width)``.
            x: positions, ``(batch, atoms, 3)``.
            state: of the pairs, ``(batch, atoms, atoms, pair_width)``.
            edges: what is known of the pairs, ``(batch, atoms, atoms, edge)``.
            difference: x_i - x_j, ``(batch, atoms, atoms, 3)``.
            distance: its length, ``(batch, atoms, atoms, 1)``.
            present: 1 where there is an atom, ``(batch, atoms, 1)``.
            pairs: 1 where there are two different atoms, ``(batch, atoms, atoms, 1)``.
        """
        act = nn.functional.silu
        message = act(self.message_out(act(self.message_in(h, edges))))
        total = (message * self.gate(message).sigmoid() * pairs).sum(2) / self.normalization_factor
        h = (h + self.update(torch.cat([h, total], -1))) * present
        if self.pair is not None:
            state = state + self.pair(message)
        length = self.move_out(act(self.move_hidden(act(self.move_in(h, edges))))).tanh() * self.reach
        moves = difference / (distance + self.norm_constant) * length * pairs
        return h, x + moves.sum(2) / self.normalization_factor, state


class PairLinear(nn.Module):
    """A linear map of (h_i, h_j, e_ij), without ever putting the three side by side for all pairs.

    Args:
        width: of h and of the result.
        edge: of e.
    """

    def __init__(self, width: int, edge: int) -> None:
        super().__init__()
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width, bias=False)
        self.edge = nn.Linear(edge, width, bias=False)

    def forward(self, h: Tensor, edges: Tensor) -> Tensor:
        """``(batch, atoms, atoms, width)``."""
        return self.first(h)[:, :, None] + self.second(h)[:, None] + self.edge(edges)


class Distances(nn.Module):
    """Features of distances: the square as in EDM, or Gaussian bumps beside it.

    Args:
        radial: bumps, spaced evenly in log(1 + d) up to 10 Angstrom, so that they are densest among bond lengths.
    """

    def __init__(self, radial: int) -> None:
        super().__init__()
        centres = torch.linspace(0, math.log1p(10), max(radial, 2))
        self.register_buffer("centres", centres, persistent=False)
        self.radial = radial
        self.features = radial or 1

    centres: Tensor

    def forward(self, distance: Tensor) -> Tensor:
        """Features of distances ``(..., 1)`` in Angstrom."""
        if not self.radial:
            return distance**2
        spacing = self.centres[1] - self.centres[0]
        return torch.exp(-(((distance.log1p() - self.centres) / spacing) ** 2)).to(distance.dtype)


def _differences(x: Tensor) -> tuple[Tensor, Tensor]:
    """x_i - x_j ``(batch, atoms, atoms, 3)``, and its length ``(batch, atoms, atoms, 1)``, smooth at zero."""
    difference = x[:, :, None] - x[:, None]
    return difference, (difference.square().sum(-1, keepdim=True) + 1e-8).sqrt()
