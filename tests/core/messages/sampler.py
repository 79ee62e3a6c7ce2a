"""A reader that generates messages: from the declaration of a kind it makes a valid message, and damaged ones.

Theory. A declaration reads its items in order. So a special reader can learn what each item is: it answers each call with
a valid value, and notes the item on the wire, what would damage it, and whether the message is valid without it. What only
the kind knows (which words, which document) is in `Meaning`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from server.core.messages.reader import Reader
from tests.core.messages.samples import (
    DAMAGED_KEYS,
    KEYS,
    PATCH,
    RECORD,
    SIBLINGS,
    WRONG_ITEMS,
    damaged_patches,
    damaged_records,
)

HUGE = b"9" * 30
INNER = (  # the items of a message within a message, and what damages each
    (b"STORE", []), (b"77", [b"", b"x", HUGE]), (b"5", [b"", b"x", HUGE]), (KEYS[0], DAMAGED_KEYS), (RECORD, [b"", b"?"]),
)  # fmt: skip


class Meaning(NamedTuple):
    """For one kind: valid values for its `data`, `words` and `blobs`, and damaged values."""

    values: Sequence[Any] = ()
    damages: Sequence[Any] = ()
    left: int = 0  # what the reader says when it is asked how many items are left
    shifts: bool = False  # where an item is missing the others may make another sound message


class Item(NamedTuple):
    """One item of the message: a valid value, invalid values, and whether it may be missing."""

    value: Any
    damages: list[Any]
    optional: bool


class Sampler(Reader):
    """The reader: while a declaration is read, it fills `items`."""

    def __init__(self, meaning: Meaning) -> None:
        super().__init__([], 1, 0)
        self.items: list[Item] = []
        self.number_damages: list[int] = []
        self.meaning = meaning
        self._values = list(meaning.values)
        self._optional = False

    def _add(
        self, value: Any, damages: Sequence[Any], wrong: Sequence[Any] = WRONG_ITEMS, optional: bool = False
    ) -> Any:
        self.items.append(Item(value, [*damages, *wrong], optional or self._optional))
        return value

    def left(self) -> int:
        self._optional = True
        return self.meaning.left

    def data(self, bytes_max: int = 1 << 32, bytes_min: int = 0) -> bytes:
        value: bytes = self._values.pop(0) if self._values else bytes(max(bytes_min, min(bytes_max, 1)))
        damages = [value + bytes(bytes_max + 1 - len(value))] if bytes_max < 1 << 20 else []
        damages += [value[: bytes_min - 1]] if bytes_min else []
        return self._add(value, [*damages, *self.meaning.damages])

    def integer(self, most: int, least: int = 0) -> int:
        damages = [b"", b"-1", b"+1", b"1.5", b" 1", b"1_0", b"x", b"\xff", HUGE, b"%d" % (most + 1)]
        self._add(b"%d" % max(least, 1), [*damages, *([b"%d" % (least - 1)] if least else [])])
        return max(least, 1)

    def header_number(self, most: int, least: int = 0) -> int:
        self.number_damages = [most + 1]
        return 1

    def word(self, words: Sequence[bytes]) -> bytes:
        value = self._values.pop(0) if self._values else words[-1]
        return self._add(value, [b"?!", b"\xff", HUGE, *([] if b"" in words else [b""])])

    def text(self, bytes_max: int) -> str:
        self._add(b"text", [b"\xff\xfe", b"x" * (bytes_max + 1)])
        return "text"

    def node_id(self) -> str:
        self._add(b"n2", [b"", b"\xff", b"a b", b"n" * 129, b"n\0"])
        return "n2"

    def storage_key(self) -> bytes:
        return self._add(KEYS[0], DAMAGED_KEYS)

    def record(self, words: Sequence[bytes] = ()) -> bytes:
        return self._add(RECORD, [*damaged_records(), *([] if b"" in words else [b""])])

    def packed(self, item_bytes: int) -> bytes:
        value = self._values.pop(0) if self._values else bytes(item_bytes)
        return self._add(value, [value[:-1], value + b"x"])

    def words(self) -> list[bytes]:
        return self._add(self._values.pop(0), [b"x", 5, None, [5], [[b"x"]], *self.meaning.damages], [])

    def storage_keys(self) -> list[bytes]:
        return [self._add(key, DAMAGED_KEYS, optional=True) for key in KEYS]

    def records(self, words: Sequence[bytes]) -> list[bytes]:
        return [self._add(record, damaged_records(), optional=True) for record in (RECORD, SIBLINGS)]

    def pairs(self, words: Sequence[bytes] = ()) -> list[bytes]:
        for key, record in zip(KEYS, (RECORD, SIBLINGS), strict=True):
            self._add(key, DAMAGED_KEYS)
            self._add(record, [*damaged_records(), *([] if b"" in words else [b""])])
        return [item.value for item in self.items[-4:]]

    def patched_pairs(self) -> list[bytes]:
        for key, value in zip(KEYS, (RECORD, PATCH), strict=True):
            self._add(key, DAMAGED_KEYS)
            self._add(value, [*damaged_records(), *damaged_patches(), b""])
        return [item.value for item in self.items[-4:]]

    def blobs(self) -> list[bytes]:
        return [self._add(self._values.pop(0), self.meaning.damages, optional=True) for _ in self._values[:]]

    def message(self) -> list[Any]:
        return [self._add(item, damages) for item, damages in INNER]

    def word_lists(self) -> list[list[bytes]]:
        wrong = [b"GET", 5, None, [], [5], [[b"x"]], [b"NEWS", b"k"], [b"CLIENT", b"ID"], [b"GET"], [b"FLUSHALL"]]
        return [self._add([b"GET", b"k"], wrong, [], True), self._add([b"DEL", b"k"], wrong, [], True)]


def sample(read: Callable[[Reader], Any], meaning: Meaning) -> Sampler:
    """Reads a declaration with a new sampler, and returns the sampler."""
    sampler = Sampler(meaning)
    read(sampler)
    return sampler


def damaged(sampler: Sampler) -> Iterator[tuple[str, list[Any]]]:
    """Yields damaged messages, as (description, items): each item damaged or missing in turn, or one item too many."""
    items = sampler.items
    values = [item.value for item in items]
    for place, item in enumerate(items):
        for damage in item.damages:
            yield f"item {place} is {str(damage)[:60]}", [*values[:place], damage, *values[place + 1 :]]
        if not item.optional and not sampler.meaning.shifts:
            yield f"item {place} is missing", [*values[:place], *values[place + 1 :]]
    yield "an item too many", [*values, b"\xff!"]
    yield "a list too many", [*values, [b"x"]]
    yield "a number too many", [*values, 5]
