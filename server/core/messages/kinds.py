"""The kinds of messages that requests consist of: their fields, their encoding, and their decoding with validation.

Theory. Each kind has one declaration: its name, and a function that reads its items (reader.py) and returns what its
handler gets: nothing, one value, or an object with named fields. Beside it stands the function that encodes the kind.
So no sender knows the name of a kind or the order of its fields. Announcements are declared in announcements.py, in
the same way; questions and answers in questions.py, which also has the table of all kinds. A kind that is not in the
table belongs to a newer node and is ignored. A new kind, or a new field, is sent only to peers that have announced a
capability for it (protocol/peer_versions.py).

The kinds of this module are hot. What they carry are plain classes: to make a named tuple takes the interpreter, and four
times as long. They are encoded by plain functions, without an object in between. Each encoder begins with the same two
arguments: `reading`, the reading of our hybrid clock (`State.clock_reading`), which the receiver's clock follows, and
`number`, that of the request.

Some messages can only be judged together with the request that they answer (how many records, which commands). That
check is in core/incoming.py, in the same step.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

from librt.strings import BytesWriter, write_i32_be
from mypy_extensions import i32

from protocol.bounds import COUNT_MAX
from protocol.frames import encode_blobs, encode_lists, encode_message
from protocol.resp import is_reply
from server.core.messages.comparison import OTHER, STATES
from server.core.messages.reader import CHECKSUM_BYTES, Malformed, Reader

V = TypeVar("V")

QUORUM_MAX: Final = 1 << 14
_DIGEST_BYTES: Final = 8
_SHORT_DIGEST_BYTES: Final = 9
_NO_RECORD: Final = (b"",)
_NUMBER: Final = struct.Struct(">Q")


class Kind(Generic[V]):
    """A kind of message: its name on the wire, and how its items are read."""

    def __init__(self, name: bytes, read: Callable[[Reader], V]) -> None:
        self.name = name
        self.read = read


def nothing(items: Reader) -> None:
    """Reads a message without items: its kind and number say everything."""


# --- read groups and write groups, and the answers to them


class DigestRead:
    """The content of READ: a digest of the coordinator's records, and the keys."""

    __slots__ = ("digest", "keys")

    def __init__(self, digest: bytes, keys: list[bytes]) -> None:
        self.digest = digest
        self.keys = keys


def _read_group(items: Reader) -> DigestRead:
    group = DigestRead(items.data(_SHORT_DIGEST_BYTES, _DIGEST_BYTES), items.storage_keys())
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


def _group_numbers(items: Reader) -> list[int]:
    return [number for (number,) in _NUMBER.iter_unpack(items.packed(8))]


READ: Final = Kind(b"READ", _read_group)
COMPARE: Final = Kind(b"COMPARE", _comparison)
DIFFER: Final = Kind(b"DIFFER", _differences)
SAME: Final = Kind(b"SAME", nothing)
RECORDS: Final = Kind(b"RECORDS", lambda items: items.records(_NO_RECORD))  # the record of each key, empty for none
STORE: Final = Kind(b"STORE", lambda items: items.pairs())  # storage key, record, …
PATCH: Final = Kind(b"PATCH", lambda items: items.patched_pairs())  # storage key, record or patch, …
UNFIT: Final = Kind(b"UNFIT", nothing)
KEEP: Final = Kind(b"KEEP", lambda items: items.pairs())  # the same; confirmed later, by KEPT
HINT: Final = Kind(b"HINT", lambda items: Hint(items.node_id(), items.pairs()))
STORED: Final = Kind(b"STORED", nothing)
KEPT: Final = Kind(b"KEPT", _group_numbers)  # the numbers of the confirmed groups
REFUSED: Final = Kind(b"REFUSED", nothing)


def encode_read(reading: int, number: int, digest: bytes, keys: list[bytes]) -> bytes:
    """Encodes READ, for nodes of earlier versions: a digest of our records (requests/digests.py), and their keys."""
    return encode_message((b"READ", reading, number, digest, *keys))


def encode_compare(reading: int, number: int, checksums: bytes, keys: list[bytes]) -> bytes:
    """HOT. Encodes COMPARE: `comparison.checksums` of our records, and their keys."""
    return encode_blobs((b"COMPARE", reading, number, checksums), keys)


def encode_differ(reading: int, number: int, differences: list[bytes]) -> bytes:
    """HOT. Encodes DIFFER: what `comparison.differences` has returned."""
    return encode_message((b"DIFFER", reading, number, *differences))


def encode_same(reading: int, number: int) -> bytes:
    """HOT. Encodes SAME: our records are those of the READ or COMPARE with that number."""
    return encode_message((b"SAME", reading, number))


def encode_records(reading: int, number: int, records: list[bytes | None]) -> bytes:
    """Encodes RECORDS, the answer to a READ."""
    return encode_message((b"RECORDS", reading, number, *[record or b"" for record in records]))


def encode_store(reading: int, number: int, pairs: list[bytes]) -> bytes:
    """HOT. Encodes STORE: storage key, record, …"""
    return encode_blobs((b"STORE", reading, number), pairs)


def encode_patch(reading: int, number: int, pairs: list[bytes]) -> bytes:
    """Encodes PATCH: a STORE with patches in the place of some records (records/patches.py)."""
    return encode_blobs((b"PATCH", reading, number), pairs)


def encode_unfit(reading: int, number: int) -> bytes:
    """Encodes UNFIT: a patch of the PATCH with that number is not one of the record here; the records are to come whole."""
    return encode_message((b"UNFIT", reading, number))


def encode_keep(reading: int, number: int, pairs: list[bytes]) -> bytes:
    """HOT. Encodes KEEP: storage key, record, …"""
    return encode_blobs((b"KEEP", reading, number), pairs)


def encode_hint(reading: int, number: int, owner: str, pairs: list[bytes]) -> bytes:
    """Encodes HINT: the id of the owner, and storage key, record, …"""
    return encode_message((b"HINT", reading, number, owner, *pairs))


def encode_stored(reading: int, number: int) -> bytes:
    """HOT. Encodes STORED: the STORE, PATCH or HINT with that number is stored here."""
    return encode_message((b"STORED", reading, number))


def encode_kept(reading: int, numbers: list[int]) -> bytes:
    """HOT. Encodes KEPT: the KEEPs with these numbers are stored here."""
    return encode_message((b"KEPT", reading, 0, b"".join([_NUMBER.pack(number) for number in numbers])))


def encode_refused(reading: int, number: int) -> bytes:
    """Encodes REFUSED: the READ, COMPARE, STORE, KEEP or HINT with that number could not be carried out here."""
    return encode_message((b"REFUSED", reading, number))


# --- relays


class Relay:
    """Commands that the receiver is to run as their coordinator, sent at `sent_ms` by the sender's monotonic clock.

    The options are: RESP3 or not, R, W, and `1` if the commands are a chain.
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
    if len(options) < 3 or options[0] not in (b"0", b"1") or options[3:] not in ([], [b"1"]):
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


def encode_relay(
    reading: int, number: int, sent_ms: int, options: list[bytes], commands: Sequence[list[bytes]]
) -> bytes:
    """HOT. Encodes RELAY: the commands, and the `relay_options` of all of them."""
    return encode_lists((b"RELAY", reading, number, sent_ms), [options, *commands])


def relay_options(resp3: bool, read_quorum: int, write_quorum: int, in_order: bool) -> list[bytes]:
    """HOT. Returns the options of a relay. A quorum of 0 stands for the layout's; `in_order`: the commands are a chain."""
    options = [b"1" if resp3 else b"0", b"%d" % read_quorum, b"%d" % write_quorum]
    if in_order:
        options.append(b"1")
    return options


def is_in_order(options: Sequence[bytes]) -> bool:
    """HOT. Whether the options of a relay say that the commands are a chain."""
    return len(options) > 3


def encode_relayed(reading: int, number: int, indexes: list[int], replies: list[bytes]) -> bytes:
    """HOT. Encodes RELAYED: encoded replies to the commands with these indexes in the relay with that number."""
    return encode_blobs((b"RELAYED", reading, number, _packed(indexes)), replies)


def encode_covered(reading: int, number: int, group: int, indexes: list[int]) -> bytes:
    """HOT. Encodes COVERED: the STORE of `group` answers these commands of the relay with that number."""
    return encode_message((b"COVERED", reading, number, group, _packed(indexes)))


def _packed(indexes: list[int]) -> bytes:
    """Encodes the indexes of commands within a relay: 4 bytes each, big-endian."""
    writer = BytesWriter()
    for index in indexes:
        write_i32_be(writer, i32(index))
    return writer.getvalue()


REQUEST_KINDS: Final[Sequence[Kind[Any]]] = (
    READ, COMPARE, SAME, DIFFER, RECORDS, STORE, PATCH, UNFIT, KEEP, HINT, STORED, KEPT, REFUSED, RELAY, RELAYED, COVERED,
)  # fmt: skip
