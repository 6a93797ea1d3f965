"""Acceptance rules of generalised rejection sampling, one per file; torch only.

Each of the M draws of a condition is accepted with probability ``A(r, F(r), x, P)`` (Eq. 4): r is its reward, F the
empirical distribution function of the M rewards, P the empirical measure of the M draws. The accepted draws then follow
``p exp(r_hat / alpha)`` with ``r_hat / alpha = log E[A | x]`` (Eq. 5); `closed_forms` holds ``E[A | x]`` of each rule.

All tables are ``(groups, draws)``; a group is one (round, condition). A NaN or infinite reward is never accepted and
takes no part in ranks or in F, so groups of unequal size are padded with NaN. `keys` are int64 and say which draws are
copies of each other, -1 for "of nothing". `uniforms` are one number in [0, 1) per trajectory, from its own seed; every
random choice, ties included, is made by them alone.

To add a rule: derive from `Acceptance` and write `probability`; that is all unless it accepts an exact number.

References:
    Fine-Tuning Diffusion Models via Intermediate Distribution Shaping, arXiv 2510.02692.
"""

from graft_lightning.rejection.acceptance.base import Acceptance, Decision
from graft_lightning.rejection.acceptance.best_of_n import BestOfN
from graft_lightning.rejection.acceptance.chain import Chain
from graft_lightning.rejection.acceptance.classical import ClassicalRejection
from graft_lightning.rejection.acceptance.controls import Always, RandomK
from graft_lightning.rejection.acceptance.deduplicated import BinaryDeduplicated, Deduplicated
from graft_lightning.rejection.acceptance.preference import Preference
from graft_lightning.rejection.acceptance.quantile import Quantile
from graft_lightning.rejection.acceptance.soft import SoftAcceptance
from graft_lightning.rejection.acceptance.threshold import Threshold
from graft_lightning.rejection.acceptance.top_k import TopK

__all__ = [
    "Acceptance",
    "Always",
    "BestOfN",
    "BinaryDeduplicated",
    "Chain",
    "ClassicalRejection",
    "Decision",
    "Deduplicated",
    "Preference",
    "Quantile",
    "RandomK",
    "SoftAcceptance",
    "Threshold",
    "TopK",
]
