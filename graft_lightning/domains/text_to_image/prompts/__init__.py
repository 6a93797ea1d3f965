"""Prompt sets of text-to-image, each from its own files."""

from graft_lightning.domains.text_to_image.prompts.base import MissingPromptsError, Prompt, PromptSet
from graft_lightning.domains.text_to_image.prompts.genai_bench import GenAIBench
from graft_lightning.domains.text_to_image.prompts.geneval import GenEval
from graft_lightning.domains.text_to_image.prompts.geneval2 import GenEval2
from graft_lightning.domains.text_to_image.prompts.plain import JSONLines, PromptFile
from graft_lightning.domains.text_to_image.prompts.selection import Selected, Split
from graft_lightning.domains.text_to_image.prompts.t2i_compbench import T2ICompBench

__all__ = [
    "GenAIBench",
    "GenEval",
    "GenEval2",
    "JSONLines",
    "MissingPromptsError",
    "Prompt",
    "PromptFile",
    "PromptSet",
    "Selected",
    "Split",
    "T2ICompBench",
]
