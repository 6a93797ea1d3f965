"""What domains share.

* all: lists of conditions, sources of training examples in endless shuffles, weights, diversity, distances;
* images: references, flows, those that `fit` trains and saves (`saved_flow`), contact sheets;
* sets of elements, such as the atoms of a molecule: what is known of an element and padded batches (`elements`,
  `masks`), sets kept on disk (`ragged`, `ragged_files`), the number of elements as a condition (`counts`);
* networks: the times of several fields (`times`), the transformer block (`transformer`).
"""

from graft_lightning.domains.base.conditions import Conditions, TextFile, Texts, Unconditional, listed
from graft_lightning.domains.base.diversity import Diversity
from graft_lightning.domains.base.examples import Examples
from graft_lightning.domains.base.images import ImageReference, UnconditionalFlow, UnconditionalImages, contact_sheet

__all__ = [
    "Conditions",
    "Diversity",
    "Examples",
    "ImageReference",
    "TextFile",
    "Texts",
    "Unconditional",
    "UnconditionalFlow",
    "UnconditionalImages",
    "contact_sheet",
    "listed",
]
