"""Parts of a prompt set: filtered, or held out."""

from collections.abc import Sequence

from torch import Tensor

from graft_lightning.domains.text_to_image.prompts.base import Prompt, PromptSet
from graft_lightning.processes.noise import SEED_BITS, hashed_seed


class Selected(PromptSet):
    """The prompts of another set that pass every filter, in its order.

    Args:
        prompts: the set that is filtered.
        tags: keep prompts that carry any of these.
        without_tags: drop prompts that carry any of these.
        min_words: fewest words, counted between blanks.
        max_words: most words.
        unique: keep the first of several prompts with the same text.
        first: keep this many of what is left.
    """

    def __init__(
        self,
        prompts: PromptSet,
        tags: list[str] | None = None,
        without_tags: list[str] | None = None,
        min_words: int = 0,
        max_words: int | None = None,
        unique: bool = False,
        first: int | None = None,
    ) -> None:
        self.source = prompts
        self.with_tags = tags
        self.without_tags = without_tags
        self.min_words = min_words
        self.max_words = max_words
        self.unique = unique
        self.first = first

    def read(self) -> list[Prompt]:
        """Filters the set.

        Raises:
            ValueError: if a tag is carried by no prompt of the set, or nothing is left.
        """
        source = self.source.prompts()
        known = {tag for prompt in source for tag in prompt.tags}
        if unknown := sorted({*(self.with_tags or ()), *(self.without_tags or ())} - known):
            tags = ", ".join(sorted(known)) or "none"
            raise ValueError(f"no prompt carries the tag {unknown[0]!r}; the set has {tags}")
        kept = [prompt for prompt in source if self._passes(prompt)]
        if self.unique:
            first_of = {prompt.text: prompt for prompt in reversed(kept)}
            kept = [prompt for prompt in kept if first_of[prompt.text] is prompt]
        if not kept:
            raise ValueError(f"none of the {len(source)} prompts passes the filters; widen them")
        return kept[: self.first]

    def overall(self, prompts: Sequence[Prompt], scores: Tensor) -> float:
        return self.source.overall(prompts, scores)

    def _passes(self, prompt: Prompt) -> bool:
        tags, words = set(prompt.tags), len(prompt.text.split())
        return (
            (self.with_tags is None or bool(tags & set(self.with_tags)))
            and not tags & set(self.without_tags or ())
            and self.min_words <= words
            and (self.max_words is None or words <= self.max_words)
        )


class Split(PromptSet):
    """One part of another set, drawn by a hash of the prompt's text.

    A prompt's part depends on its text, the seed and the fractions alone: not on the order, on what else the set holds,
    or on the process. Equal prompts fall into the same part, and parts of sets that share prompts do not overlap.

    Args:
        prompts: the set that is split.
        part: the part that is wanted, a key of ``fractions``.
        fractions: the expected share of every part; they add up to 1. Prompts that settings are chosen on
            ("validation") are no longer held out, which is why there is a third part.
        seed: another seed gives another split.
    """

    def __init__(
        self,
        prompts: PromptSet,
        part: str = "train",
        fractions: dict[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        fractions = dict(fractions or {"train": 0.8, "validation": 0.1, "test": 0.1})
        if min(fractions.values()) < 0 or abs(sum(fractions.values()) - 1) > 1e-6:
            raise ValueError(f"fractions: {fractions} must be positive and add up to 1")
        if part not in fractions:
            raise ValueError(f"part: {part!r} is not one of the parts of `fractions`, {', '.join(fractions)}")
        self.source = prompts
        self.part = part
        self.fractions = fractions
        self.seed = seed

    def read(self) -> list[Prompt]:
        """Splits the set.

        Raises:
            ValueError: if the part is empty.
        """
        kept = [prompt for prompt in self.source.prompts() if self._part_of(prompt) == self.part]
        if not kept:
            raise ValueError(
                f"part {self.part!r} holds none of the {len(self.source)} prompts; give it a larger fraction than "
                f"{self.fractions[self.part]}, or change `seed`"
            )
        return kept

    def overall(self, prompts: Sequence[Prompt], scores: Tensor) -> float:
        return self.source.overall(prompts, scores)

    def _part_of(self, prompt: Prompt) -> str:
        place = hashed_seed("prompt split", self.seed, prompt.text) / 2**SEED_BITS
        reached = 0.0
        for part, fraction in self.fractions.items():
            reached += fraction
            if place < reached:
                return part
        return part  # the fractions add up to a hair less than 1
