"""T2I-CompBench++: compositional prompts by category, for training and for validation.

References:
    Huang et al., T2I-CompBench++ (2024), arXiv 2307.06350.
"""

from pathlib import Path
from typing import Literal

from graft_lightning.domains.base.text_files import lines
from graft_lightning.domains.text_to_image.prompts.base import Prompt, PromptSet, read_text

CATEGORIES = ("color", "shape", "texture", "spatial", "non_spatial", "complex", "3d_spatial", "numeracy")
_SEEN_APART = ("color", "shape", "texture")
_WHERE = (
    "T2I-CompBench++ is a folder of text files, examples/dataset in github.com/Karine-Huang/T2I-CompBench; "
    "set `folder` to a copy of it"
)


class T2ICompBench(PromptSet):
    """Prompts of T2I-CompBench++, tagged with their category; 700 a category to train on, 300 to validate.

    Some categories hold a prompt more than once, which `texts` does not repeat.

    Args:
        folder: holds ``<category>_<split>.txt``, one prompt a line.
        split: "train" or "val"; the validation prompts of color, shape and texture are also split into combinations
            that occur in training ("val_seen") and that do not ("val_unseen").
        categories: all that have this split by default.
    """

    def __init__(
        self,
        folder: str,
        split: Literal["train", "val", "val_seen", "val_unseen"] = "val",
        categories: list[str] | None = None,
    ) -> None:
        known = CATEGORIES if split in ("train", "val") else _SEEN_APART
        if unknown := sorted(set(categories or ()) - set(known)):
            raise ValueError(f"categories: {unknown[0]!r} is not a category of split {split!r}; {', '.join(known)} are")
        self.folder = folder
        self.split = split
        self.categories = list(categories or known)

    def read(self) -> list[Prompt]:
        folder = Path(self.folder).expanduser()
        return [
            Prompt(f"{category}_{self.split}/{number:04d}", line, (category,))
            for category in self.categories
            for number, line in enumerate(lines(read_text(folder / f"{category}_{self.split}.txt", _WHERE)))
        ]
