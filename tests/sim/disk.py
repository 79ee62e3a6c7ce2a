"""A disk: the store of one node, and everything that has ever been on it.

Theory. A commit is one batch, whole or not at all. `kill -9` loses no commit (the page cache outlives the process); a
power loss loses a suffix of the batches that no finished sync covers, as a write-ahead log does; a wiped disk has lost
all, one rolled back to an older copy what came after it, and a damaged record is lost though something lies there. A
damaged block stays so over a power loss, even one that leaves other bytes in it. The log of all this is not the node's: it
is the checkers' evidence, and keeps what the disk has lost.

A record may lie there as a base and patch rows (core/records/patch_rows.py). `raw` is what lies there, and `data`, which
the checkers read, has each record whole; a record whose rows do not fit is no sound one. In the same way a large record may
lie there as a front and chunks (server/storage/chunked.py).
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from server.core.records.patch_rows import PREFIX
from server.core.records.patches import apply
from server.core.records.records import META, RECORDS_END
from server.storage.chunked import CHUNK_HEAD, CHUNKS, FRONT, ID_BYTES, OWNERS
from tests.sim.events import Events

LAYOUT = META + b"layout"
USERS = META + b"users"


class Cause(Enum):
    """Why the bytes under a key have changed."""

    COMMIT = "commit"  # the node's doing
    LOSS = "loss"  # a power loss, or a wiped disk
    ROLLBACK = "rollback"  # an older copy of the disk
    DAMAGE = "damage"


class Change(NamedTuple):
    """What has come to lie under a storage key of a node's disk; None: nothing. Records and hints, no documents."""

    step: int
    now_ms: int
    node: str
    key: bytes
    record: bytes | None
    cause: Cause


Batch = Mapping[bytes, bytes | None]
DAMAGED = b"damaged"  # what comes of patch rows that do not fit


class DamagedBlock(ValueError):
    """The engine cannot read what is stored there. (The nodes' `damage_error` in the simulator is ValueError.)"""


class Disk:
    """`get`, `get_many` and `scan` are `server.core.records.records.Store`; the rest is the shell's and the faults'."""

    sync_ms_max = 10

    def __init__(self, node: str, log: list[Change], events: Events) -> None:
        self.node = node
        self.raw: dict[bytes, bytes] = {}
        self.data: dict[bytes, bytes] = {}
        self.marks: dict[str, None] = {}
        self._synced: dict[bytes, bytes] = {}
        self._unsynced: list[Batch] = []
        self._unreadable: dict[bytes, None] = {}
        self._bad_blocks: dict[bytes, None] = {}  # keys at which no scan gets on, whatever is written there
        self._log = log
        self._events = events
        self._sorted: list[bytes] | None = None  # the keys in order, until they change
        # At which step which document came to lie there:
        self.layouts: list[tuple[int, bytes | None, Cause]] = []
        self.users: list[tuple[int, bytes | None, Cause]] = []

    def get(self, key: bytes) -> bytes | None:
        """The value under a storage key. Raises DamagedBlock."""
        if key in self._unreadable:
            raise DamagedBlock(f"the block of {key!r} is damaged")
        return self.raw.get(key)

    def require(self, mark: str) -> bool:
        """Marks the store."""
        self.marks[mark] = None
        return True

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """The values under storage keys. Raises DamagedBlock if one cannot be read."""
        return [self.get(key) for key in keys]

    def scan(self, start: bytes, end: bytes | None, limit: int, bytes_max: int) -> list[tuple[bytes, bytes]]:
        """Up to `limit` pairs from `start` (included) to `end` (not), ascending, up to `bytes_max`. Raises DamagedBlock."""
        if self._sorted is None:
            self._sorted = sorted(self.raw)
        keys = self._sorted
        first = bisect_left(keys, start)
        last = len(keys) if end is None else bisect_left(keys, end)
        pairs: list[tuple[bytes, bytes]] = []
        for key in keys[first : min(last, first + limit)]:
            if key in self._bad_blocks:
                raise DamagedBlock(f"the block of {key!r} is damaged")
            pairs.append((key, self._readable(key)))
            bytes_max -= len(pairs[-1][1])
            if bytes_max <= 0:
                break
        return pairs

    def _readable(self, key: bytes) -> bytes:
        value = self.get(key)
        assert value is not None
        return value

    def commit(self, batch: Batch) -> None:
        """Writes a turn's batch."""
        _apply(self.raw, batch)
        self._sorted = None
        self._unsynced.append(batch)
        for key, record in batch.items():
            self._unreadable.pop(key, None)
            if key.startswith((CHUNKS, OWNERS)):
                assert self.marks, "an older binary could open the store, and would not see the chunks"
            elif not key.startswith(PREFIX):
                whole = _gathered(self.raw, record)
                _apply(self.data, {key: whole})
                self._note(key, whole, Cause.COMMIT)
            elif record is not None:
                assert self.marks, "an older binary could open the store, and would not see the row"
                key = record_key(key)
                self.data[key] = _patched(self.data[key], record)
                self._note(key, self.data[key], Cause.COMMIT)
        self._note_lost_chunks(batch)

    def _note_lost_chunks(self, batch: Batch) -> None:
        """A batch that deletes chunks of a record, and leaves the record, has lost it."""
        ids = {
            key[len(CHUNKS) :][:ID_BYTES]: None for key, value in batch.items() if value is None and key[:2] == CHUNKS
        }
        for key, value in self.raw.items() if ids else ():
            if value.startswith(FRONT) and value[len(FRONT) :][:ID_BYTES] in ids:
                self.data[key] = DAMAGED
                self._note(key, None, Cause.COMMIT)

    def _note(self, key: bytes, record: bytes | None, cause: Cause) -> None:
        if key == LAYOUT:
            self.layouts.append((self._events.step, record, cause))
        elif key == USERS:
            self.users.append((self._events.step, record, cause))
        elif not key.startswith(META):
            self._log.append(Change(self._events.step, self._events.now_ms, self.node, key, record, cause))

    def sync_ms(self, rng: random.Random) -> int:
        """How long the next sync takes."""
        return rng.randint(1, self.sync_ms_max)

    def unsynced(self) -> int:
        """How many batches a sync that begins now will cover."""
        return len(self._unsynced)

    def sync(self, batches: int) -> None:
        """A sync that covered the oldest `batches` has ended."""
        for batch in self._unsynced[:batches]:
            _apply(self._synced, batch)
        del self._unsynced[:batches]

    def durable(self, key: bytes) -> bytes | None:
        """What would lie under a storage key after a loss of power now."""
        return self._synced.get(key)

    def lose_power(self, rng: random.Random) -> int:
        """What no sync covered is lost from some batch on; returns how many batches are."""
        kept = rng.randint(0, len(self._unsynced))
        lost = len(self._unsynced) - kept
        self.sync(kept)
        self._become(self._synced, Cause.LOSS)
        return lost

    def wipe(self) -> None:
        """A new, empty disk."""
        self._become({}, Cause.LOSS)

    def copy(self) -> dict[bytes, bytes]:
        """All that is on the disk, as a backup of it would be."""
        return dict(self.raw)

    def roll_back(self, copy: dict[bytes, bytes]) -> None:
        """An older copy takes the place of what is there."""
        self._become(copy, Cause.ROLLBACK)

    def _become(self, data: dict[bytes, bytes], cause: Cause) -> None:
        before, raw, self.raw, self._synced, self._sorted = self.data, data, dict(data), dict(data), None
        self.data = data = _whole(raw)
        self._unsynced.clear()
        self._unreadable = {key: None for key in self._unreadable if cause is Cause.LOSS and key in raw}
        self._bad_blocks = {key: None for key in self._bad_blocks if cause is Cause.LOSS and key in raw}
        for key in sorted(before.keys() | data.keys()):
            if before.get(key) != data.get(key):
                self._note(key, data.get(key), cause)
        for key in self._unreadable:  # other bytes lie there now, perhaps sound ones, but nobody gets to read them
            if before.get(key) != data.get(key):
                self._note(key, None, Cause.DAMAGE)

    def damage(self, key: bytes, data: bytes) -> None:
        """The bytes under a storage key are wrong from now on, whatever was synced."""
        self.raw[key] = data
        if key in self._synced:
            self._synced[key] = data
        self._sorted = None
        if key.startswith(CHUNKS):
            id_ = key[len(CHUNKS) : len(CHUNKS) + ID_BYTES]
            owners = [each for each, value in self.raw.items() if value.startswith(FRONT + id_)]
            if not owners:
                return  # it is only staged
            key, data = owners[0], DAMAGED
        elif key.startswith(PREFIX):
            key = record_key(key)
            data = DAMAGED
        self.data[key] = data
        self._note(key, None, Cause.DAMAGE)

    def damage_block(self, key: bytes) -> None:
        """The engine cannot read what lies under a storage key, whatever it is, until something is written there."""
        self._unreadable[key] = None
        self._note(key, None, Cause.DAMAGE)

    def damage_sorted_file(self, key: bytes) -> None:
        """As `damage_block`, but what is written there later lies elsewhere: scans go on to meet the block."""
        self.damage_block(key)
        self._bad_blocks[key] = None

    def damage_some(self, rng: random.Random) -> bytes | None:
        """Flips a bit of a stored record, or makes its block unreadable; returns where, None if there is none."""
        keys = sorted(key for key in self.raw if key < RECORDS_END or key.startswith((PREFIX, CHUNKS)))
        if not keys:
            return None
        key = rng.choice(keys)
        if rng.random() < 0.3 and not key.startswith((PREFIX, CHUNKS)):
            self.damage_block(key)
        else:
            record = self.raw[key]
            place = rng.randrange(len(record))
            self.damage(key, record[:place] + bytes((record[place] ^ 1 << rng.randrange(8),)) + record[place + 1 :])
        return key

    def is_readable(self, key: bytes) -> bool:
        """Whether the engine can read what lies under a storage key."""
        return key not in self._unreadable

    def is_whole(self) -> bool:
        """Whether the engine can read all that lies there."""
        return not self._unreadable

    def count(self) -> int:
        """The number of records."""
        return sum(key < RECORDS_END for key in self.data)


def record_key(row: bytes) -> bytes:
    """The storage key of the record that a patch row belongs to."""
    return row[len(PREFIX) : -4]


def _gathered(raw: Batch, value: bytes | None) -> bytes | None:
    """The whole record, if what lies there is the front of one."""
    if value is None or not value.startswith(FRONT):
        return value
    at = len(FRONT)
    id_, count, before = value[at : at + ID_BYTES], value[at + ID_BYTES : at + ID_BYTES + 4], value[at + ID_BYTES + 4 :]
    rows = [CHUNKS + id_ + number.to_bytes(4, "big") for number in range(int.from_bytes(count, "big"))]
    chunks = [chunk for chunk in map(raw.get, rows) if chunk is not None and chunk.startswith(CHUNK_HEAD)]
    return before + b"".join([chunk[len(CHUNK_HEAD) :] for chunk in chunks]) if len(chunks) == len(rows) else DAMAGED


def _patched(record: bytes, patch: bytes) -> bytes:
    return (apply(record, patch) if len(record) > 8 else None) or DAMAGED


def _whole(raw: Batch) -> dict[bytes, bytes]:
    """What lies there, with each record whole."""
    hidden = (PREFIX, CHUNKS, OWNERS)
    data = {key: value for key, value in raw.items() if value is not None and not key.startswith(hidden)}
    for key, value in data.items():
        data[key] = _gathered(raw, value) or DAMAGED
    for row in sorted(key for key in raw if key.startswith(PREFIX)):
        key, patch = record_key(row), raw[row]
        assert patch is not None
        data[key] = _patched(data.get(key, DAMAGED), patch)
    return data


def _apply(data: dict[bytes, bytes], batch: Batch) -> None:
    for key, value in batch.items():
        if value is None:
            data.pop(key, None)
        else:
            data[key] = value
