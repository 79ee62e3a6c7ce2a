"""The kinds of messages between nodes: what each carries behind kind, clock and number, and how it is read.

Theory. One declaration per kind: its name, and a function that reads its items (reader.py) and answers what its handler
gets: nothing, one value, or a tuple with named fields. Questions and answers have declarations of their own (questions.py,
where the table of all kinds stands). A kind that is not in it is a newer node's and is passed over. A new kind, or a new
field, is sent only to peers that have announced a capability for it (protocol/peer_versions.py), and `version` tells since
which version of the protocol a kind has the form that stands here. What hot kinds carry are plain classes: to make a named
tuple takes the interpreter, and four times as long.

What a message means only beside the request that it answers (how many records, which commands) is checked by whoever has
that request, in the same step: see `PeerMessages`.
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
    """A kind of message: its name on the wire, how its items are read, and since which version they have this form."""

    def __init__(self, name: bytes, read: Callable[[Reader], V], version: int = 1) -> None:
        self.name = name
        self.read = read
        self.version = version


def nothing(items: Reader) -> None:
    """The message says all by its kind and number."""


# --- reads and writes of groups, and their answers


class ReadGroup:
    """A coordinator's reads: a digest of what it holds under the keys, and the keys."""

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
    """Records for a node to keep in place of an owner: storage key, record, …"""

    owner: str
    pairs: list[bytes]


class Comparison:
    """A coordinator's reads: the checksum of its record of each key, and the keys (comparison.py)."""

    __slots__ = ("checksums", "keys")

    def __init__(self, checksums: bytes, keys: list[bytes]) -> None:
        self.checksums = checksums
        self.keys = keys


class Differences:
    """How a replica's records stand to those of the coordinator: a state of each key, and the records that differ."""

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
    told = Differences(items.data(), items.records(()))
    if told.states.strip(STATES):
        raise Malformed("a state of a key that there is not")
    if told.states.count(OTHER) != len(told.records):
        raise Malformed(f"{len(told.records)} records, {told.states.count(OTHER)} differ")
    return told


READ: Final = Kind(b"READ", _read_group)
COMPARE: Final = Kind(b"COMPARE", _comparison)
DIFFER: Final = Kind(b"DIFFER", _differences)
SAME: Final = Kind(b"SAME", nothing)
RECORDS: Final = Kind(b"RECORDS", lambda items: items.records(_NO_RECORD))  # of each key asked, empty for none
STORE: Final = Kind(b"STORE", lambda items: items.pairs())  # storage key, record, …
KEEP: Final = Kind(b"KEEP", lambda items: items.pairs())  # the same, to be confirmed at leisure
HINT: Final = Kind(b"HINT", lambda items: Hint(items.node_id(), items.pairs()))
STORED: Final = Kind(b"STORED", nothing)
KEPT: Final = Kind(b"KEPT", lambda items: items.packed(8))  # the numbers of groups
REFUSED: Final = Kind(b"REFUSED", nothing)


# --- relays


class Relay:
    """Commands for another coordinator, begun at `sent_ms` by the sender's monotonic clock, and how to run them: RESP3 or
    not, R, W, and, in a fourth option, that they are to run in order."""

    __slots__ = ("commands", "options", "sent_ms")

    def __init__(self, sent_ms: int, options: list[bytes], commands: list[list[bytes]]) -> None:
        self.sent_ms = sent_ms
        self.options = options
        self.commands = commands


class Relayed:
    """Replies to some commands of a relay: their places in it, 4 bytes each, and as many encoded replies."""

    __slots__ = ("indexes", "replies")

    def __init__(self, indexes: bytes, replies: list[bytes]) -> None:
        self.indexes = indexes
        self.replies = replies


class Covered:
    """The STORE of `group`, which comes next, answers the commands of a relay that stand at these places."""

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
    """What the sender's wall clock reads, and cluster time, if it is sure of it."""

    wall_ms: int
    time_ms: int | None


def _timed(items: Reader) -> Timed:
    items.header_number(COUNT_MAX)
    wall_ms = items.time_ms()
    told = items.data(20)
    if told and not (told.isdigit() and int(told) <= TIME_MS_MAX):
        raise Malformed("cluster time is out of range")
    return Timed(wall_ms, int(told) if told else None)


CLOCK: Final = Kind(b"CLOCK", lambda items: items.header_number(COUNT_MAX))  # the sender's monotonic clock
TIME: Final = Kind(b"TIME", lambda items: items.header_number(COUNT_MAX))  # the asker's monotonic clock
TIMED: Final = Kind(b"TIMED", _timed)  # its number is that of TIME
CLOCKOFF: Final = Kind(b"CLOCKOFF", lambda items: items.header_number(TIME_MS_MAX))  # how far the receiver's is ahead


# --- who lives, and who owns what


class Gossip(NamedTuple):
    """The sender's epoch, its table of who lives, and whether it wants ours."""

    wants_answer: bool
    epoch: int
    table: list[TableEntry]


class View(NamedTuple):
    """Which layout the sender goes by: its version, and the checksum of the document in hexadecimal digits."""

    epoch: int
    revision: int
    checksum: bytes


class Staged(NamedTuple):
    """What operators have staged for the layout of an epoch: changes, and the ids of those that were taken back."""

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
    """The view of a layout."""
    return View(items.epoch(), items.epoch(), items.data(16, 16))


def staged_in(document: bytes) -> Staged:
    """The parts of a document of staged changes. A change of a kind, or with fields, that only a newer version knows is
    passed over. Raises ValueError for what is no such document."""
    fields = shapes.parse(document, shapes.STAGED, "staged changes")
    known = [decode_known(entry) for entry in fields["changes"].values()]
    return Staged(fields["epoch"], [change for change in known if change is not None], fields["aborted"])


def staged(items: Reader) -> Staged:
    """What is staged, in a message or a question."""
    document = items.data(shapes.DOCUMENT_BYTES_MAX)
    try:
        return staged_in(document)
    except ValueError as error:
        raise Malformed(str(error)) from None


GOSSIP: Final = Kind(b"GOSSIP", _gossip)
LAYOUT: Final = Kind(
    b"LAYOUT", lambda items: items.data(shapes.DOCUMENT_BYTES_MAX)
)  # decoded unless it is the present one
VIEW: Final = Kind(b"VIEW", view_in)
MARK: Final = Kind(b"MARK", lambda items: items.time_ms())  # the life of the sender's store whose turn is the number
STAGED: Final = Kind(b"STAGED", staged)
COPY: Final = Kind(b"COPY", lambda items: items.text(ADDRESS_BYTES_MAX))  # where a process with the receiver's id runs
FULL: Final = Kind(b"FULL", lambda items: items.header_number(2))  # what the sender's disk has room for, see room.py
ORDERLY: Final = Kind(b"ORDERLY", nothing)

PLAIN_KINDS: Final[Sequence[Kind[Any]]] = (  # all but questions and their answers
    READ, COMPARE, SAME, DIFFER, RECORDS, STORE, KEEP, HINT, STORED, KEPT, REFUSED, RELAY, RELAYED, COVERED, CLOCK, TIME,
    TIMED, CLOCKOFF, GOSSIP, LAYOUT, VIEW, MARK, STAGED, COPY, FULL, ORDERLY,
)  # fmt: skip
