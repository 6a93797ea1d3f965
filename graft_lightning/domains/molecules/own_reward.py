"""A reward of molecules. Change `score`: the larger the number of a molecule, the sooner it is trained on.

It need not be differentiable. NaN says that a molecule cannot be judged: it is counted, and never accepted.
"""

from collections.abc import Sequence

import torch
from tensordict import TensorDict
from torch import Tensor

from graft_lightning.domains.molecules.perception import shared


def score(samples: TensorDict, conditions: Sequence[str]) -> Tensor:
    """How many oxygen and nitrogen atoms there are.

    Args:
        samples: molecules as padded tensors; `shared` gives them one by one, with what their geometry implies: bonds,
            ``stable``, ``connected``, and RDKit's ``mol``, None where RDKit refuses it.
        conditions: what was asked for, such as "n=12", a text a molecule.

    Returns:
        One number a molecule, ``(batch,)``.
    """
    return torch.tensor([float(molecule.count("N") + molecule.count("O")) for molecule in shared(samples)])
