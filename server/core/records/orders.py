"""Orders of a collection's fields other than that of its record, kept for the keys that were read last.

Theory. A record of entries is sorted by field (entries.py). A range by score needs another order, a scan a third one (by
the hash of the field). To make one costs a pass over the whole record: 200 ms for 100,000 members. So the order of a key is
kept together with the record that it belongs to, and when the key has another record, it is brought up to date:

- The borders of chunks depend on the content only, so two records of a key differ in few chunks. All others are compared
  as bytes, many at a time. Only those that differ are decoded, in both.
- Each pair that is gone is found by bisection and taken out of the list, each new one put in: moving the pointers behind
  it costs 10 µs for 100,000 pairs.

The records are compared, rather than told of by the command that writes: so it is the same for a write that another node
coordinated, and nothing can be forgotten. If very much has changed, or the records hold what is hidden or expires, the
order is made anew, in slices (slicing.py).

The list of an order changes when the key is read again. A command that pauses must copy what it needs before it does.

What is kept is bounded in bytes: a pair costs about 100 bytes, and the record is kept, too.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from xxhash import xxh3_64_intdigest

from server.core.records.differences import Fields, changed_fields
from server.core.records.draft import Draft
from server.core.records.kinds import NONE
from server.core.records.slicing import Slices, in_order, made_of
from server.core.records.views import View, unpack_score

Pair = TypeVar("Pair", bound=tuple[Any, bytes])
PAIR_BYTES: Final = 100
CHANGES_MAX: Final = 256  # pairs moved one by one; for more, the order is made anew in slices


class Orders(Generic[Pair]):
    """The orders kept, of one kind. `pair_of` makes the pair of a field, by which they are sorted."""

    def __init__(self, pair_of: Callable[[tuple[bytes, bytes]], Pair], bytes_max: int) -> None:
        self._pair_of = pair_of
        self._bytes_max = bytes_max
        self.size_bytes = 0
        self._kept: OrderedDict[bytes, tuple[View, list[Pair]]] = (
            OrderedDict()
        )  # key -> (what it belongs to, its order)
        self.made = 0  # orders that were made from all fields, for tests and measurements

    def of(self, key: bytes, view: View) -> Slices[list[Pair]]:
        """Returns the order of the fields that `key` has in a view without changes of a command.

        The caller must not change it, and not use it after a pause.
        """
        if view.base is None or view.key_type == NONE:
            return []
        assert not isinstance(view, Draft) or not view.changed, "an order is that of a record"
        order = self._brought_up(key, view)
        if order is None:
            self.made += 1
            order = yield from in_order((yield from made_of(self._pair_of, view)))
            self._forget(key)
            self._keep(key, view, order)
        return order

    def _brought_up(self, key: bytes, view: View) -> list[Pair] | None:
        """Returns the kept order of a key, made to fit a view; None if there is none, or too much has changed."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        before, order = kept
        changes = changed_fields(before, view, CHANGES_MAX)
        if changes is None:
            return None
        self._forget(key)
        self._replace(order, *changes)
        self._keep(key, view, order)
        return order

    def _replace(self, order: list[Pair], gone: Fields, new: Fields) -> None:
        pair_of = self._pair_of
        for item in gone.items():
            place = bisect_left(order, pair_of(item))
            assert order[place] == pair_of(item), "a kept order has all fields of its record"
            del order[place]
        for item in new.items():
            insort(order, pair_of(item))

    def _keep(self, key: bytes, view: View, order: list[Pair]) -> None:
        assert view.base is not None
        self._kept[key] = (View(view.base, view.now_ms), order) if isinstance(view, Draft) else (view, order)
        self.size_bytes += _size(view, order)
        while self.size_bytes > self._bytes_max and self._kept:
            self._forget(next(iter(self._kept)))

    def _forget(self, key: bytes) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self.size_bytes -= _size(*kept)


def _size(view: View, order: list[Pair]) -> int:
    return len(view.base or b"") + PAIR_BYTES * len(order)


def by_score(item: tuple[bytes, bytes]) -> tuple[float, bytes]:
    """Returns the (score, member) pair of a member of a sorted set and its payload."""
    return unpack_score(item[1]), item[0]


def by_hash(item: tuple[bytes, bytes]) -> tuple[int, bytes]:
    """Returns the (hash, field) pair of a field: by these a scan goes."""
    return scan_place(item[0]), item[0]


def scan_place(field: bytes) -> int:
    """Returns the place of a field in a scan."""
    return xxh3_64_intdigest(field)


class KeptOrders:
    """The orders of one node: of the sorted sets that were read last, and of the large collections scanned last."""

    def __init__(self, bytes_max: int) -> None:
        self.scores = Orders(by_score, bytes_max // 2)
        self.scans = Orders(by_hash, bytes_max // 2)

    def size_bytes(self) -> int:
        """What they take."""
        return self.scores.size_bytes + self.scans.size_bytes
