r"""Patch rows: a large record that changes often lies in the store as a base and the patches since, and is read whole.

The problem. RocksDB takes a millisecond of CPU to store 500 KB (log, memtable, flush, compaction), on each of three
nodes, whatever has changed of them. So a hash of 10,000 fields took 100 HSETs a second.

The idea. A record of entries that is written in place of another one gets a *patch row*: the patch from the one to the
other (patches.py). It goes with the batch of the turn like any write, so a crash leaves the record before or after it. The
record is written whole, and its rows are deleted in the same batch, when they are many (`ROWS_MAX`), or long beside the
base, or when all rows of the store reach `patch_rows_bytes_max`: then those that have had rows for longest are written
whole.

    storage key of the record                             the base: a record, as ever
    b"\xff\xfd", storage key, 4 bytes: 0, 1, 2, …         a patch; its base is the record that those before it make

Large records. RocksDB takes 20 ms to store 10 MB, and nobody else would be served. So a record of `large_bytes` and more
gets up to `LARGE_ROWS_MAX` rows, and meanwhile it is written whole in slices (requests/checkpoints.py). What is written so
is a *checkpoint*: the record that the rows up to a number have made. It replaces the base and those rows, in one batch, and
later rows stay. So writes of the key need not wait, and the checkpoint is right however old it is.

The number has a fixed size, so no two records share the key of a row. All rows are outside the range of the records: to
walk over a partition meets records only, and each one that has rows is made whole on the way. The keys that have rows are
known in memory, so that reading any other record costs one look-up. `open` finds them by reading all rows, which
`patch_rows_bytes_max` bounds. Everything else in the node sees whole records: this class takes the place of the engine.

Why it is right. A row is written only for the record that lies in the store, as base and rows. Each row names the record
that it applies to, and the record that comes of all is verified like any other (records.py). So a row that is missing or
damaged in the middle is damage of its record, and is mended like that. If `open` cannot read all rows, it is unknown which
records have some: each record of entries counts as damaged until it is written whole.

A binary that knows no patch rows would serve the base. So before the first row is written, the store is marked, and such a
binary refuses to open it (`Store.require`). A store without the mark is as it was.

Rejected: rows right behind their record in the same range (every walk over records would have to tell them apart); a base
that says that rows follow (older binaries would take it for a damaged record, and mend it away); no index in memory (each
read of a large record would have to look for rows).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from mypy_extensions import i64

from server.core.records.entries import HEADER_BYTES, has_entries
from server.core.records.patches import Patches, apply_all, size_of_result, verify_patch
from server.core.records.store import Store
from server.core.records.structure import verify

PREFIX: Final = b"\xff\xfd"
END: Final = b"\xff\xfe"
MARK: Final = "patches"  # the store needs a binary that knows patch rows
ROWS_MAX: Final = 64  # of one record: to make it whole takes some milliseconds at most
LARGE_ROWS_MAX: Final = 4 * ROWS_MAX  # of a large record, while it is written whole in slices
SHARE: Final = 4  # rows are shorter than this part of their base
ROW_OVERHEAD_BYTES: Final = 200  # of a row, in memory and in the store
NEVER: Final = 1 << 62
_NUMBER_BYTES: Final = 4
_PAGE_ROWS: Final = 1000
_PAGE_BYTES: Final = 4 << 20
_FOLDED_PER_TURN: Final = 2  # records that are written whole in a turn because all rows together are too many


class _Rows:
    """The rows of one record."""

    __slots__ = ("end", "is_large", "size_bytes", "sizes")

    def __init__(self) -> None:
        self.sizes: deque[int] = deque()  # of the patches, in bytes; the last one has the number `end` - 1
        self.end = 0  # the number of the next row
        self.size_bytes = 0  # of all patches
        self.is_large = False  # the record is written whole by a checkpoint

    def keys(self, key: bytes) -> list[bytes]:
        """The keys of the rows of the record under a storage key."""
        return [row_key(key, number) for number in range(self.end - len(self.sizes), self.end)]


class Checkpoint:
    """A large record that is to be written whole in slices: what its rows up to the number `end` (not included) make."""

    __slots__ = ("end", "key", "record", "rows")

    def __init__(self, key: bytes, rows: _Rows) -> None:
        self.key = key
        self.rows = rows
        self.end = rows.end
        self.record = b""  # the caller of `next_overdue` sets it


def row_key(key: bytes, number: int) -> bytes:
    """Returns the key of a row of the record under a storage key."""
    return b"%b%b%b" % (PREFIX, key, number.to_bytes(_NUMBER_BYTES, "big"))


def record_of_row(row: bytes) -> bytes:
    """Returns the storage key of the record that a row belongs to."""
    return row[len(PREFIX) : -_NUMBER_BYTES]


def _may_have_rows(key: bytes, base: bytes) -> bool:
    """Whether what is stored under a key may be the base of patch rows."""
    return key < PREFIX and len(base) > HEADER_BYTES and has_entries(base)


class FoldedStore:
    """A store as the rest of the node sees it: each record is whole. `get`, `get_many` and `scan` are those of `Store`."""

    def __init__(self, store: Store, damage_error: type[Exception], rows_bytes_max: int) -> None:
        self._store = store
        self._damage_error = damage_error
        self._rows_bytes_max = rows_bytes_max
        self._rows: dict[bytes, _Rows] = {}  # by storage key; the record that has had rows for longest is the first
        self._is_marked = False
        self.large_bytes: i64 = NEVER  # records of at least so many bytes are written whole by checkpoints
        self.overdue: dict[bytes, None] = {}  # large records that a checkpoint is to write whole
        self.checkpoints: list[Checkpoint] = []  # for the batch of this turn
        self._whole: dict[bytes, None] | None = None  # if rows could not be read: the records written whole since then
        self.rows_bytes: i64 = 0  # of all rows, with their overhead

    def open(self) -> None:
        """Finds the records that have rows."""
        start = PREFIX
        try:
            while page := self._store.scan(start, END, _PAGE_ROWS, _PAGE_BYTES):
                for key, patch in page:
                    number = int.from_bytes(key[-_NUMBER_BYTES:], "big")
                    self._add(record_of_row(key), number, len(patch))
                start = page[-1][0] + b"\0"
        except self._damage_error:
            self._whole = {}

    def _add(self, key: bytes, number: int, size_bytes: int) -> None:
        rows = self._rows.get(key)
        if rows is None:
            rows = self._rows[key] = _Rows()
        rows.sizes.append(size_bytes)
        rows.end = number + 1
        rows.size_bytes += size_bytes
        self.rows_bytes += size_bytes + ROW_OVERHEAD_BYTES

    def has_rows(self) -> bool:
        """Whether some record has rows, or may have."""
        return bool(self._rows) or self._whole is not None

    # --- reading

    def get(self, key: bytes) -> bytes | None:
        """Returns the value under a storage key. The caller verifies what it is."""
        value = self._store.get(key)
        if key in self._rows or self._whole is not None:
            return self._folded(key, value)
        return value

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """Returns the values under storage keys, in their order. One damaged value raises for all."""
        values = self._store.get_many(keys)
        if self.has_rows():
            for place, key in enumerate(keys):
                if key in self._rows or self._whole is not None:
                    values[place] = self._folded(key, values[place])
        return values

    def scan(self, start: bytes, end: bytes | None, limit: int, bytes_max: int) -> list[tuple[bytes, bytes]]:
        """Returns pairs from `start` (included) to `end` (not), in order: up to `limit`, or until `bytes_max` is met. What
        comes of damaged rows is no sound record."""
        found: list[tuple[bytes, bytes]] = []
        size = 0
        while True:
            wanted, left = limit - len(found), bytes_max - size
            page = self._store.scan(start, end, wanted, left)
            if not self.has_rows():
                return page
            stored = 0
            for key, value in page:
                stored += len(value)
                if key in self._rows or self._whole is not None:
                    value = self._folded_or_damaged(key, value)
                size += len(value)
                found.append((key, value))
            # A record may be shorter than its base, and the page then ends before either limit was met.
            if len(page) == wanted or size >= bytes_max or stored < left:
                return found
            start = page[-1][0] + b"\0"

    def is_stored(self, key: bytes) -> bool:
        """Whether the engine can read something under a storage key, be the record sound or damaged."""
        try:
            return self._store.get(key) is not None
        except self._damage_error:
            return False

    def _folded(self, key: bytes, base: bytes | None) -> bytes | None:
        """Returns the record that a base and its rows make. Raises the engine's exception for damage."""
        rows = self._rows.get(key)
        if rows is None:
            if self._whole is not None and key not in self._whole and base is not None and _may_have_rows(key, base):
                raise self._damage_error("rows of records cannot be read, and it is unknown whether this one has some")
            return base
        patches: list[bytes] = []
        for patch in self._store.get_many(rows.keys(key)):
            if patch is None or not verify_patch(patch):
                raise self._damage_error(f"a patch row of a record is {'missing' if patch is None else 'damaged'}")
            patches.append(patch)
        record = None if base is None else apply_all(base, patches)
        if record is None:
            raise self._damage_error("the patch rows of a record are not those of what is stored")
        return record

    def _folded_or_damaged(self, key: bytes, base: bytes) -> bytes:
        try:
            record = self._folded(key, base)
            assert record is not None
            return record
        except self._damage_error:
            return bytes(8) + base[8:]  # its checksum is wrong

    # --- writing

    def reduce(
        self,
        writes: dict[bytes, bytes | None],
        before: dict[bytes, bytes | None],
        patches: Patches,
        uncommitted: dict[bytes, list[bytes]],
    ) -> None:
        """Puts patch rows into the batch of a turn in place of whole records, and deletes the rows of those that it writes
        whole. `before` has the records that large ones in the batch replace; `uncommitted` has patches that `takes` has
        taken, of records that the batch does not have, or that it has changed once more."""
        keys = list(writes if uncommitted or self.has_rows() else before)
        for key, made in uncommitted.items():
            for patch in made:
                self._put_row(writes, key, patch)
        for key in keys:
            if key not in before or not self._write_row(writes, key, before[key], patches):
                self._written_whole(writes, key)
        if self.rows_bytes > self._rows_bytes_max:
            for key in list(self._rows)[:_FOLDED_PER_TURN]:
                if self._rows[key].is_large:
                    self.overdue[key] = None
                elif key not in before and key not in writes and key not in uncommitted:
                    self._fold(writes, key)
        for checkpoint in self.checkpoints:
            self._adopt(writes, checkpoint)
        self.checkpoints.clear()

    def _write_row(self, writes: dict[bytes, bytes | None], key: bytes, base: bytes | None, patches: Patches) -> bool:
        """Writes a row for a record of the batch. Returns False if it must be written whole."""
        record = writes[key]
        rows = self._rows.get(key)
        if record is None or base is None or (rows is not None and len(rows.sizes) >= self.rows_max(len(base))):
            return False
        patch = patches.of(key, base, record)
        if patch is None or not self.may_add(key, [patch], len(base)):
            return False
        del writes[key]
        self._put_row(writes, key, patch)
        return True

    def may_add(self, key: bytes, patches: Sequence[bytes], base_bytes: int) -> bool:
        """Whether patches may become rows of a record that had so many bytes before the last of them."""
        rows = self._rows.get(key)
        if rows is None and self._whole is not None and key not in self._whole:
            return False
        count, size_bytes = (0, 0) if rows is None else (len(rows.sizes), rows.size_bytes)
        if (
            count + len(patches) > self.rows_max(base_bytes)
            or size_bytes + sum(map(len, patches)) > base_bytes // SHARE
        ):
            return False
        self._is_marked = self._is_marked or self._store.require(MARK)
        return self._is_marked

    def _put_row(self, writes: dict[bytes, bytes | None], key: bytes, patch: bytes) -> None:
        rows = self._rows.get(key)
        number = 0 if rows is None else rows.end
        writes[row_key(key, number)] = patch
        self._add(key, number, len(patch))
        rows = self._rows[key]
        rows.is_large = size_of_result(patch) >= self.large_bytes
        if rows.is_large and len(rows.sizes) >= ROWS_MAX:
            self.overdue[key] = None

    def rows_max(self, base_bytes: int) -> int:
        """How many rows a record of so many bytes may have."""
        return LARGE_ROWS_MAX if base_bytes >= self.large_bytes else ROWS_MAX

    def next_overdue(self) -> Checkpoint | None:
        """Returns the next record to be written whole, which is overdue no more. The caller sets its `record`, what is
        stored before this turn, writes that to the store in slices, and appends the checkpoint to `checkpoints`."""
        for key in list(self.overdue):
            del self.overdue[key]
            rows = self._rows.get(key)
            if rows is not None:
                return Checkpoint(key, rows)
        return None

    def _adopt(self, writes: dict[bytes, bytes | None], checkpoint: Checkpoint) -> None:
        """Puts a checkpoint into the batch of a turn, unless its record was written whole meanwhile."""
        key, rows = checkpoint.key, checkpoint.rows
        if self._rows.get(key) is not rows or key in writes:
            return
        writes[key] = checkpoint.record
        for number in range(rows.end - len(rows.sizes), checkpoint.end):
            size_bytes = rows.sizes.popleft()
            rows.size_bytes -= size_bytes
            self.rows_bytes -= size_bytes + ROW_OVERHEAD_BYTES
            writes[row_key(key, number)] = None
        if not rows.sizes:
            del self._rows[key]
        self.overdue.pop(key, None)

    def _written_whole(self, writes: dict[bytes, bytes | None], key: bytes) -> None:
        rows = self._rows.pop(key, None)
        if rows is not None:
            self.rows_bytes -= rows.size_bytes + ROW_OVERHEAD_BYTES * len(rows.sizes)
            for row in rows.keys(key):
                writes[row] = None
        if self._whole is not None:
            self._whole[key] = None

    def _fold(self, writes: dict[bytes, bytes | None], key: bytes) -> None:
        """Writes a record whole that this turn does not change. One that is damaged stays as it is, until it is mended."""
        try:
            record = self.get(key)
        except self._damage_error:
            record = None
        if record is not None and verify(record):
            writes[key] = record
            self._written_whole(writes, key)
        else:
            self._rows[key] = self._rows.pop(key)  # the others come first
