"""What two nodes tell each other of the protocol before the first message: versions, and capabilities.

Theory. Nodes of several versions serve side by side while a cluster is upgraded, so a change of the protocol must not need
a day on which all of them stop. Two ways lead there. A *capability* is a word for something that a node reads beyond its
version's messages: a new kind, a new field, another form. It is announced by each node, and used towards peers that have
announced it. A *version* changes when the old form is to go: each node speaks all versions from MIN to MAX, two nodes speak
the highest that both know, and two without a common one refuse each other with a line that says which of them to upgrade.

Whoever connects introduces itself, and is welcomed, by words behind those that every version has:

    DYN.PEER min cluster id incarnation [epoch revision] [FOR id AT address] [PIECES] MAX max CAN word,word,…
    +OK PIECES SPEAK version CAN word,word,… [VIEW epoch revision checksum]

The version before announces PIECES alone, is welcomed without what it does not know, and tells by a message (ORDERLY) what
is a capability now; it takes `min` for the only version. So min stays what it knows until it is gone. Words that a node
does not know are passed over, so there may be more of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

VERSION_MIN: Final = 1
VERSION_MAX: Final = 1
ORDERLY: Final = b"orderly"  # runs relayed commands of one key in order (chains.py), and takes short digests (reads.py)
PIECES: Final = b"pieces"  # takes large messages in pieces (pieces.py)
VIEW: Final = b"view"  # takes the view of the welcomer's layout in the welcome (membership/views.py)
COMPARES: Final = b"compares"  # answers reads key by key (messages/comparison.py)
CAPABILITIES: Final = (ORDERLY, PIECES, VIEW, COMPARES)
PIECES_WORD: Final = b"PIECES"  # in an introduction, and in the welcome, of the version before
_MAX, _CAN, _SPEAK, _VIEW = b"MAX", b"CAN", b"SPEAK", b"VIEW"
_VIEW_WORDS: Final = 3
_DIGITS_MAX: Final = 5
_WORDS_MAX: Final = 64
_WELCOME_BYTES_MAX: Final = 4096


class Speech(NamedTuple):
    """The versions that a node speaks, and its capabilities; `announces` says that it knows of both. `view` are the words
    of the view of its layout, in a welcome."""

    least: int
    most: int
    capabilities: tuple[bytes, ...]
    announces: bool = True
    view: tuple[bytes, ...] = ()


OURS: Final = Speech(VERSION_MIN, VERSION_MAX, CAPABILITIES)


def announcement(ours: Speech = OURS) -> tuple[bytes, ...]:
    """The words of an introduction that say how this node speaks, behind PIECES where that may stand."""
    return _MAX, b"%d" % ours.most, _CAN, b",".join(ours.capabilities)


def introduced(version: bytes, words: Sequence[bytes]) -> Speech | None:
    """How a node speaks that has introduced itself with this version and these words; None if it does not make sense."""
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
    """Why two nodes cannot speak with each other, and what is to be done; empty if they can. `us` is this node's name."""
    if common_version(theirs, ours) is not None:
        return ""
    older = f"node {us}" if ours.most < theirs.least else "the node that connects"
    return (
        f"ERR node {us} speaks {_range(ours)} of the protocol between nodes, and the node that connects speaks "
        f"{_range(theirs)}: upgrade {older}, if need be by a release in between that speaks both"
    )


def welcome(theirs: Speech, view: Sequence[bytes] = (), ours: Speech = OURS) -> bytes:
    """What a node is answered that is taken for a peer: they have a common version. `view` are the words of our layout's
    view."""
    if not theirs.announces:
        return b"+OK PIECES\r\n" if PIECES in theirs.capabilities else b"+OK\r\n"
    version = common_version(theirs, ours)
    assert version is not None
    told = (_VIEW, *view) if view and VIEW in theirs.capabilities else ()
    words = (b"+OK", PIECES_WORD, _SPEAK, b"%d" % version, _CAN, b",".join(ours.capabilities), *told)
    return b" ".join(words) + b"\r\n"


def welcomed(line: bytes) -> Speech | None:
    """How a node speaks that has answered our introduction; None for another answer. `least` is the common version."""
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
    """What stands behind each of the words that have a value."""
    return {word: words[place + 1] for place, word in enumerate(words[:-1]) if word in (_MAX, _CAN, _SPEAK)}


def _capabilities(text: bytes) -> tuple[bytes, ...]:
    return tuple(text.split(b",")[:_WORDS_MAX])


def _number(word: bytes) -> int | None:
    return int(word) if word.isdigit() and len(word) <= _DIGITS_MAX else None


def _range(speech: Speech) -> str:
    return f"version {speech.least}" if speech.least == speech.most else f"versions {speech.least} to {speech.most}"
