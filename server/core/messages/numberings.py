"""The kinds of messages by which nodes share the numbering of databases (shared/numberings.py), and swap two of them.

Theory. NUMBERS carries a document; whoever gets it merges it. NUMVIEW carries the digest of the sender's document, with
each gossip, so that a difference is noticed. SWAP asks the node that orders swaps for one; the answer is the document then,
or why nothing was done. NUMBERED is NUMBERS as a question: the answer is the document of the node once it has merged both.
KNOWSWAPS asks which of some nodes have announced the capability `swaps` to the one who is asked. All others go only to
nodes that have that capability.

Before, an entry was the numbering after its latest swap, with the version of that one and the ids of the latest ones. So
it stands on the disks of nodes that are upgraded, and is read as an entry whose swaps are all settled.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from protocol.databases import DATABASES
from protocol.frames import encode_message
from server.core.messages import shapes
from server.core.messages.asking import Items, Question, read_flags, write_flags
from server.core.messages.kinds import Kind
from server.core.messages.reader import Malformed, Reader
from server.core.shared.document import DIGEST_DIGITS
from server.core.shared.numberings import (
    CLUSTER_BYTES_MAX,
    CLUSTERS_MAX,
    OPEN_MAX,
    SETTLED_MAX,
    SWAP_ID_DIGITS,
    SWAPS_MAX,
    Numberings,
    entry_of,
)

_SWAP_ID: Final = re.compile(f"[0-9a-f]{{{SWAP_ID_DIGITS}}}")
_DOCUMENT_BYTES_MAX: Final = 1 << 20
_REFUSAL_BYTES_MAX: Final = 16 << 10


def _swap_id(value: object) -> str:
    """The shape of the id of a swap."""
    is_one = type(value) is str and _SWAP_ID.fullmatch(value) is not None
    return "" if is_one else "it is no id of a swap"


_SPACES = shapes.listed(shapes.integer(DATABASES - 1), DATABASES, DATABASES)
_NUMBER = shapes.integer(DATABASES - 1)
_ORDERED = shapes.row(shapes.version, shapes.node_id, _swap_id, _NUMBER, _NUMBER)
_PRESENT = shapes.row(shapes.version, _SPACES, shapes.listed(_swap_id, SETTLED_MAX), shapes.listed(_ORDERED, OPEN_MAX))
_FORMER = shapes.row(shapes.version, shapes.node_id, _SPACES, shapes.listed(_swap_id, SWAPS_MAX))


def _entry(value: object) -> str:
    """The shape of an entry, or of one of the former kind."""
    fault = _PRESENT(value)
    return fault if fault and _FORMER(value) else ""


_SHAPE = shapes.fields({"floor": shapes.version, "numberings": shapes.mapped(shapes.text, _entry)})


def numberings_in(data: bytes) -> Numberings:
    """Decodes a document of numberings. Raises ValueError for any other document."""
    fields = shapes.parse(data, _SHAPE, "numberings")
    entries = {cluster.encode("latin-1"): entry_of(row) for cluster, row in fields["numberings"].items()}
    if len(entries) > CLUSTERS_MAX or any(len(cluster) > CLUSTER_BYTES_MAX for cluster in entries):
        raise ValueError("numberings: too many clusters, or an id of one that is too long")
    return Numberings(entries)


def _numberings(items: Reader) -> Numberings:
    return shapes.document_in(items, _DOCUMENT_BYTES_MAX, numberings_in)


NUMBERS: Final = Kind(b"NUMBERS", _numberings)
NUMVIEW: Final = Kind(b"NUMVIEW", lambda items: items.data(DIGEST_DIGITS, DIGEST_DIGITS))


def encode_numbers(reading: int, document: bytes) -> bytes:
    """Encodes NUMBERS: an encoded document of numberings."""
    return encode_message((b"NUMBERS", reading, 0, document))


def encode_numbers_view(reading: int, digest: bytes) -> bytes:
    """Encodes NUMVIEW: the digest of our document of numberings."""
    return encode_message((b"NUMVIEW", reading, 0, digest))


class Swap(NamedTuple):
    """Two databases, by number, that are to be swapped. `id` makes that it is done once, however often it is asked for.
    `document` is that of the node that asks: what is swapped is what it knows, or something later."""

    id: str
    first: int
    second: int
    document: Numberings


class Swapped(NamedTuple):
    """The document after a swap; or an error text, and the document without the swap."""

    document: Numberings
    refusal: str = ""


def _swap(items: Reader) -> Swap:
    swap_id = items.data(SWAP_ID_DIGITS, SWAP_ID_DIGITS).decode("latin-1")
    if _swap_id(swap_id):
        raise Malformed(f"{swap_id!r} is no id of a swap")
    return Swap(swap_id, items.integer(DATABASES - 1), items.integer(DATABASES - 1), _numberings(items))


def _nodes(items: Reader) -> list[str]:
    return [items.node_id() for _ in range(items.left())]


def _known(items: Reader, asked: Items) -> bytes:
    return read_flags(len(asked), items)


SWAP: Final[Question[Swap, Swapped]] = Question(
    b"SWAP",
    lambda swap: [swap.id.encode(), b"%d" % swap.first, b"%d" % swap.second, swap.document.encode()],
    _swap,
    lambda swapped: [swapped.document.encode(), swapped.refusal.encode()],
    lambda items, asked: Swapped(_numberings(items), items.text(_REFUSAL_BYTES_MAX)),
)
NUMBERED: Final[Question[Numberings, Numberings]] = Question(
    b"NUMBERED",
    lambda document: [document.encode()],
    _numberings,
    lambda document: [document.encode()],
    lambda items, asked: _numberings(items),
)
KNOWSWAPS: Final[Question[list[str], bytes]] = Question(
    b"KNOWSWAPS", lambda nodes: [node.encode() for node in nodes], _nodes, write_flags, _known
)
ALL: Final = (SWAP, NUMBERED, KNOWSWAPS)
