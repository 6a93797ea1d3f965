"""Pairs of handwritten digits, asked for in words, and single ones, unconditional: the embedded domain."""

from graft_lightning.domains.digits.flow import DigitFeatures, DigitFlow, RealDigits
from graft_lightning.domains.digits.metrics import DigitPairJudge
from graft_lightning.domains.digits.reference import CaptionedDigits, DigitPrompts, DigitReference
from graft_lightning.domains.digits.rewards import DigitPairReward

__all__ = [
    "CaptionedDigits",
    "DigitFeatures",
    "DigitFlow",
    "DigitPairJudge",
    "DigitPairReward",
    "DigitPrompts",
    "DigitReference",
    "RealDigits",
]
