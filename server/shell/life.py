"""A life of the node. It ends with a status, by which the process exits or begins another life."""

from __future__ import annotations

import asyncio
import logging

from server.storage.engine import StorageDamaged, StorageFull

log = logging.getLogger("dyn")
RESTART = -1  # not an exit status: the process begins another life of the node
REBUILD = -2  # the same, on an empty store
SPARE = -3  # the same, on the present store, which is damaged and must not be compacted


class Life:
    """One life of a node: whether it has ended, and how."""

    def __init__(self, loop: asyncio.AbstractEventLoop, is_spared: bool = False) -> None:
        """`is_spared`: the store is damaged, so the engine does not compact it."""
        self._is_spared = is_spared
        self.status: asyncio.Future[int] = loop.create_future()
        self.has_failed = False  # no message or reply may be sent any more, and nothing written
        self.has_ended = False  # the engine is about to close: there are no more turns

    def end(self, status: int) -> None:
        """Ends this life, unless it has ended already. `Server.stop` then closes all parts."""
        if not self.status.done():
            self.status.set_result(status)

    def fail(self, status: int) -> None:
        """Ends this life at once: what is in memory may be ahead of the disk."""
        self.has_failed = self.has_ended = True
        self.end(status)

    def storage_failed(self, error: BaseException) -> None:
        """The disk has failed: ends this life and sends nothing of this turn, because memory is ahead of the disk.

        the failure                      what the process does next
        the disk is full                 begins another life on the same open engine, which only reads. It does not open
                                         the engine anew, because an engine writes while it is opened.
        a compaction met a damaged       opens the engine anew, without compactions, and begins another life. That one
        block, and compactions were on   reads and writes until the others can fill an empty store (rebuild.py).
        any other                        exits
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
