"""What two nodes tell each other of the protocol before the first message: versions and capabilities.

The problem. During an upgrade of a cluster, nodes of several versions serve side by side. A change of the protocol must
not need a moment at which all of them are stopped.

There are two ways to change it:

- A *capability* is a word for something that a node can read beyond the messages of its version: a new kind, a new field,
  another form. Each node announces its capabilities, and uses one towards a peer only if that peer has announced it.
- A *version* changes when an old form is removed. Each node speaks all versions from MIN to MAX. Two nodes speak the
  highest version that both know. If there is none they refuse each other, with a line that says which of them to upgrade.

The node that connects introduces itself, and the other one answers with a welcome. Both lines carry words behind those
that every version has:

    DYN.PEER min cluster id incarnation [epoch revision] [FOR id AT address] [PIECES] [BESIDE] MAX max CAN word,word,…
    +OK PIECES SPEAK version CAN word,word,… [VIEW epoch revision checksum]

The previous version announces PIECES alone. It is welcomed without the words that it does not know, and announces by a
message (ORDERLY) what is a capability now. It takes `min` for the only version, so min stays at the version that it knows
until it is no longer supported. A node ignores words that it does not know, so there may be more of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

VERSION_MIN: Final = 1
VERSION_MAX: Final = 1
ORDERLY: Final = b"orderly"  # runs relayed commands of one key in order (chains.py), and reads short digests (reads.py)
PIECES: Final = b"pieces"  # reads large messages in pieces (pieces.py)
VIEW: Final = b"view"  # reads the view of a layout in the welcome (membership/views.py)
COMPARES: Final = b"compares"  # answers reads key by key (messages/comparison.py)
ENTRIES: Final = b"entries"  # reads records of entries (records/entries.py)
PATCHES: Final = b"patches"  # takes patches of large records (records/patches.py)
USERS: Final = b"users"  # has users, and merges the document of them (services/users.py)
QUEUES: Final = b"queues"  # keeps rows of clients that wait for elements (core/waiting/)
SCRIPTS: Final = b"scripts"  # runs scripts that others relay, and shares their texts (commands/scripting)
FUNCTIONS: Final = b"functions"  # runs functions that others relay, and merges the document of libraries
TRANSACTIONS: Final = b"transactions"  # runs transactions that others relay (commands/transactions)
DATABASES: Final = b"databases"  # knows the inner keys of other databases than 0 (protocol/databases.py)
PUBLISHING: Final = b"publishing"  # delivers what clients of other nodes publish (core/pubsub/)
TRACING: Final = b"tracing"  # opens the envelopes of traced requests (core/tracing/)
ORIGINS: Final = b"origins"  # is told of changes with the records before and after, and of a flush (core/pubsub/)
QUORUMS: Final = b"quorums"  # knows staged changes of R and W, and layouts with `written_w` (ring/quorum_change.py)
REPLICA_COUNTS: Final = (
    b"replicas"  # knows staged changes of N, and layouts with `former_numbers` (ring/replica_change.py)
)
XREADS: Final = b"xreads"  # keeps rows of clients that wait for entries of streams (core/waiting/)
SILENCES: Final = b"silences"  # reads how long a coordinator may be silent (requests/silences.py)
SWAPS: Final = b"swaps"  # shares the numbering of databases, which SWAPDB changes (services/numbering.py)
# "limits" was the word of a capability that is gone: nodes that know it put an age limit into relays. Do not use it again.
# Nor "spaces": nodes that know it share numberings of databases in a form that has no swaps (messages/numberings.py).
CAPABILITIES: Final = (
    ORDERLY, PIECES, VIEW, COMPARES, ENTRIES, PATCHES, USERS, TRANSACTIONS, PUBLISHING, DATABASES, QUEUES, SCRIPTS,
    FUNCTIONS, TRACING, ORIGINS, QUORUMS, XREADS, REPLICA_COUNTS, SWAPS, SILENCES,
)  # fmt: skip
PIECES_WORD: Final = b"PIECES"  # in an introduction, and in the welcome, of the previous version
BESIDE: Final = b"BESIDE"  # in an introduction: the sender's former connection works, and ends once this one is open
_MAX, _CAN, _SPEAK, _VIEW = b"MAX", b"CAN", b"SPEAK", b"VIEW"
_VIEW_WORDS: Final = 3
_TLS_PORT: Final = b"tls="  # a capability with a number: the port where a node takes TLS
_DIGITS_MAX: Final = 5
_WORDS_MAX: Final = 64
_WELCOME_BYTES_MAX: Final = 4096


class Speech(NamedTuple):
    """The versions that a node speaks, from `least` to `most`, and its capabilities.

    `announces` is False for the previous version, which announces neither. `view` is the view of its layout, in a welcome.
    """

    least: int
    most: int
    capabilities: tuple[bytes, ...]
    announces: bool = True
    view: tuple[bytes, ...] = ()


OURS: Final = Speech(VERSION_MIN, VERSION_MAX, CAPABILITIES)


def with_tls_port(port: int) -> Speech:
    """Our versions and capabilities, with the port where this node takes TLS; 0 if it takes none."""
    return OURS._replace(capabilities=(*CAPABILITIES, b"%s%d" % (_TLS_PORT, port))) if port else OURS


def tls_port_in(capabilities: Sequence[bytes]) -> int:
    """The port in the capabilities of a peer where it takes TLS; 0 if it takes none."""
    ports = [_number(word.removeprefix(_TLS_PORT)) for word in capabilities if word.startswith(_TLS_PORT)]
    return (ports[0] or 0) if ports else 0


def announcement(ours: Speech = OURS) -> tuple[bytes, ...]:
    """The words of an introduction with this node's versions and capabilities; they stand behind PIECES, if it is there."""
    return _MAX, b"%d" % ours.most, _CAN, b",".join(ours.capabilities)


def introduced(version: bytes, words: Sequence[bytes]) -> Speech | None:
    """The versions and capabilities of a node that introduces itself with these words; None if they are malformed."""
    least = _number(version)
    told = _following(words)
    most = _number(told.get(_MAX, version))
    if least is None or most is None or most < least:
        return None
    legacy = (PIECES,) if PIECES_WORD in words else ()
    capabilities = _capabilities(told[_CAN]) if _CAN in told else legacy
    return Speech(least, most, capabilities, _MAX in told)


def common_version(theirs: Speech, ours: Speech = OURS) -> int | None:
    """The version that two nodes speak with each other; None if there is none."""
    version = min(theirs.most, ours.most)
    return version if version >= max(theirs.least, ours.least) else None


def refusal(theirs: Speech, us: str, ours: Speech = OURS) -> str:
    """The error text for a node without a common version, with what to do; empty if there is one. `us` is our name."""
    if common_version(theirs, ours) is not None:
        return ""
    older = f"node {us}" if ours.most < theirs.least else "the node that connects"
    return (
        f"ERR node {us} speaks {_range(ours)} of the protocol between nodes, and the node that connects speaks "
        f"{_range(theirs)}: upgrade {older}, if need be by a release in between that speaks both"
    )


def welcome(theirs: Speech, view: Sequence[bytes] = (), ours: Speech = OURS) -> bytes:
    """The welcome for a node with a common version, as a RESP line. `view` is the view of our layout, or empty."""
    if not theirs.announces:
        return b"+OK PIECES\r\n" if PIECES in theirs.capabilities else b"+OK\r\n"
    version = common_version(theirs, ours)
    assert version is not None
    told = (_VIEW, *view) if view and VIEW in theirs.capabilities else ()
    words = (b"+OK", PIECES_WORD, _SPEAK, b"%d" % version, _CAN, b",".join(ours.capabilities), *told)
    return b" ".join(words) + b"\r\n"


def welcomed(line: bytes) -> Speech | None:
    """The versions and capabilities in a welcome; None if the line is none. `least` and `most` are the common version."""
    if not line.endswith(b"\r\n") or len(line) > _WELCOME_BYTES_MAX or line.split(b" ", 1)[0].strip() != b"+OK":
        return None
    words = line[:-2].split(b" ")[1:]
    told = _following(words)
    version = _number(told.get(_SPEAK, b"%d" % VERSION_MIN))
    if version is None:
        return None
    legacy = (PIECES,) if PIECES_WORD in words else ()
    place = words.index(_VIEW) + 1 if _VIEW in words else len(words)
    capabilities = _capabilities(told[_CAN]) if _CAN in told else legacy
    return Speech(version, version, capabilities, _SPEAK in told, tuple(words[place : place + _VIEW_WORDS]))


def _following(words: Sequence[bytes]) -> dict[bytes, bytes]:
    """The values of those words that have one: word -> the next word."""
    return {word: words[place + 1] for place, word in enumerate(words[:-1]) if word in (_MAX, _CAN, _SPEAK)}


def _capabilities(text: bytes) -> tuple[bytes, ...]:
    return tuple(text.split(b",")[:_WORDS_MAX])


def _number(word: bytes) -> int | None:
    return int(word) if word.isdigit() and len(word) <= _DIGITS_MAX else None


def _range(speech: Speech) -> str:
    return f"version {speech.least}" if speech.least == speech.most else f"versions {speech.least} to {speech.most}"
