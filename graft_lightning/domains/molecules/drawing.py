"""Molecules as images: grids of structural formulae, drawn by RDKit."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from graft_lightning.domains.molecules.perception import Perceived, build_molecule, perceive, sanitised

if TYPE_CHECKING:
    from PIL.Image import Image
    from rdkit.Chem import Mol

SIDE = 140
"""Pixels of a molecule's cell."""


def grid(samples: TensorDict, captions: Sequence[str] | None = None, columns: int = 8, side: int = SIDE) -> "Image":
    """Structural formulae side by side, with what the bond rule says below each, and a caption.

    The whole bond graph is drawn, fragments and all. Hydrogens are written with their heavy atom where RDKit accepts
    the molecule, which then also hides missing ones: the line below ("stable", "7/10 stable", "invalid") tells.

    Args:
        samples: molecules.
        captions: one text under each, or none.
        columns: molecules in a row.
        side: pixels of a cell.

    Raises:
        ValueError: if there is no molecule, or not one caption for each.
    """
    from rdkit import rdBase
    from rdkit.Chem import Draw

    molecules = perceive(samples)
    texts = [""] * len(molecules) if captions is None else list(captions)
    if not molecules or len(texts) != len(molecules):
        raise ValueError(f"{len(texts)} captions for {len(molecules)} molecules; give at least one molecule, one each")
    legends = [f"{verdict(m)}  {text}".rstrip() for m, text in zip(molecules, texts, strict=True)]
    options = Draw.rdMolDraw2D.MolDrawOptions()
    # They are prepared below, so that what RDKit refuses is drawn all the same. (RDKit's stub has the wrong types.)
    options.prepareMolsBeforeDrawing = False  # type: ignore[assignment]
    options.legendFontSize = 14  # type: ignore[assignment]

    def drawn(graphs: Sequence["Mol"], texts: Sequence[str]) -> Any:
        return Draw.MolsToGridImage(
            graphs,
            molsPerRow=min(columns, len(graphs)),
            subImgSize=(side, side),
            legends=texts,
            drawOptions=options,
            returnPNG=False,
        )

    with rdBase.BlockLogs():
        graphs = [_drawable(molecule) for molecule in molecules]
        try:
            return drawn(graphs, legends).convert("RGB")
        except RuntimeError:  # tangles of bonds that no depiction fits: their cells stay empty, the others are drawn
            return drawn([_or_nothing(graph, drawn) for graph in graphs], legends).convert("RGB")


def _or_nothing(graph: "Mol", drawn: Callable[[Sequence["Mol"], Sequence[str]], Any]) -> "Mol":
    from rdkit import Chem

    try:
        drawn([graph], [""])
    except RuntimeError:
        return Chem.Mol()
    return graph


def as_tensor(image: "Image") -> Tensor:
    """An image as uint8 ``(3, height, width)``, the way TensorBoard takes it."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def verdict(molecule: Perceived) -> str:
    """What the rules say of a molecule, in a word or two."""
    if not molecule.valid:
        return "invalid"
    whole = "stable" if molecule.stable else f"{molecule.stable_atoms}/{molecule.atoms} stable"
    return whole if molecule.connected else f"{whole}, in pieces"


def _drawable(molecule: Perceived) -> "Mol":
    """The bond graph with coordinates for drawing. Without sanitisation where RDKit refuses it."""
    from rdkit import Chem
    from rdkit.Chem import rdDepictor
    from rdkit.Chem.Draw import rdMolDraw2D

    graph = sanitised(build_molecule(molecule.types, molecule.bonds))
    if graph is not None:
        return rdMolDraw2D.PrepareMolForDrawing(Chem.RemoveHs(graph), kekulize=True)
    graph = build_molecule(molecule.types, molecule.bonds)
    for atom in graph.GetAtoms():
        atom.SetNoImplicit(True)
    graph.UpdatePropertyCache(strict=False)
    Chem.FastFindRings(graph)
    rdDepictor.Compute2DCoords(graph)
    return graph
