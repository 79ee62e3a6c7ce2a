"""How a life of the node ends: by a status that the process takes as its exit status, or begins another life for."""

from __future__ import annotations

import asyncio
import logging

from server.storage.engine import StorageDamaged, StorageFull

log = logging.getLogger("dyn")
RESTART = -1  # in place of an exit status: this life of the node has ended, and the process begins another one
REBUILD = -2  # the same, on an empty store
SPARE = -3  # the same, on the present store, which is damaged and must not be compacted


class Life:
    """One life of a node: whether it has ended, and how."""

    def __init__(self, loop: asyncio.AbstractEventLoop, is_spared: bool = False) -> None:
        """`is_spared`: the engine compacts nothing, for the store is damaged."""
        self._is_spared = is_spared
        self.status: asyncio.Future[int] = loop.create_future()
        self.has_failed = False  # nothing more may be said, and nothing more written
        self.has_ended = False  # the engine is about to close: there are no more turns

    def end(self, status: int) -> None:
        """Ends this life, unless it has ended already. What is to be done for that comes next: `Server.stop`."""
        if not self.status.done():
            self.status.set_result(status)

    def fail(self, status: int) -> None:
        """Ends this life at once: what is in memory may be ahead of the disk."""
        self.has_failed = self.has_ended = True
        self.end(status)

    def storage_failed(self, error: BaseException) -> None:
        """The disk has failed: nothing of this turn may be said, and nothing more can be promised.

        What is in memory is ahead of the disk, so this life of the node is over. On a full disk another one begins at
        once, in the same process and on the same open engine, and reads: opened anew the engine would want to write. If a
        compaction has met a damaged block, another life begins on the engine opened anew, without compactions: it reads and
        writes until the others can fill an empty store (rebuild.py).
        """
        if isinstance(error, StorageFull):
            log.critical("no space left, the node begins anew and only reads: %s", error)
            self.fail(RESTART)
            return
        if isinstance(error, StorageDamaged) and not self._is_spared:
            log.critical("the store is damaged, the node begins anew and compacts nothing: %s", error)
            self.fail(SPARE)
            return
        log.critical("storage failed, the node stops: %s", error)
        self.fail(1)
