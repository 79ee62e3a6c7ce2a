"""One run of the node within its process. It ends with a status: the process exits with it, or begins another run."""

from __future__ import annotations

import asyncio
import logging

from server.storage.engine import StorageDamaged, StorageFull

log = logging.getLogger("dyn")
RESTART = -1  # not an exit status: the process begins another run of the node
REBUILD = -2  # the same, on an empty store
WITHOUT_COMPACTION = -3  # the same, on the present store, which is damaged and must not be compacted


class NodeRun:
    """One run of the node: whether it has ended, and how."""

    def __init__(self, loop: asyncio.AbstractEventLoop, compaction_is_off: bool = False) -> None:
        """`compaction_is_off`: the store is damaged, so the engine does not compact it."""
        self._compaction_is_off = compaction_is_off
        self.status: asyncio.Future[int] = loop.create_future()
        self.has_failed = False  # no message or reply may be sent any more, and nothing written
        self.has_ended = False  # the engine is about to close: there are no more turns

    def end(self, status: int) -> None:
        """Ends this run, unless it has ended already. `Server.stop` then closes all parts."""
        if not self.status.done():
            self.status.set_result(status)

    def fail(self, status: int) -> None:
        """Ends this run at once: what is in memory may be ahead of the disk."""
        self.has_failed = self.has_ended = True
        self.end(status)

    def storage_failed(self, error: BaseException) -> None:
        """The disk has failed: ends this run and sends nothing of this turn, because memory is ahead of the disk.

        the failure                      the process then
        the disk is full                 begins another run on the same open engine, which only reads. It does not open
                                         the engine anew, because an engine writes while it is opened.
        a compaction met a damaged       opens the engine anew, without compactions, and begins another run. That one
        block, and compactions were on   reads and writes until the others can fill an empty store (rebuild.py).
        any other                        exits
        """
        if isinstance(error, StorageFull):
            log.critical("no space left: the node restarts in this process and serves reads only: %s", error)
            self.fail(RESTART)
            return
        if isinstance(error, StorageDamaged) and not self._compaction_is_off:
            log.critical("the store is damaged: the node restarts in this process, without compactions: %s", error)
            self.fail(WITHOUT_COMPACTION)
            return
        log.critical("storage failed, the node stops: %s", error)
        self.fail(1)
