"""Pairs of handwritten digits, asked for in words: the embedded text-to-image domain."""

from graft_lightning.domains.digits.metrics import DigitPairJudge
from graft_lightning.domains.digits.reference import CaptionedDigits, DigitPrompts, DigitReference
from graft_lightning.domains.digits.rewards import DigitPairReward

__all__ = ["CaptionedDigits", "DigitPairJudge", "DigitPairReward", "DigitPrompts", "DigitReference"]
