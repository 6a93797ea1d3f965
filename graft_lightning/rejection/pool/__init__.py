"""The trajectory pool: every drawn trajectory on disk, accepted or not, so that selection costs no new sampling.

    pool/
      manifest.json                      format, run seed, fingerprint of the reference and its sampler
      lock                               held by the run that collects
      round-0000/
        manifest.json                    fingerprint of the round's model; conditions, draws, kept levels, shard size
        000000.safetensors …             one file per shard, a contiguous range of trajectories
        part-0001/ …                     what the round has grown by: further draws and conditions, in the same way
        level-0012/                      states at a level that was asked for later, shard by shard
      rewards/<name>/
        manifest.json                    fingerprint of the reward
        round-0000/000000.safetensors …  its scores, shard by shard; of a groupwise one by size of the group

A trajectory is known by its condition's text and its draw, of which, with run seed and round, its seed is made. What is
asked for, conditions × draws, is a view (`Round`) in which the trajectory of condition ``c`` and draw ``d`` has the
index ``c * draws + d``. Whoever asks for more than there is adds a part with what is missing; whoever asks for less
reads a part of it.

Files follow from what was asked for, whichever process writes them. A file appears under its name by one atomic rename
after fsync, names in its header what it was made for, and never changes afterwards, but for scores that are added to
others; what a killed process leaves behind is ignored. Every manifest has a checksum. Nothing here is collective: each
process asks for `Round.missing`, writes its share of the shards, and the caller puts the barriers.

A pool needs a file system that can rename, list and fsync: a local disk, or one that the nodes of a cluster share (NFS,
Lustre, GPFS). An object store can do neither of the first two as one step, and has no layer here: fill the pool on a
disk, and copy the folder there and back by whatever copies folders, since files do not change once they are there. A
copy in progress lacks shards, which is told, and a broken one fails its checksums. Where a folder can only be read,
whatever it holds is used, and what it lacks is refused before anything is drawn.
"""

from graft_lightning.rejection.pool.manifest import DamagedShard, NotAPool, PoolError, PoolMismatch
from graft_lightning.rejection.pool.part import KeptLevel
from graft_lightning.rejection.pool.round import Round
from graft_lightning.rejection.pool.shard import Shard
from graft_lightning.rejection.pool.trajectory_pool import TrajectoryPool

__all__ = ["DamagedShard", "KeptLevel", "NotAPool", "PoolError", "PoolMismatch", "Round", "Shard", "TrajectoryPool"]
