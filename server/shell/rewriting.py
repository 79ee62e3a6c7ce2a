"""Encrypts, while the node serves, what its store has in clear or under an older key (storage/encrypted.py).

Pages are rewritten between turns, for `WORK_S_MAX` at a time, so that clients are served meanwhile. The files that held the
former bytes are written anew by a compaction, in a thread: until it ends they are on the disk. It needs room there.

The file of the keys is looked at once a second, and read again when it has changed or at SIGHUP. If it cannot be used then,
the node goes on with the keys that it has, and logs why.
"""

from __future__ import annotations

import asyncio
import logging
import time
from itertools import pairwise
from pathlib import Path

from server.core.records.records import SLOT_PREFIX
from server.shell.disk import SLOTS_A_STEP
from server.storage.encrypted import EncryptedEngine
from server.storage.engine import Engine, StorageError
from server.storage.keyring import read_keys

log = logging.getLogger("dyn")
WORK_S_MAX = 0.005
PAUSE_S = 0.1
LAST_KEY = b"\xff" * 32  # behind all keys of records and documents
AGAIN_S = 30.0  # after an error, such as a full disk


class KeyWatch:
    """The key file of a node whose store is encrypted, and the rewriting that follows a change of the key."""

    def __init__(self, engine: Engine, path: str) -> None:
        """`engine` may be one that does not encrypt: then there is nothing to do."""
        self._engine = engine if isinstance(engine, EncryptedEngine) else None
        self._path = Path(path)
        self._seen: tuple[int, int, int] | None = (
            None  # of the file that was read last; at the start perhaps another one
        )
        self._changed = asyncio.Event()

    def check(self) -> None:
        """Reads the file again if it has changed; meant to be called once a second."""
        if self._engine is None:
            return
        try:
            found = self._path.stat()
        except OSError:
            return  # it is being replaced, or on a volume that is away: the next start will say so
        seen = found.st_ino, found.st_size, found.st_mtime_ns
        if seen != self._seen:
            self._seen = seen
            self.read_again()

    def read_again(self) -> None:
        """Reads the file now (SIGHUP)."""
        if self._engine is None:
            return
        try:
            if self._engine.change_keys(read_keys(self._path)):
                log.info("new values are encrypted with key %s from now on", self._engine.key_id)
                self._changed.set()
        except StorageError as error:
            log.error("%s; this node keeps the keys that it has", error)

    async def run(self) -> None:
        """Rewrites all values that need it, now and after each change of the key. Runs as long as the node."""
        while self._engine is not None:
            if not self._engine.is_whole:
                await rewrite(self._engine)
            await self._changed.wait()
            self._changed.clear()


async def rewrite(engine: EncryptedEngine) -> None:
    """Rewrites all values that need it."""
    log.info("values are being encrypted with key %s; some are in clear or under another key", engine.key_id)
    while not engine.is_whole:
        changes = engine.changes
        try:
            while _work(engine):
                await asyncio.sleep(PAUSE_S)
            await _compact(engine)
            if engine.changes == changes:  # else some values are under the key that was the present one meanwhile
                engine.finish_rewriting()
        except StorageError as error:
            log.warning("values cannot be encrypted now, this goes on later: %s", error)
            await asyncio.sleep(AGAIN_S)
    log.info("all values are encrypted with key %s: no other key of the file is needed here", engine.key_id)


async def _compact(engine: EncryptedEngine) -> None:
    """Writes the files anew, range by range: the node stops after the present one, and other compactions get their turn."""
    loop = asyncio.get_running_loop()
    bounds = [b"", *SLOT_PREFIX[::SLOTS_A_STEP], LAST_KEY]
    for start, end in pairwise(bounds):
        await loop.run_in_executor(None, engine.compact, start, end)


def _work(engine: EncryptedEngine) -> bool:
    """Rewrites pages for a while; whether there are more."""
    end_s = time.monotonic() + WORK_S_MAX
    while engine.rewrite_some():
        if time.monotonic() >= end_s:
            return True
    return False
