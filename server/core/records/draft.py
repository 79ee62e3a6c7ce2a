"""Drafts: the changes of one command to one key, and the record that they make.

Theory. A command sees the key through its draft, its own changes included, and changes it as if it were alone. `record`
then makes the new record, in one pass and with one dot:

- A field that is put or removed loses all its entries that the draft has seen.
- What is added to a number becomes part of this actor's own entry of sums, and supersedes only that one. So sums of two
  sides of a partition add up, also if the draft has put the number (HSETNX, HINCRBY) or has given it an expiry.
- Everything that the key hides (views.py) is superseded: this write has seen it.
- A key that loses its last field becomes a tombstone. A key that has expired begins anew.
- A removal takes a dot, too, although no entry has it: joins.py depends on that.

Chunks without a changed field are copied, not decoded (entries.py). If very many fields change, the record is made in
slices (slicing.py).
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from server.core.formats.numbers import decimal_text
from server.core.records.draft_bytes import FieldChange, rewrite
from server.core.records.entries import Assembly, Entry, advance, clock_of, pack_dot
from server.core.records.kinds import (
    BASE_KINDS,
    COLLECTIONS,
    COUNTER_DELTA,
    DELTA_KINDS,
    EXPIRY_MARK,
    HYPERLOGLOG,
    KEY_EXPIRY,
    NONE,
    OPAQUE_MARKS,
    STRING,
    ZSET,
)
from server.core.records.numbers import plus
from server.core.records.siblings import TOMBSTONE, VALUE
from server.core.records.slicing import SLICE_FIELDS, Pace, Slices, in_order, run_through
from server.core.records.versions import supersede
from server.core.records.views import NO_SCORE, View, sum_of

_FIELD_BYTES: Final = 64  # what a field takes in a record besides field and payload, at most
_PUT_ITEMS_MAX: Final = 1000  # of fields that are put one by one; more are sorted when that is asked


class Draft(View):
    """One key's record as a command at time `now_ms` sees and changes it. `key_type` is the type that the command writes
    if the key does not exist."""

    def __init__(self, record: bytes | None, now_ms: int, key_type: int = NONE) -> None:
        super().__init__(record, now_ms)
        self.changed = False
        self._writes = self.key_type if key_type == NONE else key_type
        self._begins = self.key_type == NONE  # nothing of the old record shows in the new one
        self._changes: dict[bytes, FieldChange] = {}
        self._put_items: list[tuple[bytes, bytes]] | None = None  # see `_changed_items`
        self._removes = False
        self._grown = 0  # fields that are live by these changes, less those that are not any more
        self._value: bytes | None = None  # the whole key becomes this string
        self._value_expiry = 0
        self._sketch: bytes | None = None  # the whole key becomes these registers
        self._amount: Decimal | None = None  # added to a string
        self._expiry: int | None = None  # of the key, if that changes

    # --- what the command sees

    def __len__(self) -> int:
        return self._grown + (0 if self._begins else super().__len__())

    def count_in_slices(self) -> Slices[int]:
        """As `len`, with the changes."""
        yield from ()
        return len(self)

    def look_up(self, field: bytes) -> tuple[bytes, int] | None:
        """The payload and the expiry of a live field."""
        change = self._changes.get(field)
        if change is not None:
            return None if change.payload is None else (change.payload, change.expires_at_ms)
        return None if self._begins else super().look_up(field)

    def count_at(self, field: bytes) -> int:
        """How many items a field stands for."""
        change = self._changes.get(field)
        if change is not None:
            return int(change.payload is not None)
        return 0 if self._begins else super().count_at(field)

    def string(self) -> bytes | None:
        """The value of a string; None if the key does not exist or is no string."""
        if self._value is not None:
            return self._value if self._amount is None else sum_of(STRING, self._value, [decimal_text(self._amount)])
        if self._sketch is not None:
            return self._sketch
        present = None if self._begins else super().string()
        if self._amount is None:
            return present
        return sum_of(STRING, present or b"0", [decimal_text(self._amount)])

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """The live fields and their payloads, sorted by field."""
        changed = self._changed_items()
        place = 0
        for item in super().items() if not self._begins else ():
            while place < len(changed) and changed[place][0] < item[0]:
                yield changed[place]
                place += 1
            if item[0] not in self._changes:
                yield item
        yield from changed[place:]

    def items_backwards(self) -> Iterator[tuple[bytes, bytes]]:
        """The same from the last field to the first one."""
        changed = self._changed_items()
        for item in super().items_backwards() if not self._begins else ():
            while changed and changed[-1][0] > item[0]:
                yield changed.pop()
            if item[0] not in self._changes:
                yield item
        yield from reversed(changed)

    def _changed_items(self) -> list[tuple[bytes, bytes]]:
        """The fields that have a payload by the changes, with it, sorted. Puts keep that up to date: each push to a list
        asks again, and many share a draft."""
        if self._put_items is None:
            all_of = self._changes.items()
            self._put_items = sorted([(field, each.payload) for field, each in all_of if each.payload is not None])
        return list(self._put_items)

    # --- what it changes

    def put(self, field: bytes, payload: bytes, expires_at_ms: int = 0) -> bool:
        """Gives a field a payload; returns whether the field is new."""
        present = self.count_at(field)
        self._begin()
        items = self._put_items
        if items is not None and field not in self._changes and len(items) < _PUT_ITEMS_MAX:
            insort(items, (field, payload))
        else:
            self._put_items = None
        self._changes[field] = FieldChange(True, payload, expires_at_ms)
        self._grown += 1 - present
        return not present

    def remove(self, field: bytes) -> bool:
        """Removes a field; returns whether it was there."""
        present = self.count_at(field)
        if not present:
            return False
        self._remove(field)
        self._grown -= present
        return True

    def drop(self, field: bytes) -> None:
        """Removes a live field without looking it up; of a list, an item that does not share its position."""
        self._remove(field)
        self._grown -= 1

    def _remove(self, field: bytes) -> None:
        self.changed = self._removes = True
        if field in self._changes:
            self._put_items = None
        self._changes[field] = FieldChange(True, None, 0)

    def add(self, field: bytes, amount: Decimal) -> None:
        """Adds to the number in a field; of a string, the field is empty. The command has checked that it is a decimal text
        (numbers.py), or that there is none."""
        key_type = self._begin()
        if key_type == STRING:
            self._amount = amount if self._amount is None else plus(self._amount, amount)
            return
        self._put_items = None
        present = self.look_up(field)
        base = (NO_SCORE if key_type == ZSET else b"0") if present is None else present[0]
        payload = sum_of(key_type, base, [decimal_text(amount)])
        change = self._changes.get(field)
        if change is None:
            change = self._changes[field] = FieldChange(present is None, None, 0)
            if present is not None:
                change.expires_at_ms = present[1]
        self._grown += present is None
        change.payload = payload
        change.amount = amount if change.amount is None else plus(change.amount, amount)

    def expire_field(self, field: bytes, expires_at_ms: int) -> None:
        """Gives a live field an expiry, 0 for none. What was added to it at the same time elsewhere is kept."""
        present = self.look_up(field)
        assert present is not None
        self._put_items = None
        self.changed = True
        change = self._changes.get(field)
        if change is None:
            change = self._changes[field] = FieldChange(False, None, 0)
            change.payload = present[0]
        if not change.is_fresh:
            change.keeps_base = True
        elif change.base is None:
            change.base = b"0"
        change.expires_at_ms = expires_at_ms

    def set_string(self, value: bytes, keeps_expiry: bool = False, expires_at_ms: int = 0) -> None:
        """Makes the whole key this string. Its expiry is the present one, or `expires_at_ms`, 0 for never."""
        self._value_expiry = self.expires_at_ms if keeps_expiry else expires_at_ms
        self.clear()
        self._value = value
        self.key_type, self.expires_at_ms = STRING, self._value_expiry

    def set_sketch(self, registers: bytes) -> None:
        """Makes the string these HyperLogLog registers, which include all that were seen. The expiry is kept."""
        expires_at_ms = self.expires_at_ms
        self.clear()
        self._sketch = registers
        self._expiry = expires_at_ms or None
        self.key_type, self.expires_at_ms = STRING, expires_at_ms

    def clear(self) -> None:
        """Deletes the key."""
        self.changed = self._begins = True
        self._changes.clear()
        self._put_items = None
        self._value = self._sketch = self._amount = self._expiry = None
        self._grown = 0
        self.key_type, self.expires_at_ms = NONE, 0

    def expire(self, at_ms: int) -> None:
        """Gives the key, which exists, an expiry; 0 for never."""
        self.changed = True
        self.expires_at_ms = at_ms
        if self._value is not None:
            self._value_expiry = at_ms
        elif self.key_type == STRING and self.is_plain():
            assert self.newest is not None
            self._value, self._value_expiry = self.newest.value, at_ms
        else:
            self._expiry = at_ms

    def persist(self) -> None:
        """Removes the expiry of the key."""
        self.expire(0)

    def is_plain(self) -> bool:
        """Whether the new record has no kinds of entries that a node of an earlier version cannot read."""
        if self.is_gone():
            return True
        if self._value is not None:
            return self._amount is None
        return not self._begins and not self.marks and self._amount is None and not self._changes

    def _begin(self) -> int:
        """Returns the type of the key, which exists from now on."""
        self.changed = True
        if self.key_type == NONE:
            self.key_type = self._writes
        return self.key_type

    def is_gone(self) -> bool:
        """Whether the key does not exist after the changes. To count fields that may have expired would take a pass over
        all of them, and to find a live one seldom does."""
        if self.key_type == NONE or not self._removes or self.key_type not in COLLECTIONS:
            return self.key_type == NONE
        if self._count < 0 and (self.hides or self.marks & (EXPIRY_MARK | OPAQUE_MARKS)):
            return next(self.items(), None) is None
        return not len(self)

    def change_count(self) -> int:
        """How many fields the command has changed so far."""
        return len(self._changes)

    def value_bytes(self) -> int:
        """How long the string is that the whole key becomes; 0 if it becomes none."""
        return len(self._value or b"")

    def size_max(self) -> int:
        """How many bytes the changes add to the record at most."""
        changes = self._changes.values()
        whole = len(self._value or b"") + len(self._sketch or b"")
        fields = sum(map(len, self._changes)) + sum([len(each.payload or b"") + _FIELD_BYTES for each in changes])
        amounts = [each.amount for each in changes if each.amount is not None]
        if self._amount is not None:
            amounts.append(self._amount)
        return whole + fields + sum([len(decimal_text(amount)) for amount in amounts]) + _FIELD_BYTES

    # --- the record

    def record(self, actor: bytes, counter: int) -> bytes:
        """Returns the new record; (actor, counter) is the dot of this write. Raises ForeignDot."""
        return run_through(self.record_in_slices(actor, counter))

    def record_in_slices(self, actor: bytes, counter: int) -> Slices[bytes]:
        """As `record`, in slices."""
        old = self.base
        if self._value is not None and self._amount is None:
            return supersede(old, actor, counter, self._value, self._value_expiry)
        if self.is_gone():
            return supersede(old, actor, counter, b"", 0, TOMBSTONE)
        clock = {} if old is None else clock_of(old)
        advance(clock, actor, counter)
        dot = pack_dot(actor, counter)
        if old is None or self._begins or self._value is not None:
            return (yield from _encoded(clock, (yield from self._new_entries(dot))))
        return (yield from rewrite(old, clock, dot, self._all_changes(), self.key_type, self.now_ms))

    def _all_changes(self) -> dict[bytes, FieldChange]:
        """Returns the changes of fields; those of the key as a whole are under the empty field."""
        changes = self._changes
        if self._amount is not None or self._expiry is not None:
            key = FieldChange(False, None, 0)
            key.amount, key.key_expiry = self._amount, self._expiry
            if self.key_type != STRING and b"" in changes:
                key = changes[b""]
                key.key_expiry = self._expiry
            changes = changes | {b"": key}
        return changes

    def _new_entries(self, dot: bytes) -> Slices[list[Entry]]:
        """Returns the entries of a key that begins anew."""
        entries: list[Entry] = []
        if self._expiry:
            entries.append((b"", KEY_EXPIRY, dot, self._expiry, b""))
        if self._value is not None:
            entries.append((b"", VALUE, dot, self._value_expiry, self._value))
        if self._sketch is not None:
            entries.append((b"", HYPERLOGLOG, dot, 0, self._sketch))
        if self._amount is not None:
            entries.append((b"", COUNTER_DELTA, dot, 0, decimal_text(self._amount)))
        base_kind, delta_kind = BASE_KINDS[self.key_type], DELTA_KINDS[self.key_type]
        pace = Pace(SLICE_FIELDS // 2)
        for field, change in self._changes.items():
            if pace.is_full():
                yield
            if change.base is not None:
                entries.append((field, base_kind, dot, change.expires_at_ms, change.base))
            if change.amount is not None:
                entries.append((field, delta_kind, dot, 0, decimal_text(change.amount)))
        return entries


def _encoded(clock: dict[bytes, int], entries: list[Entry]) -> Slices[bytes]:
    """Returns the record of these entries."""
    ordered = yield from in_order(entries)
    assembly, pace = Assembly(), Pace(SLICE_FIELDS // 2)
    for entry in ordered:
        if pace.is_full():
            yield
        assembly.add(entry)
    return assembly.record(clock, len(ordered))
