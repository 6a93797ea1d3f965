"""All small molecules of a simple kind: trees and single rings of C, N, O and F, hydrogens implied.

The enumeration goes from coarse to fine, each level without duplicates: the connected graphs with at most one ring;
their colourings with elements; the bond orders that valences allow. A labelling stands for its orbit under the
automorphisms of the graph, and is kept if it is the smallest of it. What remains differs but for aromatic rings drawn
in two ways, which canonical SMILES merges.

Left out, because such molecules are strained, unstable or need charges: O-O bonds, F on anything but carbon, three
heteroatoms in a row, cumulated double bonds, triple bonds in rings, double bonds in rings of three, and molecules with
more heteroatoms than carbons (those of a single heavy atom excepted). No element carries a charge.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations, product

ELEMENTS = "CNOF"
"""Heavy elements, in the order in which labellings are compared."""

VALENCE = {"C": 4, "N": 3, "O": 2, "F": 1}

Edge = tuple[int, int]


@dataclass(frozen=True)
class Topology:
    """A connected graph on 0..size-1 with at most one ring.

    Attributes:
        size: the number of vertices.
        edges: pairs (i, j), i < j, sorted.
    """

    size: int
    edges: tuple[Edge, ...]

    @cached_property
    def degrees(self) -> tuple[int, ...]:
        return tuple(sum(vertex in edge for edge in self.edges) for vertex in range(self.size))

    @cached_property
    def ring(self) -> frozenset[Edge]:
        """The edges of the ring, empty for a tree: what is left when leaves are plucked off until none is."""
        edges = set(self.edges)
        while leaves := [e for e in edges if any(sum(v in other for other in edges) == 1 for v in e)]:
            edges -= set(leaves)
        return frozenset(edges)

    @cached_property
    def automorphisms(self) -> list[tuple[int, ...]]:
        """Permutations of the vertices that map edges onto edges, the identity first."""
        known = set(self.edges)
        return [p for p in permutations(range(self.size)) if {_edge(p[i], p[j]) for i, j in self.edges} == known]


@dataclass(frozen=True)
class Graph:
    """A molecule without its hydrogens.

    Attributes:
        elements: of the heavy atoms.
        bonds: (first atom, second atom, order).
    """

    elements: tuple[str, ...]
    bonds: tuple[tuple[int, int, int], ...]

    @property
    def atoms(self) -> int:
        """The number of atoms, hydrogens included."""
        free = sum(VALENCE[element] for element in self.elements) - 2 * sum(order for _, _, order in self.bonds)
        return len(self.elements) + free


def topologies(size: int) -> list[Topology]:
    """All connected graphs of ``size`` vertices, at most one ring and degrees of at most 4, up to isomorphism."""
    if size == 1:
        return [Topology(1, ())]
    found: set[tuple[Edge, ...]] = set()
    for smaller in topologies(size - 1):
        for vertex in range(size - 1):
            grown = (*smaller.edges, (vertex, size - 1))
            found.add(_canonical(size, grown))
            if not smaller.ring:
                # A ring without any leaf cannot be grown leaf by leaf; closing the new vertex reaches it, and others.
                closings = [(other, size - 1) for other in range(size - 1) if other != vertex]
                found |= {_canonical(size, (*grown, edge)) for edge in closings}
    graphs = [Topology(size, edges) for edges in sorted(found)]
    return [graph for graph in graphs if max(graph.degrees) <= 4]


def enumerate_graphs(max_heavy: int, max_atoms: int) -> Iterator[Graph]:
    """Every molecule of the kind, in fixed order.

    Args:
        max_heavy: heavy atoms at most.
        max_atoms: atoms at most, hydrogens included.
    """
    for size in range(1, max_heavy + 1):
        for topology in topologies(size):
            for graph in _labellings(topology):
                if graph.atoms <= max_atoms:
                    yield graph


def _labellings(topology: Topology) -> Iterator[Graph]:
    choices = [[e for e in ELEMENTS if VALENCE[e] >= degree] for degree in topology.degrees]
    for elements in product(*choices):
        symmetries = _stabiliser(elements, topology.automorphisms)
        if symmetries is None or not _plausible_elements(topology, elements):
            continue
        for orders in _bond_orders(topology, elements):
            if _smallest(topology.edges, orders, symmetries):
                bonds = tuple((i, j, order) for (i, j), order in zip(topology.edges, orders, strict=True))
                yield Graph(elements, bonds)


def _stabiliser(elements: tuple[str, ...], automorphisms: list[tuple[int, ...]]) -> list[tuple[int, ...]] | None:
    """The symmetries that leave the elements as they are; None if one of them makes the elements smaller."""
    rank = tuple(ELEMENTS.index(element) for element in elements)
    kept = []
    for permutation in automorphisms:
        image = tuple(rank[vertex] for vertex in permutation)
        if image < rank:
            return None
        if image == rank:
            kept.append(permutation)
    return kept


def _smallest(edges: tuple[Edge, ...], orders: tuple[int, ...], symmetries: list[tuple[int, ...]]) -> bool:
    order_of = dict(zip(edges, orders, strict=True))
    return all(orders <= tuple(order_of[_edge(p[i], p[j])] for i, j in edges) for p in symmetries)


def _plausible_elements(topology: Topology, elements: tuple[str, ...]) -> bool:
    hetero = [element != "C" for element in elements]
    if topology.size > 1 and sum(hetero) > topology.size - sum(hetero):
        return False
    neighbours = [0] * topology.size
    for i, j in topology.edges:
        if not (hetero[i] and hetero[j]):
            continue
        if "F" in (elements[i], elements[j]) or elements[i] == elements[j] == "O":
            return False
        neighbours[i] += 1
        neighbours[j] += 1
    return max(neighbours) <= 1


def _bond_orders(topology: Topology, elements: tuple[str, ...]) -> Iterator[tuple[int, ...]]:
    """Orders of `topology.edges` within all valences and the rules of the module's docstring."""
    highest = [_highest_order(topology, edge) for edge in topology.edges]
    for orders in product(*(range(1, most + 1) for most in highest)):
        used = [0] * topology.size
        doubles = [0] * topology.size
        for (i, j), order in zip(topology.edges, orders, strict=True):
            for vertex in (i, j):
                used[vertex] += order
                doubles[vertex] += order == 2
        fits = all(u <= VALENCE[element] for u, element in zip(used, elements, strict=True))
        if fits and max(doubles) <= 1:
            yield orders


def _highest_order(topology: Topology, edge: Edge) -> int:
    if edge not in topology.ring:
        return 3
    return 1 if len(topology.ring) == 3 else 2


def _canonical(size: int, edges: tuple[Edge, ...]) -> tuple[Edge, ...]:
    """The smallest edge list among all numberings of the vertices, tried one by one."""
    return min(tuple(sorted(_edge(p[i], p[j]) for i, j in edges)) for p in permutations(range(size)))


def _edge(i: int, j: int) -> Edge:
    return (i, j) if i < j else (j, i)
