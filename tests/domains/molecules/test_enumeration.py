"""The enumeration against counts from graph theory, and against brute force."""

from itertools import permutations, product

import pytest

from graft_lightning.domains.molecules.enumeration import VALENCE, Graph, Topology, enumerate_graphs, topologies

TREES = {1: 1, 2: 1, 3: 1, 4: 2, 5: 3, 6: 6}
UNICYCLIC = {1: 0, 2: 0, 3: 1, 4: 2, 5: 5, 6: 13}


@pytest.mark.parametrize("size", TREES)
def test_topologies(size):
    """Numbers of trees (OEIS A000055) and of connected unicyclic graphs (A001429); degrees above 4 only at size 6."""
    found = topologies(size)
    too_wide = 2 if size == 6 else 0  # the star, and the triangle with three leaves on one corner
    assert len(found) == TREES[size] + UNICYCLIC[size] - too_wide
    assert sum(not graph.ring for graph in found) == TREES[size] - (size == 6)
    assert len({graph.edges for graph in found}) == len(found)


def test_ring_and_automorphisms():
    square_with_tail = Topology(5, ((0, 1), (1, 2), (2, 3), (0, 3), (3, 4)))
    assert square_with_tail.ring == {(0, 1), (1, 2), (2, 3), (0, 3)}
    assert len(square_with_tail.automorphisms) == 2
    assert square_with_tail.degrees == (2, 2, 2, 3, 1)
    star = Topology(5, ((0, 1), (0, 2), (0, 3), (0, 4)))
    assert len(star.automorphisms) == 24


def brute_force(size: int) -> set[tuple]:
    """Every labelled molecule of a size by trying all, one representative for each isomorphism class."""
    found = set()
    pairs = [(i, j) for i in range(size) for j in range(i + 1, size)]
    for elements in product("CNOF", repeat=size):
        for orders in product(range(4), repeat=len(pairs)):
            bonds = {pair: order for pair, order in zip(pairs, orders, strict=True) if order}
            if plausible(size, elements, bonds):
                found.add(
                    min(
                        (
                            tuple(elements[p] for p in order),
                            tuple(bonds.get(tuple(sorted((order[i], order[j]))), 0) for i, j in pairs),
                        )
                        for order in permutations(range(size))
                    )
                )
    return found


def plausible(size: int, elements: tuple[str, ...], bonds: dict[tuple[int, int], int]) -> bool:
    """The docstring of the module, once more."""
    used = [sum(order for pair, order in bonds.items() if v in pair) for v in range(size)]
    if any(u > VALENCE[e] for u, e in zip(used, elements, strict=True)) or len(bonds) not in (size - 1, size):
        return False
    reached = {0}
    for _ in range(size):
        reached |= {v for pair in bonds for v in pair if reached & set(pair)}
    if len(reached) < size:
        return False
    hetero = [e != "C" for e in elements]
    if size > 1 and 2 * sum(hetero) > size:
        return False
    in_ring = bonds if len(bonds) == size == 3 else {}
    for (i, j), order in bonds.items():
        kinds = elements[i] + elements[j]
        if hetero[i] and hetero[j] and ("F" in kinds or kinds == "OO"):
            return False
        if (i, j) in in_ring and order > 1:
            return False
    for v in range(size):
        mine = [(pair, order) for pair, order in bonds.items() if v in pair]
        if sum(order == 2 for _, order in mine) > 1:
            return False
        if hetero[v] and sum(hetero[i] and hetero[j] for (i, j), _ in mine) > 1:
            return False
    return True


@pytest.mark.parametrize("size", [1, 2, 3])
def test_against_brute_force(size):
    found = [graph for graph in enumerate_graphs(size, 99) if len(graph.elements) == size]
    assert len(found) == len(brute_force(size))


def test_atoms_count_hydrogens():
    assert Graph(("C",), ()).atoms == 5
    assert Graph(("C", "O"), ((0, 1, 2),)).atoms == 4
    assert Graph(("C", "N"), ((0, 1, 3),)).atoms == 3


def test_limits_and_order():
    found = list(enumerate_graphs(4, 9))
    assert max(graph.atoms for graph in found) == 9
    assert max(len(graph.elements) for graph in found) == 4
    assert found == list(enumerate_graphs(4, 9))
    assert len(found) == len(set(found))


def test_all_are_molecules_and_distinct():
    """RDKit accepts every one, and canonical SMILES finds no two alike but aromatic rings drawn in two ways."""
    from graft_lightning.domains.molecules.embedded import _distinct

    graphs = list(enumerate_graphs(5, 12))
    smiles = _distinct(iter(graphs))
    assert len(graphs) - len(smiles) <= 2
    assert {"O", "C", "CO", "C#N", "C1CC1", "CC(F)F", "c1c[nH]cn1"} <= set(smiles)
    assert not {"OO", "OF", "C=C=C", "FC(F)F", "C1=CC1", "NNN"} & set(smiles)
