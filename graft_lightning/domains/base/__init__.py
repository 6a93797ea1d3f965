"""Glue that domains share: lists of conditions, sources of training examples, references of pictures."""

from graft_lightning.domains.base.conditions import Conditions, TextFile, Texts, Unconditional
from graft_lightning.domains.base.diversity import Diversity
from graft_lightning.domains.base.examples import Examples
from graft_lightning.domains.base.pictures import PictureFlow, PictureReference, contact_sheet

__all__ = [
    "Conditions",
    "Diversity",
    "Examples",
    "PictureFlow",
    "PictureReference",
    "TextFile",
    "Texts",
    "Unconditional",
    "contact_sheet",
]
