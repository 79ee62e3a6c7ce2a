"""Which of RocksDB's log files must exist: noted while the store is open, checked before it is opened again.

The problem. RocksDB replays the log files that it finds. If a log was removed, or cut short before its synced end, the
acknowledged writes in it are gone, and RocksDB opens without an error. (Its own option against that,
track_and_verify_wals_in_manifest, leaves out the newest log, and rocksdict does not offer it.)

The idea. Each `sync` notes the logs that it has synced, with their sizes. RocksDB deletes a log by itself once its writes
are in sorted files, and first says so in the MANIFEST: the log number of the last edit is the oldest log that is still
needed. A noted log that is missing is damage if its number is not below that one. The MANIFEST is read only if a log is
missing, that is after a crash between a deletion and the next note.

A sync every few milliseconds (fsync `always`) must not list the directory each time: a call of the system releases the GIL,
and its thread then waits for the loop's. Only the newest log grows, and the directory's time of change tells when there is
another one. That time has steps of some milliseconds. So it is believed only once it is older than `_TIME_STEP_NS`.

The note is one block, written in place, so that it can be written while the disk is full. It is not synced. After a loss
of power it may be an older note, which names logs that were synced, some of them deleted since: that does no harm. A note
that fails its checksum is ignored, and so is a directory without a note (of an earlier release, or a checkpoint). After a
clean stop the log is empty and may be missing, so programs that remove `*.log` do no harm then.

Format of the MANIFEST: db/version_edit.cc in https://github.com/facebook/rocksdb. A tag that we do not know, and that may
not be skipped, ends the search without a result; then RocksDB alone decides.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

from server.storage.log_check import HEADER, LOG_BLOCK_BYTES

FILE_NAME = "SYNCED_LOGS"
_BLOCK_BYTES = 4096  # 40 logs of 40 bytes each fit; further ones are not noted
_TIME_STEP_NS = 50_000_000
_OPEN, _CLOSED = "open", "closed"
Sizes = dict[int, int]  # log number: bytes

_LOG_NUMBER, _COLUMN_FAMILY, _DROP_FAMILY, _NEW_FILE_4 = 2, 200, 202, 103
_SKIP_MASK = 1 << 13  # tags with this bit have a length, and may be skipped
_NUMBER, _BYTES = 0, 1
_FIELDS = {  # by tag: the fields behind it
    1: (_BYTES,),
    3: (_NUMBER,),
    4: (_NUMBER,),
    5: (_NUMBER, _BYTES),
    6: (_NUMBER, _NUMBER),
    7: (_NUMBER, _NUMBER, _NUMBER, _BYTES, _BYTES),
    9: (_NUMBER,),
    10: (_NUMBER,),
    100: (_NUMBER, _NUMBER, _NUMBER, _BYTES, _BYTES, _NUMBER, _NUMBER),
    102: (_NUMBER, _NUMBER, _NUMBER, _NUMBER, _BYTES, _BYTES, _NUMBER, _NUMBER),
    201: (_BYTES,),
    203: (_NUMBER,),
    300: (_NUMBER,),
}
_FIELDS_NEW_FILE_4 = _FIELDS[100]
_END_OF_FILE = 1


class LiveLogs:
    """Writes the note of one store, which this process has open."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._noted: Sizes = {}
        self._present: Sizes = {}  # when the directory was listed last; only the newest log has grown since
        self._newest = ""  # the path of that log
        self._listed_ns = 0  # the directory's time of change then; 0: it may change unseen
        self._descriptor = os.open(store / FILE_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        directory = os.open(store, os.O_RDONLY)
        try:
            os.fsync(directory)  # the logs that are noted now still exist after a loss of power
        finally:
            os.close(directory)
        self.note(log_sizes(store))

    def sizes(self) -> Sizes | None:
        """As `log_sizes`; None if the process has no descriptor left (the last note stays true). Raises OSError."""
        try:
            changed_ns = os.stat(self._store).st_mtime_ns
            if changed_ns != self._listed_ns:
                self._present = log_sizes(self._store)
                newest = max(self._present, default=0)
                self._newest = str(self._store / f"{newest:06}.log")
                is_over = bool(newest) and time.time_ns() - changed_ns > _TIME_STEP_NS
                self._listed_ns = changed_ns if is_over else 0
                return self._present
            return self._present | {max(self._present): os.stat(self._newest).st_size}
        except FileNotFoundError:
            return log_sizes(self._store)  # the newest log was replaced between the two looks
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                return None
            raise

    def note(self, sizes: Sizes) -> None:
        """Notes that these logs are needed and are on the disk up to these sizes. Raises OSError."""
        if sizes != self._noted:
            self._write(_OPEN, sizes)
            self._noted = sizes

    def close(self) -> None:
        """Notes that the store was closed: only logs that are not empty are needed. Raises OSError."""
        try:
            self._write(_CLOSED, log_sizes(self._store))
        finally:
            os.close(self._descriptor)

    def _write(self, state: str, sizes: Sizes) -> None:
        words = [f"{number}:{size}" for number, size in sorted(sizes.items())]
        text = " ".join([state, *words]).encode()
        while len(text) > _BLOCK_BYTES - 10:
            text = text[: text.rindex(b" ")]
        os.pwrite(self._descriptor, (b"%08x %b\n" % (crc32(text), text)).ljust(_BLOCK_BYTES), 0)


def log_sizes(store: Path) -> Sizes:
    """The log files of a store and their sizes."""
    sizes: Sizes = {}
    with os.scandir(store) as entries:
        for entry in entries:
            if entry.name.endswith(".log") and entry.name[:-4].isdigit():
                try:
                    sizes[int(entry.name[:-4])] = entry.stat().st_size
                except FileNotFoundError:
                    continue  # deleted meanwhile
    return sizes


def find_missing(store: Path) -> str | None:
    """The log of a closed store that is missing or too short, as a text for operators; None if there is none."""
    state, noted = _read(store / FILE_NAME)
    present = log_sizes(store)
    lacking = {number: size for number, size in noted.items() if present.get(number, -1) < size}
    if state == _CLOSED:
        lacking = {number: size for number, size in lacking.items() if size}
    if not lacking:
        return None
    oldest = _oldest_needed(store)
    needed = sorted(number for number in lacking if oldest is not None and number >= oldest)
    if not needed:
        return None
    number = needed[0]
    if number not in present:
        return f"the log file {number:06}.log is missing, of {noted[number]} bytes when it was last synced"
    return f"the log file {number:06}.log has {present[number]} bytes, and had {noted[number]} when it was last synced"


def _read(path: Path) -> tuple[str, Sizes]:
    try:
        checksum, _, text = path.read_bytes().rstrip().partition(b" ")
        if int(checksum, 16) != crc32(text):
            return _CLOSED, {}
        state, *words = text.decode().split(" ")
        pairs = [word.split(":") for word in words]
        return state, {int(number): int(size) for number, size in pairs}
    except (OSError, ValueError):
        return _CLOSED, {}


def _oldest_needed(store: Path) -> int | None:
    """The log number of the default column family in the MANIFEST; None if it cannot be read."""
    try:
        name = (store / "CURRENT").read_text().strip()
        content = (store / name).read_bytes()
        found: int | None = None
        for edit in _records(content):
            number = _log_number(edit)
            found = found if number is None else number
    except (OSError, ValueError, IndexError):
        return None
    return found


def _records(content: bytes) -> Iterator[bytes]:
    """The records of a file in the log format, assembled from their pieces; see log_check.py."""
    position, parts = 0, bytearray()
    while position + HEADER.size <= len(content):
        block_end = position - position % LOG_BLOCK_BYTES + LOG_BLOCK_BYTES
        if position + HEADER.size > block_end:
            position = block_end
            continue
        _, length, kind = HEADER.unpack_from(content, position)
        if kind == 0:
            return
        position += HEADER.size
        if position + length > len(content):
            return  # torn
        parts += content[position : position + length]
        position += length
        if kind in (1, 4):  # whole, or the last piece
            yield bytes(parts)
            parts.clear()


def _log_number(edit: bytes) -> int | None:
    """The log number that an edit sets for the default column family, or None. Raises ValueError, IndexError."""
    position = family = 0
    found: int | None = None
    while position < len(edit):
        tag, position = _varint(edit, position)
        if tag == _LOG_NUMBER:
            found, position = _varint(edit, position)
        elif tag == _COLUMN_FAMILY:
            family, position = _varint(edit, position)
        elif tag == _NEW_FILE_4:
            position = _skip(edit, position, _FIELDS_NEW_FILE_4)
            position = _skip_extras(edit, position)
        elif tag & _SKIP_MASK:
            position = _skip(edit, position, (_BYTES,))
        elif tag in _FIELDS:
            position = _skip(edit, position, _FIELDS[tag])
        elif tag != _DROP_FAMILY:
            raise ValueError(f"unknown tag {tag}")
    return found if family == 0 else None


def _skip(edit: bytes, position: int, fields: tuple[int, ...]) -> int:
    for field in fields:
        value, position = _varint(edit, position)
        if field == _BYTES:
            position += value
    return position


def _skip_extras(edit: bytes, position: int) -> int:
    while True:
        tag, position = _varint(edit, position)
        if tag == _END_OF_FILE:
            return position
        position = _skip(edit, position, (_BYTES,))


def _varint(edit: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = edit[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position
