"""The kinds of messages by which nodes announce things: clocks, liveness, layouts, staged changes, and their stores.

Theory. They are declared, encoded and decoded as the messages of requests are (kinds.py). No request waits for them, so
their `number` carries a value of the kind, or 0.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from protocol.bounds import COUNT_MAX, TIME_MS_MAX
from protocol.frames import encode_message
from server.core.liveness.gossip_table import TABLE_ENTRIES_MAX, TableEntry, decode_table, encode_table
from server.core.messages import shapes
from server.core.messages.kinds import Kind, nothing
from server.core.messages.libraries import LIBRARIES, LIBVIEW
from server.core.messages.numberings import NUMBERS, NUMVIEW
from server.core.messages.publications import ALTERED, CHANGED, FLUSHED, MADE, NOTIFY, PUBLISHED, WATCHING
from server.core.messages.reader import Malformed, Reader
from server.core.messages.users import USERS, USERSVIEW
from server.core.ring.change import Change, decode_known

ADDRESS_BYTES_MAX: Final = 512
SHOWN_BYTES_MAX: Final = 512
DIGEST_CHARACTERS: Final = 16


# --- time


class Timed(NamedTuple):
    """The sender's wall clock, and cluster time if the sender is sure of it."""

    wall_ms: int
    time_ms: int | None


def _timed(items: Reader) -> Timed:
    items.header_number(COUNT_MAX)
    wall_ms = items.time_ms()
    found = items.data(20)
    if found and not (found.isdigit() and int(found) <= TIME_MS_MAX):
        raise Malformed("cluster time is out of range")
    return Timed(wall_ms, int(found) if found else None)


CLOCK: Final = Kind(b"CLOCK", lambda items: items.header_number(COUNT_MAX))  # the sender's monotonic clock
TIME: Final = Kind(b"TIME", lambda items: items.header_number(COUNT_MAX))  # the asker's monotonic clock
TIMED: Final = Kind(b"TIMED", _timed)  # its number is that of TIME
CLOCKOFF: Final = Kind(b"CLOCKOFF", lambda items: items.header_number(TIME_MS_MAX))  # ms that the receiver is ahead
SILENCE: Final = Kind(b"SILENCE", lambda items: items.integer(TIME_MS_MAX))  # how long the sender may be silent, in ms
HEEDED: Final = Kind(b"HEEDED", nothing)  # its number is that of SILENCE
ISALIVE: Final = Kind(b"ISALIVE", lambda items: items.node_id())  # the node that does not answer the sender
ALIVE: Final = Kind(b"ALIVE", lambda items: items.node_id())  # its number is that of ISALIVE


def encode_clock(reading: int, now_ms: int) -> bytes:
    """Encodes CLOCK: our monotonic clock."""
    return encode_message((b"CLOCK", reading, now_ms))


def encode_time(reading: int, now_ms: int) -> bytes:
    """Encodes TIME: our monotonic clock, which the answer repeats."""
    return encode_message((b"TIME", reading, now_ms))


def encode_timed(reading: int, asked_ms: int, wall_ms: int, time_ms: int | None) -> bytes:
    """Encodes TIMED, the answer to the TIME of `asked_ms`: our wall clock, and cluster time if we are sure of it."""
    wall_ms = min(max(0, wall_ms), TIME_MS_MAX)  # it may be far off
    return encode_message((b"TIMED", reading, asked_ms, wall_ms, b"" if time_ms is None else time_ms))


def encode_clockoff(reading: int, ahead_ms: int) -> bytes:
    """Encodes CLOCKOFF: the receiver's clock is so far ahead of ours that we do not follow it."""
    return encode_message((b"CLOCKOFF", reading, ahead_ms))


def encode_silence(reading: int, number: int, limit_ms: int) -> bytes:
    """Encodes SILENCE: how long we may be silent before the receiver gives us up (requests/silences.py)."""
    return encode_message((b"SILENCE", reading, number, limit_ms))


def encode_heeded(reading: int, number: int) -> bytes:
    """Encodes HEEDED: we have read the SILENCE with that number."""
    return encode_message((b"HEEDED", reading, number))


def encode_isalive(reading: int, number: int, node: str) -> bytes:
    """Encodes ISALIVE: does that node answer the receiver? It does not answer us."""
    return encode_message((b"ISALIVE", reading, number, node))


def encode_alive(reading: int, number: int, node: str) -> bytes:
    """Encodes ALIVE, an answer to the ISALIVE with that number: the node has answered us, or is this one."""
    return encode_message((b"ALIVE", reading, number, node))


# --- liveness, layouts and stores


class Gossip(NamedTuple):
    """The sender's epoch and liveness table, and whether it wants our table as an answer."""

    wants_answer: bool
    epoch: int
    table: list[TableEntry]


class LayoutView(NamedTuple):
    """Which layout the sender uses: its version, and the checksum of the document in hexadecimal digits."""

    epoch: int
    revision: int
    checksum: bytes


class Staged(NamedTuple):
    """Changes that operators have staged for the layout of an epoch, the ids of changes that were aborted, and the digests
    of what was staged when plans were shown. Earlier versions do not know of the last."""

    epoch: int
    changes: list[Change]
    aborted: list[str]
    shown: Sequence[str] = ()


def _gossip(items: Reader) -> Gossip:
    wants_answer, epoch = items.header_number(1) == 1, items.epoch()
    if items.left() > TABLE_ENTRIES_MAX:
        raise Malformed(f"a table of {items.left()} entries, {TABLE_ENTRIES_MAX} are allowed")
    try:
        return Gossip(wants_answer, epoch, decode_table(items.blobs()))
    except ValueError as error:
        raise Malformed(str(error)) from None


def view_in(items: Reader) -> LayoutView:
    """Reads which layout a node uses."""
    return LayoutView(items.epoch(), items.epoch(), items.data(16, 16))


def view_items(view: LayoutView) -> list[bytes]:
    """Returns the items of a view, as `view_in` reads them."""
    return [b"%d" % view.epoch, b"%d" % view.revision, view.checksum]


def staged_document(staged: Staged) -> bytes:
    """Encodes staged changes as a document, which `staged_in` decodes."""
    changes = {change.id: change.encode() for change in staged.changes}
    fields: dict[str, Any] = {"epoch": staged.epoch, "changes": changes, "aborted": staged.aborted}
    if staged.shown:
        fields["shown"] = list(staged.shown)
    return json.dumps(fields, separators=(",", ":")).encode()


def staged_in(document: bytes) -> Staged:
    """Decodes a document of staged changes. Ignores changes with a kind or field that only newer versions know.

    Raises ValueError for any other document.
    """
    fields = shapes.parse(document, shapes.STAGED, "staged changes")
    known = [decode_known(entry) for entry in fields["changes"].values()]
    changes = [change for change in known if change is not None]
    return Staged(fields["epoch"], changes, fields["aborted"], fields.get("shown", ()))


def staged(items: Reader) -> Staged:
    """Reads staged changes from a message or a question."""
    document = items.data(shapes.DOCUMENT_BYTES_MAX)
    try:
        return staged_in(document)
    except ValueError as error:
        raise Malformed(str(error)) from None


class PoisonCommand(NamedTuple):
    """A command that ends the sender: its name and first argument for operators, and a digest of all arguments."""

    shown: str
    digest: str


def _poison(items: Reader) -> PoisonCommand:
    return PoisonCommand(items.text(SHOWN_BYTES_MAX), items.text(DIGEST_CHARACTERS))


GOSSIP: Final = Kind(b"GOSSIP", _gossip)
LAYOUT: Final = Kind(b"LAYOUT", lambda items: items.data(shapes.DOCUMENT_BYTES_MAX))  # decoded in incoming.py
VIEW: Final = Kind(b"VIEW", view_in)
MARK: Final = Kind(b"MARK", lambda items: items.time_ms())  # an incarnation of the sender; its turn is the number
STAGED: Final = Kind(b"STAGED", staged)
DUPLICATE: Final = Kind(
    b"COPY", lambda items: items.text(ADDRESS_BYTES_MAX)
)  # address of a process with the receiver's id
FULL: Final = Kind(b"FULL", lambda items: items.header_number(2))  # what the sender's disk has room for (base/room.py)
ORDERLY: Final = Kind(b"ORDERLY", nothing)
POISON: Final = Kind(b"POISON", _poison)


def encode_layout(reading: int, document: bytes) -> bytes:
    """Encodes LAYOUT: an encoded layout."""
    return encode_message((b"LAYOUT", reading, 0, document))


def encode_view(reading: int, view: LayoutView) -> bytes:
    """Encodes VIEW: which layout this node uses."""
    return encode_message((b"VIEW", reading, 0, *view_items(view)))


def encode_staged(reading: int, document: bytes) -> bytes:
    """Encodes STAGED: what `staged_document` has returned."""
    return encode_message((b"STAGED", reading, 0, document))


def encode_gossip(reading: int, wants_answer: bool, epoch: int, table: Sequence[TableEntry]) -> bytes:
    """Encodes GOSSIP: the epoch of our layout (0 without one), and our liveness table."""
    return encode_message((b"GOSSIP", reading, int(wants_answer), epoch, *encode_table(table)))


def encode_mark(reading: int, turn: int, incarnation: int) -> bytes:
    """Encodes MARK: our store is synced up to that turn of that incarnation (membership/rollback.py)."""
    return encode_message((b"MARK", reading, turn, incarnation))


def encode_duplicate(reading: int, address: str) -> bytes:
    """Encodes COPY: a process with the receiver's id, at that address, was refused (membership/duplicates.py)."""
    return encode_message((b"COPY", reading, 0, address))


def encode_full(reading: int, room: int) -> bytes:
    """Encodes FULL: what our disk has room for (base/room.py)."""
    return encode_message((b"FULL", reading, room))


def encode_orderly(reading: int) -> bytes:
    """Encodes ORDERLY: what newer nodes announce as a capability."""
    return encode_message((b"ORDERLY", reading, 0))


def encode_poison(reading: int, poison: PoisonCommand) -> bytes:
    """Encodes POISON: a command ends the sender, and the receiver is to refuse it for a while (base/quarantine.py)."""
    return encode_message((b"POISON", reading, 0, poison.shown, poison.digest))


ANNOUNCEMENTS: Final[Sequence[Kind[Any]]] = (
    CLOCK, TIME, TIMED, CLOCKOFF, SILENCE, HEEDED, ISALIVE, ALIVE, GOSSIP, LAYOUT, VIEW, MARK, STAGED, DUPLICATE, FULL,
    ORDERLY, POISON, USERS, USERSVIEW, LIBRARIES, LIBVIEW, NUMBERS, NUMVIEW, PUBLISHED, WATCHING, CHANGED, ALTERED, MADE,
    FLUSHED, NOTIFY,
)  # fmt: skip
