"""Files that stay open between reads: some of them, because a pool may have more shards than a process may have files.

What a batch costs, in milliseconds for 64 and for 256 rows at random, on one core, the files in the system's cache:

                                   391 shards, 1 kB rows   391 shards, 64 kB rows   4,000 shards, 1 kB rows
    preadv, 256 files open              .3     1.1              .8      3.3               .8      2.7
    np.memmap, 256 of them open        1.1     5.6             1.8      7.5              3.7     12.2
    np.memmap, all of them open         .15     .6              .4      1.8               .3      1.0
    all mapped side by side             .03     .07             .2       .9               .04      .1

A training step takes 60 ms for 64 digits, and seconds for rows of 64 kB (the latents of SD 2), so that a read of the
first kind is half a per cent of it, or less. Each `np.memmap` holds a file descriptor, of which a process often has
1,024, and a mapping, of which Linux allows 65,530; to map all files side by side takes MAP_FIXED, by hand through
ctypes. A mapped file that somebody cuts off kills the process that reads it; here that is an error.
"""

import os
import resource
from pathlib import Path

from graft_lightning.rejection.pool.shard import damaged

_ALLOWED = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
OPEN = 256 if _ALLOWED == resource.RLIM_INFINITY else min(256, _ALLOWED // 4)
"""Files that a round keeps open, those that were read last."""


class OpenFile:
    """A file that is open for reading as long as somebody holds on to this object.

    A thread that reads keeps it open though another has it thrown out of a cache.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1  # if opening fails there is nothing to close
        self._descriptor = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fills a buffer of bytes from ``offset`` on.

        Raises:
            DamagedShard: if the file ends before, as one does that was cut off while it was open; names it.
        """
        done = os.preadv(self._descriptor, [buffer], offset)
        while done < len(buffer):  # one call reads less than 2 GiB
            more = os.preadv(self._descriptor, [buffer[done:]], offset + done)
            if not more:
                raise damaged(self.path, f"it ends before byte {offset + len(buffer)}")
            done += more
