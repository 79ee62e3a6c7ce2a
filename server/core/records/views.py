"""Views: one key's record as a reader at a given time sees it.

Theory. A view is cheap to make: it reads the header of the record and what is said about the key as a whole. Fields are
found when they are asked for. It decides what a record means:

type      That of the newest dot among the entries that make a type (kinds.py). Entries of other types are hidden: they
          were written at the same time on the other side of a partition, and go with the next write that has seen them.
          A value that is older than a tombstone makes no type.
expiry    That of the newest dot among the key expiries and, for a string, its value. After it the key does not exist.
fields    A field has the payload of its newest entry, and what was added to it, if that is a number. When that entry has
          expired, the field does not exist.
items     Of a list or a stream each entry is an item. Several have one position or id if two sides of a partition chose
          it at the same time; then these items stand in the order of their dots.
string    The newest value and the sum of what was added to it. HyperLogLogs are strings, too: of those that were written at
          the same time, the newest value included if it is one, the string is the one that has all their elements.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from server.core.formats.hyperloglog import is_valid, merged
from server.core.formats.pausing import Pace, Slices, run_through
from server.core.records import siblings
from server.core.records.entries import Entry, Index, by_field, has_entries, key_entries, marks_of, newness
from server.core.records.kinds import (
    BASE_KINDS,
    COLLECTIONS,
    COUNTER_DELTA,
    DELTA_KINDS,
    EXPIRY_MARK,
    HASH,
    HYPERLOGLOG,
    KEY_EXPIRY,
    LIST,
    MEMBER_DELTA,
    NONE,
    OPAQUE,
    OPAQUE_MARKS,
    SET,
    STREAM,
    STRING,
    TYPE_MARKS,
    ZSET,
    type_of_kind,
)
from server.core.records.numbers import decimal_of, plus, total
from server.core.records.siblings import TOMBSTONE, VALUE

_TYPES: Final = (STRING, *COLLECTIONS)
_OF_ITEMS: Final = (LIST, STREAM)  # each entry is an item
_NO_DOT: Final = bytes(16)
_score = struct.Struct(">d")
NO_SCORE: Final = _score.pack(0.0)
_ITEMS_MAX: Final = 2  # chunks: commands that share a draft ask for both ends of a list
_QUESTIONS_MAX: Final = 8  # fields looked up in one chunk, one by one; for more of them it is decoded


def pack_score(score: float) -> bytes:
    """Returns the payload of a member with this score."""
    return _score.pack(score)


def unpack_score(payload: bytes) -> float:
    """Returns the score that a member's payload stands for."""
    score: float = _score.unpack(payload)[0]
    return score


class View:
    """One key's record as a reader at time `now_ms` sees it. `key_type` is NONE if the key does not exist then."""

    def __init__(self, record: bytes | None, now_ms: int) -> None:
        self.base = record  # the record that is looked at
        self.now_ms = now_ms
        self.key_type: int = NONE
        self.expires_at_ms = 0  # of the whole key; 0 for never
        self.marks = 0  # of the record; 0 for a plain one
        self.has_expired = False  # the whole key has
        self.hides = False  # there are entries of other types
        self.newest: siblings.Sibling | None = None  # of a string: its newest value
        self._index: Index | None = None
        self._deltas: list[bytes] = []  # of a string
        self._sketches: list[bytes] = []  # of a string: HyperLogLog registers
        self._count = -1
        self._is_shared: bool | None = None  # whether items of a list share positions, once it is known
        self._asked_chunk = -1  # the chunk of the field that was looked up last
        self._asked = 0  # how many fields of it were looked up without another chunk in between
        self._decoded: dict[bytes, tuple[bytes, int]] = {}  # its live fields, once they were so many
        self._items: dict[int, list[tuple[bytes, bytes]]] = {}  # chunk -> its items, of a few that were read lately
        if record is None:
            return
        if has_entries(record):
            self.marks = marks_of(record)
            self._open(record)
        else:
            self._open_plain(record)

    def _open_plain(self, record: bytes) -> None:
        present = siblings.decode(record)[1]
        if present:
            newest = max(present, key=siblings.by_time)
            if newest.is_live(self.now_ms):
                self.newest = newest
                self.key_type = STRING
                self.expires_at_ms = newest.expires_at_ms

    def _open(self, record: bytes) -> None:
        """Finds out the type and the expiry."""
        self._index = Index(record)
        about = key_entries(record)
        base = _newest(about, VALUE, TOMBSTONE)
        if base is not None and base[1] == TOMBSTONE:
            base = None
        self._deltas = [entry[4] for entry in about if entry[1] == COUNTER_DELTA]
        self._sketches = [entry[4] for entry in about if entry[1] == HYPERLOGLOG]
        is_string = base is not None or bool(self._deltas) or bool(self._sketches)
        types = [each for each in _TYPES if self.marks & TYPE_MARKS[each] and (each != STRING or is_string)]
        self.hides = len(types) > 1 or bool(self.marks & TYPE_MARKS[STRING] and not is_string)
        found = types[0] if types else NONE
        if len(types) > 1:
            found = self._newest_type(base)
        expiry = _newest(about, KEY_EXPIRY, KEY_EXPIRY)
        if found == STRING and base is not None and (expiry is None or newness(base[2]) > newness(expiry[2])):
            expiry = base
        at_ms = 0 if expiry is None else expiry[3]
        if at_ms and at_ms <= self.now_ms:
            found = NONE
            self.has_expired = True
        elif found > STRING and self.marks & EXPIRY_MARK and not self._has_field(found):
            found = NONE
        if found == NONE and self.marks & OPAQUE_MARKS:
            found, at_ms = OPAQUE, 0
        if found != NONE:
            self.key_type = found
            self.expires_at_ms = at_ms
        if found == STRING and base is not None:
            actor, counter = base[2][:8], int.from_bytes(base[2][8:], "big")
            self.newest = siblings.Sibling(actor, counter, base[3], VALUE, base[4])

    def _newest_type(self, base: Entry | None) -> int:
        """Returns the type of the newest dot. Several types are there only after concurrent writes: all is decoded."""
        best, found = (-1, _NO_DOT), NONE
        index = self._index
        assert index is not None
        for chunk in range(index.count):
            for entry in index.entries_in(chunk):
                kind = entry[1]
                each = type_of_kind(kind)
                if each in (NONE, OPAQUE) or (kind == VALUE and entry != base):
                    continue
                if newness(entry[2]) > best and (kind == VALUE or not entry[3] or entry[3] > self.now_ms):
                    best, found = newness(entry[2]), each
        return found

    def _has_field(self, key_type: int) -> bool:
        """Whether some field is live. Some fields have an expiry of their own."""
        index = self._index
        assert index is not None
        for chunk in range(index.count):
            for _, group in by_field(index.entries_in(chunk)):
                if self._resolve(group, key_type) is not None:
                    return True
        return False

    def _resolve(self, group: list[Entry], key_type: int) -> tuple[bytes, int] | None:
        """Returns the payload and the expiry of a field that has these entries; None if it is not live."""
        base_kind, delta_kind = BASE_KINDS[key_type], DELTA_KINDS[key_type]
        base: Entry | None = None
        deltas: list[bytes] = []
        for entry in group:
            if entry[1] == base_kind:
                if base is None or newness(entry[2]) > newness(base[2]):
                    base = entry
            elif entry[1] == delta_kind:
                deltas.append(entry[4])
        if base is None:
            if not deltas:
                return None
            return sum_of(key_type, NO_SCORE if key_type == ZSET else b"0", deltas), 0
        if base[3] and base[3] <= self.now_ms:
            return None
        return (sum_of(key_type, base[4], deltas) if deltas else base[4]), base[3]

    # --- what commands ask

    def __len__(self) -> int:
        """The number of live fields, elements or members; 0 for a string."""
        if self._count < 0:
            self._count = run_through(self._counted())
        return self._count

    def count_in_slices(self) -> Slices[int]:
        """As `len`, in slices: fields that may have expired are counted one by one. `len` knows the number afterwards."""
        if self._count < 0:
            self._count = yield from self._counted()
        return self._count

    def _counted(self) -> Slices[int]:
        index = self._index
        if index is None or self.key_type not in COLLECTIONS:
            return 0
        pace = Pace()
        if self.hides or self.marks & OPAQUE_MARKS:
            total = 0
            for chunk in range(index.count):
                if pace.is_full(self.chunk_size(chunk)):
                    yield
                total += len(self._lasting_in(chunk))
            return total
        first = index.entries_of(b"", 0)
        if self.key_type in _OF_ITEMS:
            return index.entries - len(first)
        about = int(bool(first) and self._resolve(first, self.key_type) is None)  # an empty field that is none
        total = index.fields() - about
        for chunk in index.expiring_chunks() if self.marks & EXPIRY_MARK else ():
            if pace.is_full(self.chunk_size(chunk)):
                yield
            fields = self.chunk_size(chunk) - (about if chunk == 0 else 0)
            total += len(self._lasting_in(chunk)) - fields
        return total

    def string(self) -> bytes | None:
        """The value of a string; None if the key does not exist or is no string."""
        if self.key_type != STRING:
            return None
        if self._sketches and not self._deltas and (self.newest is None or is_valid(self.newest.value)):
            return merged(self._sketches if self.newest is None else [*self._sketches, self.newest.value])
        value = self.newest.value if self.newest is not None else b"0"
        return sum_of(STRING, value, self._deltas) if self._deltas else value

    def sketches(self) -> list[bytes]:
        """The HyperLogLog registers of a string, one or, after concurrent writes, several."""
        return self._sketches if self.key_type == STRING else []

    def get(self, field: bytes) -> bytes | None:
        """The payload of a live field: a hash field's value, b"" for an element, a member's score in 8 bytes."""
        found = self.look_up(field)
        return None if found is None else found[0]

    def has(self, field: bytes) -> bool:
        """Whether a field is live."""
        return self.look_up(field) is not None

    def field_expiry(self, field: bytes) -> int:
        """The expiry of a live field; 0 if it has none."""
        found = self.look_up(field)
        return 0 if found is None else found[1]

    def look_up(self, field: bytes) -> tuple[bytes, int] | None:
        """The payload and the expiry of a live field."""
        index = self._index
        if index is None or self.key_type not in COLLECTIONS:
            return None
        chunk = index.chunk_of(field)
        if chunk != self._asked_chunk:
            self._asked_chunk, self._asked = chunk, 0
        self._asked += 1
        if self._asked < _QUESTIONS_MAX or self.key_type in _OF_ITEMS:
            return self._resolve(index.entries_of(field, chunk), self.key_type)
        if self._asked == _QUESTIONS_MAX:
            self._decoded = {each[0]: (each[1], each[2]) for each in self._lasting_in(chunk)}
        return self._decoded.get(field)

    def count_at(self, field: bytes) -> int:
        """How many items a field stands for: 1 if it is live; of a list or a stream those at this position or id."""
        if self.key_type not in _OF_ITEMS or self._index is None:
            return int(self.has(field))
        kind = BASE_KINDS[self.key_type]
        return sum([entry[1] == kind for entry in self._index.entries_of(field, self._index.chunk_of(field))])

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """The live fields and their payloads, sorted by field, decoded chunk by chunk."""
        index = self._index
        for chunk in range(self.chunks()):
            assert index is not None
            yield from self.items_in(chunk)

    def items_backwards(self) -> Iterator[tuple[bytes, bytes]]:
        """The same from the last field to the first one."""
        for chunk in range(self.chunks() - 1, -1, -1):
            yield from reversed(self.items_in(chunk))

    def index(self) -> Index:
        """The chunks of a collection, and where they are."""
        assert self._index is not None
        return self._index

    def chunks(self) -> int:
        """The number of chunks, for those who do not want all items at once."""
        return self._index.count if self._index is not None and self.key_type in COLLECTIONS else 0

    def chunk_size(self, chunk: int) -> int:
        """The number of distinct fields in a chunk: at least as many as are live."""
        assert self._index is not None
        return self._index.row(chunk)[1]

    def item_counts(self) -> list[int]:
        """The number of items in each chunk of a list. Chunks are decoded only if positions have several items, or if there
        is something that is no item."""
        index = self._index
        if index is None or self.key_type != LIST:
            return []
        if self.shares_positions():
            return [len(self.items_in(chunk)) for chunk in range(index.count)]
        counts: list[int] = index.field_counts().tolist()
        counts[0] -= bool(index.entries_of(b"", 0))
        return counts

    def shares_positions(self) -> bool:
        """Whether several items of a list may have one position, or there is something that is no item."""
        index = self._index
        if index is None or self.key_type != LIST:
            return False
        if self._is_shared is None:
            about = index.entries_of(b"", 0)
            is_mixed = self.hides or bool(self.marks & OPAQUE_MARKS)
            self._is_shared = is_mixed or index.fields() - bool(about) != index.entries - len(about)
        return self._is_shared

    def may_have(self, chunk: int, payload: bytes) -> bool:
        """Whether a chunk may have an entry with this payload. To search its bytes is much faster than to decode it."""
        index = self.index()
        return index.record.find(payload, index.starts[chunk], index.starts[chunk + 1]) >= 0

    def chunk_of(self, field: bytes) -> int:
        """The chunk that has a field, if any has it."""
        assert self._index is not None
        return self._index.chunk_of(field)

    def items_in(self, chunk: int) -> list[tuple[bytes, bytes]]:
        """The live fields of a chunk and their payloads, sorted by field. Nobody may change the list."""
        items = self._items.get(chunk)
        if items is None:
            if len(self._items) >= _ITEMS_MAX:
                self._items.clear()
            items = self._items[chunk] = [(field, payload) for field, payload, _ in self._lasting_in(chunk)]
        return items

    def lasting_items(self) -> Iterator[tuple[bytes, bytes, int]]:
        """The live fields, their payloads and their expiries, sorted by field."""
        for chunk in range(self.chunks()):
            yield from self._lasting_in(chunk)

    def _lasting_in(self, chunk: int) -> list[tuple[bytes, bytes, int]]:
        assert self._index is not None
        if self.key_type in _OF_ITEMS:
            return _items_among(self._index.entries_in(chunk), BASE_KINDS[self.key_type])
        found: list[tuple[bytes, bytes, int]] = []
        for field, group in by_field(self._index.entries_in(chunk)):
            resolved = self._resolve(group, self.key_type)
            if resolved is not None:
                found.append((field, resolved[0], resolved[1]))
        return found


def _items_among(entries: list[Entry], item_kind: int) -> list[tuple[bytes, bytes, int]]:
    """Returns the items of a list or a stream among entries, which are sorted."""
    return [(field, payload, 0) for field, kind, _, _, payload in entries if kind == item_kind]


def _newest(entries: list[Entry], kind: int, other_kind: int) -> Entry | None:
    """Returns the entry of one of two kinds that has the newest dot."""
    found: Entry | None = None
    for entry in entries:
        if entry[1] in (kind, other_kind) and (found is None or newness(entry[2]) > newness(found[2])):
            found = entry
    return found


def sum_of(key_type: int, base: bytes, deltas: list[bytes]) -> bytes:
    """Returns the payload that a base and what was added to it make together."""
    if key_type == ZSET:
        score = unpack_score(base)
        if score - score != 0:  # infinite
            return base
        number = decimal_of(repr(score).encode())
        for delta in deltas:
            number = plus(number, decimal_of(delta))
        return pack_score(float(number))
    return total(base, deltas) or base


def is_delta(kind: int) -> bool:
    """Whether entries of this kind have what an actor has added."""
    return kind in (COUNTER_DELTA, DELTA_KINDS[HASH], MEMBER_DELTA)


__all__ = ["SET", "View", "is_delta", "pack_score", "sum_of", "unpack_score"]
