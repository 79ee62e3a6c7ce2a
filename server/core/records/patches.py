"""Patches: what changes from one record of entries to the next, as bytes that make the second one of the first.

The problem. A record of 10,000 fields of 50 bytes has 950 KB. If a write of one field sends it to two replicas and to
three disks, the nodes do nothing else.

The idea. A patch names its base, and has what is to be replaced in it (*splices*). It knows nothing of types. A replica
that holds the base makes the same record as the coordinator; a disk keeps the base and the patches since
(patch_rows.py).

    0   checksum        xxh3_64 of everything after it
    8   mark            u16 0, u8 0: no record has these (entries.py has the layout)
    11  version         u8 1
    12  base            8 bytes: the checksum of the record that it applies to
    20  result          8 bytes: the checksum of the record that it makes
    28  size            u32: of that record
    32  clock entries   u32 count
    36  splices         u32 count
    40  clock           the clock of the result, as it is in the record
    ..  splices         12 bytes each, ascending: u32 offset in the base, u32 bytes there, u32 bytes in their place
    ..  bytes           those of all splices, one after the other

Why it is right. A checksum of 64 bits names the base, as it does when replicas compare records. Whoever makes a patch
compares what it makes with the record (`makes`), because replicas store patches before they apply them (deferred.py). The
checksum of the result is verified whenever the result is made. The result is merged like any record. As the base's clock is
covered by its own, the merge is the result, and nothing is decoded (joins.py). Its clock also tells a replica that has a
later record that it has the write already.

How it is made. Header and clock, the directory and the chunks are compared. Borders of chunks depend on the content
only, so both records have the same chunks but for those that changed. Those that a draft has copied are known
(`note_kept`). Runs of chunks are compared without a copy, and what a changed chunk has in common with the former one is
left out: both ends, and if it is as long as before every block of 64 bytes. So a patch is about as long as the entries
that changed.

Measured (sources, 10,000 fields of 50 bytes): `make` 70 us, `apply` 45 to 180 us (memory that is new to the process
costs more than the checksum), the check of the structure 70 us; the patch of a HSET has 160 bytes. Rejected: to let the
draft make the patch (several writes of one turn may need one patch, and joins have no draft; that it tells what it has
copied saves nearly as much); a delta of removed and added entries (whoever applies it decodes chunks, and has to know
what an entry is).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from librt.strings import read_i32_be
from mypy_extensions import i64
from xxhash import xxh3_64_digest

from server.core.records.entries import CLOCK_BYTES, ROW_BYTES, Index, clock_of, field_at, has_entries

Splice = tuple[int, int, bytes]  # offset in the base, bytes there, the bytes in their place

VERSION: Final = 1
_HEADER_BYTES: Final = 40
_SPLICE_BYTES: Final = 12
_CHECKSUM_BYTES: Final = 8
_SHARE: Final = 4  # a patch that is longer than this part of its result is not worth it
_BLOCK_BYTES: Final = 64  # a splice takes 12 bytes besides its own
_SPLICES_MAX: Final = 1024  # to find one takes up to 2 us; with more of them the record is sent whole
_RUNS: Final = (64, 8, 1)  # chunks that are compared together
_pack_header = struct.Struct(">HBB8s8sIII").pack
_pack_splice = struct.Struct(">III").pack
_splices_in = struct.Struct(">III").iter_unpack
_dots_in = struct.Struct(">8sQ").iter_unpack


def make(base: bytes, result: bytes) -> bytes | None:
    """Returns the patch from one record to another; None if they are no records of entries, or differ too much."""
    if not has_entries(base) or not has_entries(result):
        return None
    old, new = Index(base), Index(result)
    splices: list[Splice] = []
    _compare(splices, base, _CHECKSUM_BYTES, old.directory, result, _CHECKSUM_BYTES, new.directory)
    _compare(splices, base, old.directory, old.base, result, new.directory, new.base)
    compared, changed_bytes = len(splices), 0
    for place, end, other, new_end in differing(old, new):
        if len(splices) > _SPLICES_MAX or changed_bytes > len(result) // _SHARE:
            return None  # very much has changed, and to compare the rest takes long
        _compare(splices, base, old.starts[place], old.starts[end], result, new.starts[other], new.starts[new_end])
        changed_bytes += sum([len(data) for _, _, data in splices[compared:]])
        compared = len(splices)
    size = sum([len(data) for _, _, data in splices]) + _SPLICE_BYTES * len(splices)
    if size > len(result) // _SHARE or len(splices) > _SPLICES_MAX:
        return None
    clock = result[new.directory - CLOCK_BYTES * read_i32_be(result, 14) : new.directory]
    entries = len(clock) // CLOCK_BYTES
    header = _pack_header(0, 0, VERSION, base[:8], result[:8], len(result), entries, len(splices))
    rows = [_pack_splice(offset, size, len(data)) for offset, size, data in splices]
    body = b"".join([header, clock, *rows, *[data for _, _, data in splices]])
    return xxh3_64_digest(body) + body


_KEPT_MAX: Final = 16
# What drafts have copied in this turn, by the checksum of the record that they have made: both records, and how many chunks
# from one in the old and one in the new record on are the same. So these are not compared once more.
_kept: Final[dict[bytes, tuple[bytes, bytes, dict[tuple[int, int], int]]]] = {}


def note_kept(base: bytes, result: bytes, kept: dict[tuple[int, int], int]) -> None:
    """Notes which chunks of a record another one has."""
    if len(_kept) >= _KEPT_MAX:
        _kept.clear()
    _kept[result[:_CHECKSUM_BYTES]] = (base, result, kept)


class Patches:
    """The patches of this turn: each is made once, for the other owners and for the store."""

    __slots__ = ("_made",)

    def __init__(self) -> None:
        self._made: dict[bytes, tuple[bytes, bytes, bytes | None]] = {}  # storage key -> base, result, patch

    def of(self, key: bytes, base: bytes, result: bytes) -> bytes | None:
        """Returns the patch from one record of a key to another, as `make` does."""
        made = self._made.get(key)
        if made is not None and made[0] is base and made[1] is result:
            return made[2]
        patch = make(base, result)
        if patch is not None and not makes(base, patch, result):
            patch = None  # the record is sent and stored whole
        self._made[key] = (base, result, patch)
        return patch

    def note(self, key: bytes, base: bytes, result: bytes, patch: bytes) -> None:
        """Notes a patch that another node has made."""
        self._made[key] = (base, result, patch)

    def clear(self) -> None:
        """Forgets all, at the end of the turn."""
        self._made.clear()
        _kept.clear()


def _compare(splices: list[Splice], base: bytes, at: int, end: int, result: bytes, new_at: int, new_end: int) -> None:
    """Adds what makes one stretch of the base the same as one of the result.

    Of stretches of the same length each difference becomes a splice of a block; of others all but what both begin and end
    with becomes one splice.
    """
    view = memoryview(base)
    first = at + _common(view[at:end], result, new_at, new_end)
    if end - at == new_end - new_at:
        while first < end and len(splices) <= _SPLICES_MAX:
            size = min(_BLOCK_BYTES, end - first)
            start = first - at + new_at
            splices.append((first, size, result[start : start + size]))
            first += size
            first += _common(view[first:end], result, start + size, new_end)
        return
    new_first = first - at + new_at
    low, high = 0, min(end - first, new_end - new_first)
    while low < high:
        middle = (low + high + 1) // 2
        if result.startswith(view[end - middle : end - low], new_end - middle):
            low = middle
        else:
            high = middle - 1
    splices.append((first, end - low - first, result[new_first : new_end - low]))


def _common(view: memoryview, result: bytes, new_at: int, new_end: int) -> int:
    """Returns with how many bytes of the view the result goes on."""
    low, high = 0, min(len(view), new_end - new_at)
    if result.startswith(view[:high], new_at):
        return high
    while low < high:
        middle = (low + high + 1) // 2
        if result.startswith(view[low:middle], new_at + low):
            low = middle
        else:
            high = middle - 1
    return low


def differing(old: Index, new: Index) -> list[tuple[int, int, int, int]]:
    """Returns where the chunks of two records differ: the first chunk and the end in the old one, and in the new one.

    All others are the same in both, their rows of the directory included.
    """
    found: list[tuple[int, int, int, int]] = []
    place = other = 0
    runs: dict[tuple[int, int], int] = {}
    noted = _kept.get(new.record[:_CHECKSUM_BYTES])
    if noted is not None and noted[0] is old.record and noted[1] is new.record:
        runs = noted[2]
    while place < old.count or other < new.count:
        run = runs.get((place, other), 0) or _equal_run(old, place, new, other)
        if run:
            place += run
            other += run
        else:
            end, new_end = _next_common(old, place, new, other)
            found.append((place, end, other, new_end))
            place, other = end, new_end
    return found


def _equal_run(old: Index, place: int, new: Index, other: int) -> int:
    """Returns how many chunks from here on have the same bytes: as many as were compared together, or 0."""
    left = min(old.count - place, new.count - other)
    start, new_start = old.starts[place], new.starts[other]
    for run in _RUNS:
        run = min(run, left)
        size = old.starts[place + run] - start
        if (
            size
            and size == new.starts[other + run] - new_start
            and new.record.startswith(memoryview(old.record)[start : start + size], new_start)
            and _rows(old, place, run) == _rows(new, other, run)
        ):
            return run
    return 0


def _rows(index: Index, chunk: int, count: int) -> bytes:
    at = index.directory + ROW_BYTES * chunk
    return index.record[at : at + ROW_BYTES * count]


def _next_common(old: Index, place: int, new: Index, other: int) -> tuple[int, int]:
    """Returns the next chunks of both, behind those at these places, that begin with the same field."""
    place = min(place + 1, old.count)
    other = min(other + 1, new.count)
    while place < old.count and other < new.count:
        field, new_field = field_at(old.record, old.starts[place]), field_at(new.record, new.starts[other])
        if field == new_field:
            return place, other
        if field < new_field:
            place += 1
        else:
            other += 1
    return old.count, new.count


# --- what is told by a patch


def is_patch(value: bytes) -> bool:
    """Whether bytes begin as a patch does, and no record."""
    return len(value) >= _HEADER_BYTES and not value[8] and not value[9] and not value[10]


def verify_patch(value: bytes) -> bool:
    """Whether bytes are a sound patch: its checksum is right, and its splices are in order and fill it exactly (P11)."""
    if not is_patch(value) or value[11] != VERSION or xxh3_64_digest(memoryview(value)[8:]) != value[:8]:
        return False
    clock_bytes = CLOCK_BYTES * i64(read_i32_be(value, 32))
    count = i64(read_i32_be(value, 36))
    at = _HEADER_BYTES + clock_bytes + _SPLICE_BYTES * count
    if clock_bytes <= 0 or count < 0 or at > len(value):
        return False
    end: i64 = _CHECKSUM_BYTES
    for offset, size, new_size in _splices_in(value[at - _SPLICE_BYTES * count : at]):
        if offset < end:
            return False
        end = offset + size
        at += new_size
    return at == len(value)


def base_of(patch: bytes) -> bytes:
    """Returns the checksum of the record that a patch applies to."""
    return patch[12:20]


def result_of(patch: bytes) -> bytes:
    """Returns the checksum of the record that a patch makes."""
    return patch[20:28]


def size_of_result(patch: bytes) -> i64:
    """Returns how many bytes the record has that a patch makes."""
    return i64(read_i32_be(patch, 28)) & 0xFFFFFFFF


def clock_of_result(patch: bytes) -> dict[bytes, int]:
    """Returns the clock of the record that a patch makes."""
    return dict(_dots_in(patch[_HEADER_BYTES : _HEADER_BYTES + CLOCK_BYTES * read_i32_be(patch, 32)]))


def splices_of(patch: bytes) -> list[Splice]:
    """Returns the splices of a sound patch."""
    start = _HEADER_BYTES + CLOCK_BYTES * i64(read_i32_be(patch, 32))
    at = start + _SPLICE_BYTES * i64(read_i32_be(patch, 36))
    found: list[Splice] = []
    for offset, size, new_size in _splices_in(patch[start:at]):
        found.append((offset, size, patch[at : at + new_size]))
        at += new_size
    return found


# --- what is made with one


def apply(base: bytes, patch: bytes) -> bytes | None:
    """Returns the record that a sound patch makes of its base; None if this is not its base, or not what comes of it.

    The checksum of what is returned has been verified; its structure has not.
    """
    if base[:8] != base_of(patch):
        return None
    view, at = memoryview(base), _CHECKSUM_BYTES
    parts: list[bytes | memoryview] = [result_of(patch)]
    for offset, size, data in splices_of(patch):
        parts.append(view[at:offset])
        parts.append(data)
        at = offset + size
    if at > len(base):
        return None
    parts.append(view[at:])
    result = b"".join(parts)
    if len(result) != size_of_result(patch):
        return None
    return result if xxh3_64_digest(memoryview(result)[8:]) == result[:8] else None


def makes(base: bytes, patch: bytes, result: bytes) -> bool:
    """Whether a patch is sound and makes a record of its base. Compares, and copies nothing: replicas store patches that
    they have not applied (deferred.py), so a wrong one would damage every copy of the record."""
    if not verify_patch(patch) or base_of(patch) != base[:_CHECKSUM_BYTES] or size_of_result(patch) != len(result):
        return False
    if result_of(patch) != result[:_CHECKSUM_BYTES] or clock_of_result(patch) != clock_of(result):
        return False
    view, at, new_at = memoryview(base), _CHECKSUM_BYTES, _CHECKSUM_BYTES
    for offset, size, data in splices_of(patch):
        if not result.startswith(view[at:offset], new_at):
            return False
        new_at += offset - at
        if not result.startswith(data, new_at):
            return False
        new_at += len(data)
        at = offset + size
    return result.startswith(view[at:], new_at) and new_at + len(base) - at == len(result)


def apply_all(base: bytes, patches: Sequence[bytes]) -> bytes | None:
    """Returns what sound patches make of a record one after the other; None if they do not follow each other.

    What is between the first and the last record is not copied and not verified. The caller verifies the result.
    """
    checksum, size = base[:_CHECKSUM_BYTES], len(base)
    parts = [memoryview(base)[_CHECKSUM_BYTES:]]
    for patch in patches:
        if checksum != base_of(patch):
            return None
        checksum = result_of(patch)
        rope = _Rope(parts)
        at, grown = _CHECKSUM_BYTES, 0
        for offset, replaced, data in splices_of(patch):
            if offset + replaced > size:
                return None
            rope.keep(offset - at)
            rope.skip(replaced)
            rope.kept.append(memoryview(data))
            at = offset + replaced
            grown += len(data) - replaced
        rope.keep(size - at)
        parts = rope.kept
        size += grown
    return b"".join([checksum, *parts])


class _Rope:
    """Bytes as a list of parts: a pass over them that keeps some and skips others, and copies none."""

    __slots__ = ("_at", "_parts", "_place", "kept")

    def __init__(self, parts: list[memoryview]) -> None:
        self._parts = parts
        self._place = 0  # the present part
        self._at = 0  # the position in it
        self.kept: list[memoryview] = []

    def keep(self, count: int) -> None:
        """Keeps the next bytes."""
        self._pass(count, True)

    def skip(self, count: int) -> None:
        """Skips the next bytes."""
        self._pass(count, False)

    def _pass(self, count: int, keeps: bool) -> None:
        while count:
            part = self._parts[self._place]
            step = min(count, len(part) - self._at)
            if keeps and step:
                self.kept.append(part[self._at : self._at + step])
            count -= step
            self._at += step
            if self._at == len(part):
                self._place += 1
                self._at = 0
