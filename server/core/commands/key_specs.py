"""Where the keys of a command stand among its arguments: Redis' key specifications.

Theory. A key specification says in two steps which arguments are keys: where the search begins (at a position, or after a
keyword), and which arguments from there on are keys (a range, or as many as a number in front of them says). Lanes,
chains and COMMAND GETKEYS find keys by these specifications, and COMMAND INFO shows them to cluster clients, so what this
node does and what it tells clients cannot differ.

The usual command has one range at a fixed position. It says so by `CommandSpec.keys`, (first, last, step); all others list
specifications in `CommandSpec.key_specs`:

    SET key value                        keys=(1, 1, 1)
    SMOVE source destination member      KeySpec("RW access delete", 1), KeySpec("RW insert", 2)
    SUNIONSTORE destination key ...      KeySpec("OW update", 1), KeySpec("RO access", 2, last=-1)
    ZUNION numkeys key ...               KeySpec("RO access", 1, counted=True)
    GEORADIUS key ... STORE key          KeySpec("RO access", 1), KeySpec("OW update", 6, keyword="STORE"), ...

If the number of keys is no number, or greater than the number of arguments, the specification finds no keys: the call
needs no lanes for them, and the command answers with its error.

Source: https://redis.io/docs/latest/develop/reference/key-specs/, and `getKeysUsingKeySpecs` in Redis' db.c.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

NOT_KEY: Final = "not_key"  # the access of what has a place like a key, and is none: a sharded channel


@dataclass(frozen=True, slots=True)
class KeySpec:
    """One key specification.

    `access` are Redis' flags: RO, RW, OW or RM; access, update, insert, delete. The first key stands at `start`. With a
    `keyword`, a key stands behind each such word from `start` on: an option may be said again, and its last value counts,
    so a user needs the right to all of them (Redis 7.0 checks the first one, and stores into the last). `last` is relative
    to the first key, or to the end if it is negative. If the keys are `counted`, their number stands at `start`, and they
    follow it.
    What no such rule describes has a function `find`, and clients are told that its place is unknown. `access_of` says
    which flags a call has, where that depends on its arguments.
    """

    access: str
    start: int = 0
    last: int = 0
    step: int = 1
    keyword: str = ""
    counted: bool = False
    find: Callable[[Sequence[bytes]], Sequence[int]] | None = None
    notes: str = ""
    access_of: Callable[[Sequence[bytes]], str] | None = None

    def is_range(self) -> bool:
        """Whether the keys are a range at a fixed position."""
        return not (self.keyword or self.counted or self.find)

    def positions(self, args: Sequence[bytes]) -> Sequence[int] | None:
        """The positions of the keys in a call; None if the call is wrong, empty if it has no such keys."""
        if self.find is not None:
            return self.find(args)
        if self.keyword:
            return _after_keyword(args, self.keyword.encode(), self.start)
        first = self.start
        if self.counted:
            number = args[first] if first < len(args) else b""
            if not number.isdigit() or number[:1] == b"0" or len(number) > 9:
                return None
            first, last = first + 1, first + int(number) * self.step
        else:
            last = first + self.last if self.last >= 0 else len(args) + self.last
        if not first <= last < len(args):
            return None
        return range(first, last + 1, self.step)


def _after_keyword(args: Sequence[bytes], keyword: bytes, start: int) -> Sequence[int] | None:
    """The positions behind each `keyword`, in any case, at `start` or later; None if the only one is the last word."""
    found = [place + 1 for place in range(start, len(args)) if args[place].upper() == keyword]
    return [place for place in found if place < len(args)] or (None if found else ())


def found_keys(specs: Sequence[KeySpec], args: Sequence[bytes]) -> list[tuple[bytes, KeySpec]]:
    """Each key of a call, with the specification that found it. Specifications that the call does not fit find none."""
    return [(args[place], spec) for spec in specs if spec.access != NOT_KEY for place in spec.positions(args) or ()]


def from_range(access: str, keys: tuple[int, int, int]) -> KeySpec:
    """The specification of `keys`, (first, last, step) as in COMMAND INFO."""
    first, last, step = keys
    return KeySpec(access, first, last if last < 0 else last - first, step)


def fits(specs: Sequence[KeySpec], args: Sequence[bytes]) -> bool:
    """Whether a call has the keys that the specifications demand, and at least one."""
    found = [spec.positions(args) for spec in specs]
    return None not in found and any(found)


def legacy_range(specs: Sequence[KeySpec]) -> tuple[int, int, int]:
    """First, last and step as COMMAND INFO tells them to clients that do not know key specifications.

    It is the run of keys that the specifications with fixed positions describe together; (0, 0, 0) if there is none.
    """
    ranges = [spec for spec in specs if spec.is_range()]
    if len(specs) == 1 and ranges:
        return specs[0].start, _absolute_last(specs[0]), specs[0].step
    if not ranges or any(spec.step != 1 for spec in ranges):
        return 0, 0, 0
    lasts = [_absolute_last(spec) for spec in ranges]
    return min(spec.start for spec in ranges), min(lasts) if min(lasts) < 0 else max(lasts), 1


def _absolute_last(spec: KeySpec) -> int:
    return spec.last if spec.last < 0 else spec.start + spec.last


def _sort_store(args: Sequence[bytes]) -> Sequence[int]:
    """The place of the key behind the last STORE of SORT, which is no value of another option."""
    found: tuple[int, ...] = ()
    place = 2
    while place < len(args) - 1:
        word = args[place].upper()
        if word == b"STORE":
            found = (place + 1,)
        place += {b"LIMIT": 3, b"GET": 2, b"BY": 2, b"STORE": 2}.get(word, 1)
    return found


def _set_access(args: Sequence[bytes]) -> str:
    """SET reads only with the option GET. A user with other rights to read than to write pays for this with each SET."""
    for arg in args[3:]:
        if len(arg) == 3 and arg.upper() == b"GET":
            return "RW access update"
    return "OW update"


def _bitfield_access(args: Sequence[bytes]) -> str:
    """BITFIELD reads only as long as it has no SET and no INCRBY."""
    place = 2
    while place < len(args):
        word, left = args[place].upper(), len(args) - place - 1
        if word == b"GET" and left >= 2:
            place += 3
        elif word == b"OVERFLOW" and left >= 1:
            place += 2
        else:
            return "RW access update"
    return "RO access"


SET_KEY = KeySpec(
    "RW access update variable_flags",
    1,
    notes="RW and ACCESS due to the optional `GET` argument",
    access_of=_set_access,
)
BITFIELD_KEY = KeySpec(
    "RW access update variable_flags",
    1,
    notes="This command allows both access and modification of the key",
    access_of=_bitfield_access,
)
GETEX_KEY = KeySpec("RW access update", 1, notes="RW and UPDATE because it changes the TTL")
PFCOUNT_KEYS = KeySpec(
    "RW access",
    1,
    last=-1,
    notes="RW because it may change the internal representation of the key, and propagate to replicas",
)
SORT_PATTERNS = KeySpec(
    "RO access",
    find=lambda args: (),
    notes="For the optional BY/GET keyword. It is marked 'unknown' because the key names derive from the content of the "
    "key we sort",
)
SORT_STORE = KeySpec(
    "OW update",
    find=_sort_store,
    notes="For the optional STORE keyword. It is marked 'unknown' because the keyword can appear anywhere in the argument "
    "array",
)
