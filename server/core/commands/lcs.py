"""LCS: the longest common subsequence of two values (https://redis.io/docs/latest/commands/lcs/).

Theory. Redis fills a table: L(i, j) is the length of the longest sequence common to the first i bytes of the one value and
the first j bytes of the other. Here a row of it, L(i, ...), is one integer with a bit for each byte of the other value:
bit j - 1 is 0 if L(i, j) is one more than L(i, j - 1), else both are equal. So L(i, j) is the number of zeros among the
first j bits. A row follows from the one before by a few operations on whole integers, `both = row & equal;
row = (row + both) | (row - both)`, where `equal` are the places in the other value that hold byte i (Hyyrö 2004,
"Bit-parallel LCS-length computation revisited"). The table takes a thirty-second of Redis' memory.

Which of several longest sequences is found must be the one that Redis finds. Redis goes back from the end of both values:

    bytes i and j are equal                  they are a match; both indexes go down
    L(i - 1, j) > L(i, j - 1)                i goes down
    else                                     j goes down

If the bytes differ, L(i, j) is the larger of the two. So the second case is the one in which L(i, j - 1) is less than
L(i, j), which one bit of row i says.

The limit is Redis' own: a table that would take Redis more than 512 MiB is refused with Redis' text. The work is done in
slices, and other clients are served in between. LCS reads two keys of any slots, each by its own quorum.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import NamedTuple

from protocol import resp
from protocol.resp import Value
from server.core.base.errors import SYNTAX, CommandError
from server.core.base.sinks import Sink
from server.core.commands.arguments import integer
from server.core.commands.slices import in_slices
from server.core.commands.spec import READ, CommandSpec
from server.core.commands.typed_steps import gather
from server.core.records.kinds import NONE, STRING
from server.core.services.services import Services
from server.core.work.procedures import Steps

REDIS_BYTES_MAX = 512 << 20  # Redis' proto-max-bulk-len by default
_CELL_BYTES = 4  # of Redis' table
_SLICE_CELLS = 4 << 20  # of rows: about 5 ms
_ROW_CELLS = 1000  # what a row costs beside its cells
_STEP_CELLS = 400  # what a step back costs
_SCANNED_CELLS = 10  # what it costs to look for a byte, for each byte of the other value
_PIECE_BYTES = 256 << 10


class LcsOptions(NamedTuple):
    """The options of a call."""

    length: bool
    indexes: bool
    match_bytes_min: int
    with_lengths: bool


class Match(NamedTuple):
    """Adjacent bytes that both values have: their first places and their number."""

    start: int
    other_start: int
    size: int


def parse_options(words: list[bytes]) -> LcsOptions:
    """The options that follow the keys. Raises CommandError as Redis does."""
    flags: dict[bytes, bool] = {}
    match_bytes_min = 0
    place = 0
    while place < len(words):
        name = words[place].upper()
        if name in (b"LEN", b"IDX", b"WITHMATCHLEN"):
            flags[name] = True
        elif name == b"MINMATCHLEN" and place + 1 < len(words):
            place += 1
            match_bytes_min = max(integer(words[place]), 0)
        else:
            raise CommandError(SYNTAX)
        place += 1
    if b"LEN" in flags and b"IDX" in flags:
        raise CommandError("ERR If you want both the length and indexes, please just use IDX.")
    return LcsOptions(b"LEN" in flags, b"IDX" in flags, match_bytes_min, b"WITHMATCHLEN" in flags)


def lcs(one: bytes, other: bytes, wanted: LcsOptions) -> Generator[None, None, Value]:
    """The answer of LCS; pauses after each slice of its work. Raises CommandError for values that are too long."""
    if (len(one) + 1) * (len(other) + 1) * _CELL_BYTES > REDIS_BYTES_MAX:
        raise CommandError("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len")
    # Both values end with these bytes: going back from the end, Redis meets them as one match.
    same = common_suffix(one, other)
    one_rest, other_rest = one[: len(one) - same], other[: len(other) - same]
    if wanted.length:  # then it does not matter which is which, and the shorter one has less rows
        rows, columns = sorted((one_rest, other_rest), key=len)
        return same + (yield from fill_table(rows, columns, False))[0]
    length, table = yield from fill_table(one_rest, other_rest, True)
    length += same
    matches = yield from matches_of(one_rest, other_rest, table)
    if (
        same
        and matches
        and (matches[0].start + matches[0].size, matches[0].other_start + matches[0].size)
        == (
            len(one_rest),
            len(other_rest),
        )
    ):
        matches[0] = matches[0]._replace(size=matches[0].size + same)
    elif same:
        matches.insert(0, Match(len(one_rest), len(other_rest), same))
    if not wanted.indexes:
        return b"".join([one[match.start : match.start + match.size] for match in reversed(matches)])
    found: list[Value] = []
    for match in matches:
        if match.size >= wanted.match_bytes_min:
            end, other_end = match.start + match.size - 1, match.other_start + match.size - 1
            ranges: list[Value] = [[match.start, end], [match.other_start, other_end]]
            found.append([*ranges, match.size] if wanted.with_lengths else ranges)
    return {"matches": found, "len": length}


def common_suffix(one: bytes, other: bytes) -> int:
    """How many bytes at their ends two values have in common."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one.endswith(other[len(other) - middle :]):
            low = middle
        else:
            high = middle - 1
    return low


def fill_table(one: bytes, other: bytes, keeps: bool) -> Generator[None, None, tuple[int, bytearray]]:
    """The length of the longest sequence, and if `keeps` the rows of the table, from i = 1 on, little-endian."""
    if not one or not other:
        return 0, bytearray()
    row_bytes = (len(other) + 7) >> 3
    row = ones = (1 << len(other)) - 1
    table = bytearray(row_bytes * len(one) if keeps else 0)
    equal: dict[int, int] = {}
    cells = 0
    for place, byte in enumerate(one):
        if byte not in equal:
            equal[byte] = yield from _places_of(byte, other)
            cells += _SCANNED_CELLS * len(other)
        both = row & equal[byte]
        row = ((row + both) | (row - both)) & ones
        if keeps:
            table[place * row_bytes : (place + 1) * row_bytes] = row.to_bytes(row_bytes, "little")
        cells += len(other) + _ROW_CELLS
        if cells > _SLICE_CELLS:
            cells = 0
            yield
    return len(other) - row.bit_count(), table


def _places_of(byte: int, other: bytes) -> Generator[None, None, int]:
    """An integer with a bit for each place of `other` that holds the byte."""
    as_digits = bytes([0x31 if each == byte else 0x30 for each in range(256)])
    pieces = []
    for place in range(0, len(other), _PIECE_BYTES):
        if place:
            yield
        digits = other[place : place + _PIECE_BYTES].translate(as_digits)[::-1]
        pieces.append(int(digits, 2).to_bytes(_PIECE_BYTES >> 3, "little"))
    return int.from_bytes(b"".join(pieces), "little")


def matches_of(one: bytes, other: bytes, table: bytearray) -> Generator[None, None, list[Match]]:
    """The runs of adjacent bytes of the sequence that Redis finds, the last one first."""
    matches: list[Match] = []
    row_bytes = (len(other) + 7) >> 3
    i, j, run = len(one), len(other), 0
    steps = 0
    while i and j:
        if one[i - 1] == other[j - 1]:
            i, j, run = i - 1, j - 1, run + 1
        else:
            if run:
                matches.append(Match(i, j, run))
                run = 0
            if table[(i - 1) * row_bytes + ((j - 1) >> 3)] >> ((j - 1) & 7) & 1:
                j -= 1
            else:
                i -= 1
        steps += 1
        if steps > _SLICE_CELLS // _STEP_CELLS:
            steps = 0
            yield
    if run:
        matches.append(Match(i, j, run))
    return matches


def _lcs(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    def steps() -> Steps:
        views = yield gather(services, args[1:3])
        if any(view.key_type not in (NONE, STRING) for view in views):
            raise CommandError("ERR The specified keys must contain string values")
        wanted = parse_options(args[3:])
        one, other = [view.string() or b"" for view in views]
        return resp.encode((yield from in_slices(services, lcs(one, other, wanted))), sink.resp3)

    services.run_steps(steps(), sink, number)


COMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec(
        "lcs",
        -3,
        READ,
        _lcs,
        "Finds the longest common subsequence of two values, of any slots.",
        "string",
        "readonly",
        (1, 2, 1),
        since="7.0.0",
        complexity="O(N*M)",
        arguments="key1 key2 [LEN] [IDX] [MINMATCHLEN len] [WITHMATCHLEN]",
    ),
)
