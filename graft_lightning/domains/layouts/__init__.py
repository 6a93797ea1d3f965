"""Layouts: documents and screens as sets of labelled boxes.

A batch of layouts is a ``TensorDict`` (functions take any mapping) with the fields

* ``label``, int64 ``(batch, elements)``, index into the labels of a `vocabularies.Vocabulary`, 0 where padded,
* ``box``, float ``(batch, elements, 4)``: centre x, centre y, width, height, as shares of the page's sides, 0 where
  padded,
* ``mask``, bool ``(batch, elements)``, True where there is an element; elements come first.

The order of elements means nothing. ``layout`` holds the ways between such batches and single layouts.
"""

from graft_lightning.domains.layouts.conditions import ElementCounts
from graft_lightning.domains.layouts.examples import EmbeddedLayouts, LayoutFiles
from graft_lightning.domains.layouts.reference import LayoutReference
from graft_lightning.domains.layouts.tasks import TaskConditions, WithTasks

__all__ = ["ElementCounts", "EmbeddedLayouts", "LayoutFiles", "LayoutReference", "TaskConditions", "WithTasks"]
