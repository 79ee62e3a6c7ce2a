"""The kinds of messages between nodes: what each carries after kind, clock and number, and how it is read.

Theory. Each kind has one declaration: its name, and a function that reads its items (reader.py) and returns what its
handler gets: nothing, one value, or a tuple with named fields. Questions and answers are declared in questions.py,
which also has the table of all kinds. A kind that is not in the table belongs to a newer node and is ignored. A new
kind, or a new field, is sent only to peers that have announced a capability for it (protocol/peer_versions.py).
`version` says since which version of the protocol a kind has the form declared here. What the hot kinds
carry are plain classes: to make a named tuple takes the interpreter, and four times as long.

Some messages can only be judged together with the request that they answer (how many records, which commands). That
check is in core/incoming.py, in the same step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

from protocol.bounds import COUNT_MAX, TIME_MS_MAX
from protocol.resp import is_reply
from server.core.liveness.gossip_table import TABLE_ENTRIES_MAX, TableEntry, decode_table
from server.core.messages import shapes
from server.core.messages.comparison import OTHER, STATES
from server.core.messages.reader import CHECKSUM_BYTES, Malformed, Reader
from server.core.ring.change import Change, decode_known

V = TypeVar("V")

ADDRESS_BYTES_MAX: Final = 512
QUORUM_MAX: Final = 1 << 14
_DIGEST_BYTES: Final = 8
_SHORT_DIGEST_BYTES: Final = 9
_NO_RECORD: Final = (b"",)


class Kind(Generic[V]):
    """A kind of message: its name on the wire, how its items are read, and since which version it has this form."""

    def __init__(self, name: bytes, read: Callable[[Reader], V], version: int = 1) -> None:
        self.name = name
        self.read = read
        self.version = version


def nothing(items: Reader) -> None:
    """Reads a message without items: its kind and number say everything."""


# --- read groups and write groups, and the answers to them


class ReadGroup:
    """A coordinator's read group: a digest of its records, and the keys."""

    __slots__ = ("digest", "keys")

    def __init__(self, digest: bytes, keys: list[bytes]) -> None:
        self.digest = digest
        self.keys = keys


def _read_group(items: Reader) -> ReadGroup:
    group = ReadGroup(items.data(_SHORT_DIGEST_BYTES, _DIGEST_BYTES), items.storage_keys())
    if not group.keys:
        raise Malformed("no keys")
    return group


class Hint(NamedTuple):
    """Records that the receiver stores, with hints, on behalf of an owner: storage key, record, …"""

    owner: str
    pairs: list[bytes]


class Comparison:
    """A coordinator's read group: the checksums of its records, and the keys (comparison.py)."""

    __slots__ = ("checksums", "keys")

    def __init__(self, checksums: bytes, keys: list[bytes]) -> None:
        self.checksums = checksums
        self.keys = keys


class Differences:
    """How a replica's records compare to the coordinator's: a state for each key, and the records that differ."""

    __slots__ = ("records", "states")

    def __init__(self, states: bytes, records: list[bytes]) -> None:
        self.states = states
        self.records = records


def _comparison(items: Reader) -> Comparison:
    group = Comparison(items.packed(CHECKSUM_BYTES), items.storage_keys())
    if not group.keys or len(group.checksums) != CHECKSUM_BYTES * len(group.keys):
        raise Malformed(f"{len(group.checksums) // CHECKSUM_BYTES} checksums of {len(group.keys)} keys")
    return group


def _differences(items: Reader) -> Differences:
    found = Differences(items.data(), items.records(()))
    if found.states.strip(STATES):
        raise Malformed("a state of a key that there is not")
    if found.states.count(OTHER) != len(found.records):
        raise Malformed(f"{len(found.records)} records, {found.states.count(OTHER)} differ")
    return found


READ: Final = Kind(b"READ", _read_group)
COMPARE: Final = Kind(b"COMPARE", _comparison)
DIFFER: Final = Kind(b"DIFFER", _differences)
SAME: Final = Kind(b"SAME", nothing)
RECORDS: Final = Kind(b"RECORDS", lambda items: items.records(_NO_RECORD))  # the record of each key, empty for none
STORE: Final = Kind(b"STORE", lambda items: items.pairs())  # storage key, record, …
KEEP: Final = Kind(b"KEEP", lambda items: items.pairs())  # the same; confirmed later, by KEPT
HINT: Final = Kind(b"HINT", lambda items: Hint(items.node_id(), items.pairs()))
STORED: Final = Kind(b"STORED", nothing)
KEPT: Final = Kind(b"KEPT", lambda items: items.packed(8))  # the numbers of the confirmed groups
REFUSED: Final = Kind(b"REFUSED", nothing)


# --- relays


class Relay:
    """Commands that the receiver is to run as their coordinator, sent at `sent_ms` by the sender's monotonic clock.

    The options are: RESP3 or not, R, W, and perhaps a fourth one, which says that the commands are a chain.
    """

    __slots__ = ("commands", "options", "sent_ms")

    def __init__(self, sent_ms: int, options: list[bytes], commands: list[list[bytes]]) -> None:
        self.sent_ms = sent_ms
        self.options = options
        self.commands = commands


class Relayed:
    """Replies to some commands of a relay: the commands' indexes, 4 bytes each, and as many encoded replies."""

    __slots__ = ("indexes", "replies")

    def __init__(self, indexes: bytes, replies: list[bytes]) -> None:
        self.indexes = indexes
        self.replies = replies


class Covered:
    """Says that the STORE of `group`, which comes next, answers the commands with these indexes in a relay."""

    __slots__ = ("group", "indexes")

    def __init__(self, group: int, indexes: bytes) -> None:
        self.group = group
        self.indexes = indexes


def _relay(items: Reader) -> Relay:
    relay = Relay(items.integer(COUNT_MAX), items.words(), items.word_lists())
    options = relay.options
    if not 3 <= len(options) <= 4 or options[0] not in (b"0", b"1") or options[3:] not in ([], [b"1"]):
        raise Malformed("the options of a relay are not RESP3, R, W and perhaps the order")
    for option in options[1:3]:
        if not option.isdigit() or len(option) > 5 or int(option) > QUORUM_MAX:
            raise Malformed("a quorum of a relay is out of range")
    return relay


def _relayed(items: Reader) -> Relayed:
    relayed = Relayed(items.packed(4), items.blobs())
    if len(relayed.indexes) != 4 * len(relayed.replies):
        raise Malformed(f"{len(relayed.replies)} replies to {len(relayed.indexes) // 4} commands")
    for reply in relayed.replies:
        if not is_reply(reply):
            raise Malformed("a reply that is none")
    return relayed


RELAY: Final = Kind(b"RELAY", _relay)
RELAYED: Final = Kind(b"RELAYED", _relayed)
COVERED: Final = Kind(b"COVERED", lambda items: Covered(items.integer((1 << 64) - 1), items.packed(4)))


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


# --- liveness, layouts and stores


class Gossip(NamedTuple):
    """The sender's epoch and liveness table, and whether it wants our table as an answer."""

    wants_answer: bool
    epoch: int
    table: list[TableEntry]


class View(NamedTuple):
    """Which layout the sender uses: its version, and the checksum of the document in hexadecimal digits."""

    epoch: int
    revision: int
    checksum: bytes


class Staged(NamedTuple):
    """Changes that operators have staged for the layout of an epoch, and the ids of changes that were aborted."""

    epoch: int
    changes: list[Change]
    aborted: list[str]


def _gossip(items: Reader) -> Gossip:
    wants_answer, epoch = items.header_number(1) == 1, items.epoch()
    if items.left() > TABLE_ENTRIES_MAX:
        raise Malformed(f"a table of {items.left()} entries, {TABLE_ENTRIES_MAX} are allowed")
    try:
        return Gossip(wants_answer, epoch, decode_table(items.blobs()))
    except ValueError as error:
        raise Malformed(str(error)) from None


def view_in(items: Reader) -> View:
    """Reads which layout a node uses."""
    return View(items.epoch(), items.epoch(), items.data(16, 16))


def staged_in(document: bytes) -> Staged:
    """Decodes a document of staged changes. Ignores changes with a kind or field that only newer versions know.

    Raises ValueError for any other document.
    """
    fields = shapes.parse(document, shapes.STAGED, "staged changes")
    known = [decode_known(entry) for entry in fields["changes"].values()]
    return Staged(fields["epoch"], [change for change in known if change is not None], fields["aborted"])


def staged(items: Reader) -> Staged:
    """Reads staged changes from a message or a question."""
    document = items.data(shapes.DOCUMENT_BYTES_MAX)
    try:
        return staged_in(document)
    except ValueError as error:
        raise Malformed(str(error)) from None


GOSSIP: Final = Kind(b"GOSSIP", _gossip)
LAYOUT: Final = Kind(b"LAYOUT", lambda items: items.data(shapes.DOCUMENT_BYTES_MAX))  # decoded in incoming.py
VIEW: Final = Kind(b"VIEW", view_in)
MARK: Final = Kind(
    b"MARK", lambda items: items.time_ms()
)  # a life of the sender's store (lives.py), its turn is the number
STAGED: Final = Kind(b"STAGED", staged)
COPY: Final = Kind(b"COPY", lambda items: items.text(ADDRESS_BYTES_MAX))  # address of a process with the receiver's id
FULL: Final = Kind(b"FULL", lambda items: items.header_number(2))  # what the sender's disk has room for (base/room.py)
ORDERLY: Final = Kind(b"ORDERLY", nothing)

PLAIN_KINDS: Final[Sequence[Kind[Any]]] = (  # all except questions and answers
    READ, COMPARE, SAME, DIFFER, RECORDS, STORE, KEEP, HINT, STORED, KEPT, REFUSED, RELAY, RELAYED, COVERED, CLOCK, TIME,
    TIMED, CLOCKOFF, GOSSIP, LAYOUT, VIEW, MARK, STAGED, COPY, FULL, ORDERLY,
)  # fmt: skip
