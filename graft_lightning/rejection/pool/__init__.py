"""The trajectory pool: every drawn trajectory on disk, accepted or not, so that selection costs no new sampling.

    pool/
      manifest.json                      format, run seed, fingerprint of the reference and its sampler
      lock                               held by the run that collects
      round-0000/
        manifest.json                    conditions, draws, kept levels, shard size, fingerprint of the round's model
        000000.safetensors …             one file per shard, a contiguous range of trajectories
      rewards/<name>/
        manifest.json                    fingerprint of the reward
        round-0000/000000.safetensors …  its scores, shard by shard

The trajectory of condition ``c`` and draw ``d`` has the global index ``c * draws + d``; shards are cut by that index,
so the files are the same whichever process writes them. A file appears under its name by one atomic rename after fsync
and never changes afterwards; what a killed process leaves behind is ignored. Nothing here is collective: each process
asks for `Round.missing`, writes the shards with ``shard.index % world == rank``, and the caller puts the barriers.
"""

from graft_lightning.rejection.pool.manifest import DamagedShard, NotAPool, PoolError, PoolMismatch
from graft_lightning.rejection.pool.round import KeptLevel, Round
from graft_lightning.rejection.pool.shard import Shard
from graft_lightning.rejection.pool.trajectory_pool import TrajectoryPool

__all__ = ["DamagedShard", "KeptLevel", "NotAPool", "PoolError", "PoolMismatch", "Round", "Shard", "TrajectoryPool"]
