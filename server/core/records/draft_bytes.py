"""The bytes of a record after the changes of a draft: what is unchanged is copied, not decoded.

Theory. Each changed field is in one chunk, or would be. Chunks without such a field are copied whole, with their rows of
the directory. A chunk with such a field is walked: the bytes between the changed fields are copied as stretches. Only if
the record hides something, or fields in the chunk expire, each field of it is decoded: what is hidden or has expired is
left out of the new record.
"""

from __future__ import annotations

from decimal import Decimal

from server.core.formats.numbers import decimal_text
from server.core.records.entries import (
    ROW_BYTES,
    Assembly,
    Entry,
    Index,
    after_entry,
    by_field,
    decode,
    entries_between,
    field_at,
    has_entries,
    newness,
)
from server.core.records.kinds import (
    BASE_KINDS,
    COLLECTION_MARKS,
    DELTA_KINDS,
    EXPIRY_MARK,
    HYPERLOGLOG,
    KEY_EXPIRY,
    KEY_MARKS,
    KINDS_MASK,
    OPAQUE,
    STRING,
    TYPE_MARKS,
    mark_of,
    type_of_kind,
)
from server.core.records.numbers import decimal_of, plus
from server.core.records.patches import note_kept
from server.core.records.siblings import TOMBSTONE, VALUE
from server.core.records.slicing import SLICE_CHANGES, Pace, Slices, in_order


class FieldChange:
    """What a draft changes in one field, or, for the empty field, in the key as a whole.

    payload, expires_at_ms   what readers see after the change; None: the field is gone
    is_fresh                 all entries of the field that were seen are superseded
    base                     the payload of a new entry with the value, or None if that stays as it is
    keeps_base               the entry with the value is written again with another expiry
    amount                   is added to this actor's sum
    key_expiry               the new expiry of the key, or None
    """

    __slots__ = ("amount", "base", "expires_at_ms", "is_fresh", "keeps_base", "key_expiry", "payload")

    def __init__(self, is_fresh: bool, base: bytes | None, expires_at_ms: int) -> None:
        self.is_fresh = is_fresh
        self.base = base
        self.payload = base
        self.expires_at_ms = expires_at_ms
        self.keeps_base = False
        self.amount: Decimal | None = None
        self.key_expiry: int | None = None


def rewrite(
    old: bytes, clock: dict[bytes, int], dot: bytes, changes: dict[bytes, FieldChange], key_type: int, now_ms: int
) -> Slices[bytes]:
    """Returns the record `old` after changes by the write `dot`, which `clock` covers."""
    return (yield from _Rewriting(old, dot, changes, key_type, now_ms).record(clock))


class _Rewriting:
    def __init__(self, old: bytes, dot: bytes, changes: dict[bytes, FieldChange], key_type: int, now_ms: int) -> None:
        self._old = old
        self._dot = dot
        self._changes = changes
        self._type = key_type
        self._now_ms = now_ms
        self._assembly = Assembly()
        self._kept: dict[tuple[int, int], int] = {}  # see note_kept
        self._added = 0

    def record(self, clock: dict[bytes, int]) -> Slices[bytes]:
        """Returns the new record."""
        changed = yield from in_order(list(self._changes))
        if not has_entries(self._old):
            self._add_groups(decode(self._old)[1], changed)
            return self._assembly.record(clock, self._added)
        index = Index(self._old)
        marks = self._old[12] << 8 | self._old[13]
        keep = TYPE_MARKS[self._type] | 1 << KEY_EXPIRY | (KINDS_MASK & ~(KEY_MARKS | _ALL_TYPES))
        if marks & ~keep:  # something is hidden, or there is a tombstone, which this write supersedes
            self._add_groups(decode(self._old)[1], changed)
            return self._assembly.record(clock, self._added)
        by_chunk: dict[int, list[bytes]] = {}
        pace = Pace(SLICE_CHANGES)
        for field in changed:
            if pace.is_full():
                yield
            by_chunk.setdefault(index.chunk_of(field), []).append(field)
        next_chunk = walked = 0
        for chunk, fields in by_chunk.items():
            if pace.is_full(len(fields) + _CHUNK_CHANGES):
                yield
            self._copy(index, next_chunk, chunk)
            next_chunk = chunk + 1
            walked += yield from self._walk(index, chunk, fields)
        self._copy(index, next_chunk, index.count)
        record = self._assembly.record(clock, index.entries - walked + self._added)
        note_kept(self._old, record, self._kept)
        return record

    def _copy(self, index: Index, first: int, end: int) -> None:
        """Copies whole chunks. What is added next may become a part of the last one."""
        if first < end:
            rows = index.directory
            self._kept[first, self._assembly.chunk_count()] = end - first - 1
            self._assembly.add_chunks(
                self._old[rows + ROW_BYTES * first : rows + ROW_BYTES * end],
                memoryview(self._old)[index.starts[first] : index.starts[end]],
            )

    def _walk(self, index: Index, chunk: int, fields: list[bytes]) -> Slices[int]:
        """Adds a chunk in which these fields change. Returns how many entries the old chunk had."""
        if index.row(chunk)[2] & EXPIRY_MARK:
            entries = index.entries_in(chunk)
            self._add_groups(entries, fields)
            return len(entries)
        start, end = index.starts[chunk], index.starts[chunk + 1]
        count = at = 0
        pace = Pace(SLICE_CHANGES)
        for field in fields:
            if pace.is_full():  # very many new fields may belong to one old chunk
                yield
            at, after = self._range_of(field, start, end)
            count += self._copy_stretch(start, at)
            group = entries_between(self._old, at, after)
            self._add_group(field, group)
            count += len(group)
            start = after
        return count + self._copy_stretch(start, end)

    def _range_of(self, field: bytes, start: int, end: int) -> tuple[int, int]:
        """Returns where the entries of a field are, or would be, between two places."""
        old, at = self._old, start
        while at < end and field_at(old, at) < field:
            at = after_entry(old, at)
        first = at
        while at < end and field_at(old, at) == field:
            at = after_entry(old, at)
        return first, at

    def _copy_stretch(self, start: int, end: int) -> int:
        """Copies adjacent entries, and returns how many they are."""
        old, at = self._old, start
        count = fields = marks = 0
        last: bytes | None = None
        while at < end:
            field = field_at(old, at)
            if field != last:
                fields += 1
                last = field
            marks |= mark_of(old[at], 0)
            count += 1
            at = after_entry(old, at)
        if count:
            self._assembly.add_stretch(field_at(old, start), old[start:end], fields, marks)
            self._added += count
        return count

    def _add_groups(self, entries: list[Entry], fields: list[bytes]) -> None:
        """Adds fields that are decoded: those of `entries`, and those that change."""
        groups = dict(by_field(entries))
        for field in sorted(groups | dict.fromkeys(fields)):
            group = groups.get(field, [])
            if field in self._changes or self._is_kept(group):
                self._add_group(field, group)

    def _is_kept(self, group: list[Entry]) -> bool:
        """Whether a field that does not change is kept: its value has not expired."""
        base = self._base_in(group)
        return base is None or not base[3] or base[3] > self._now_ms or base[1] <= TOMBSTONE

    def _base_in(self, group: list[Entry]) -> Entry | None:
        """Returns the newest entry with the value of a field."""
        found: Entry | None = None
        kind = BASE_KINDS[self._type]
        for entry in group:
            is_base = entry[1] == kind or (entry[1] == TOMBSTONE and self._type == STRING)
            if is_base and (found is None or newness(entry[2]) > newness(found[2])):
                found = entry
        return found

    def _add_group(self, field: bytes, group: list[Entry]) -> None:
        """Adds the entries of a field after its change, if it has one."""
        entries = self._changed(field, group)
        entries.sort()
        for entry in entries:
            self._assembly.add(entry)
        self._added += len(entries)

    def _changed(self, field: bytes, group: list[Entry]) -> list[Entry]:
        change = self._changes.get(field)
        if change is None:
            change = _NO_CHANGE
        base = self._base_in(group)
        base_kind, delta_kind = BASE_KINDS[self._type], DELTA_KINDS[self._type]
        entries: list[Entry] = []
        amount = change.amount
        for entry in group:
            kind = entry[1]
            if kind == KEY_EXPIRY:
                if change.key_expiry is None:
                    entries.append(entry)
            elif kind == base_kind:
                # Concurrent values of a field that does not change stay beside each other.
                # Not `is`: compiled code has tuples without an identity.
                is_kept = entry == base or (change is _NO_CHANGE and self._type != STRING)
                if is_kept and not change.is_fresh and not change.keeps_base:
                    entries.append(entry)
            elif kind == delta_kind:
                if change.is_fresh:
                    continue
                if amount is not None and entry[2][:8] == self._dot[:8]:
                    amount = plus(amount, decimal_of(entry[4]))
                else:
                    entries.append(entry)
            elif (kind == HYPERLOGLOG and self._type == STRING) or type_of_kind(kind) == OPAQUE:
                entries.append(entry)
        new_base = change.base
        if change.keeps_base:
            new_base = b"0" if base is None else base[4]
        if new_base is not None:
            entries.append((field, base_kind, self._dot, change.expires_at_ms, new_base))
        if amount is not None:
            entries.append((field, delta_kind, self._dot, 0, decimal_text(amount)))
        if change.key_expiry is not None and (change.key_expiry or any(e[1] == VALUE and e[3] for e in entries)):
            entries.append((b"", KEY_EXPIRY, self._dot, change.key_expiry, b""))
        return entries


_CHUNK_CHANGES = 8  # to walk a chunk costs as much as to change some fields in it
_ALL_TYPES = TYPE_MARKS[STRING] | COLLECTION_MARKS
_NO_CHANGE = FieldChange(False, None, 0)
