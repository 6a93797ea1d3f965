"""LightningModules: thin adapters around the mathematics."""

from graft_lightning.modules.corrector import NoiseCorrector
from graft_lightning.modules.gaussian_corrector import GaussianNoise
from graft_lightning.modules.graft import Graft, PGraft
from graft_lightning.modules.pretrain import Pretrain
from graft_lightning.modules.real import RealData

__all__ = ["GaussianNoise", "Graft", "NoiseCorrector", "PGraft", "Pretrain", "RealData"]
