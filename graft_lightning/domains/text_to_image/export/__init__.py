"""Export to plain diffusers: weights, a script that hands off, and the proof that both do what the run did."""

from graft_lightning.domains.text_to_image.export.write import Tuned, export

__all__ = ["Tuned", "export"]
