"""The kinds of messages by which nodes share the libraries of functions (scripts/libraries.py).

Theory. LIBRARIES carries a document, or the part of it that has changed; whoever gets it merges it. LIBVIEW carries the
digest of the sender's document, with each gossip, so that a difference is noticed. LIBRARY asks for the text with a SHA1.
LIBKNOWN is answered once the node has merged what the asker has sent before it. All go only to nodes that have the
capability `functions`.
"""

from __future__ import annotations

import re
from typing import Final

from protocol.frames import encode_message
from server.core.messages import shapes
from server.core.messages.asking import Question, read_done, write_done
from server.core.messages.kinds import Kind
from server.core.messages.reader import Reader
from server.core.scripts.engine import FLAGS, ScriptError
from server.core.scripts.libraries import Libraries, entry_of
from server.core.scripts.library import DESCRIPTION_BYTES_MAX, FUNCTIONS_MAX, NAME_BYTES_MAX, is_name, library_name
from server.core.shared.document import DIGEST_DIGITS

LIBRARY_BYTES_MAX: Final = 1 << 20
_BYTES: Final = re.compile("[\0-\u00ff]*")


def _text(bytes_max: int) -> shapes.Shape:
    """The shape of a text whose characters stand for bytes."""

    def check(value: object) -> str:
        is_one = isinstance(value, str) and len(value) <= bytes_max and _BYTES.fullmatch(value) is not None
        return "" if is_one else "it is no byte string"

    return check


def _name(value: object) -> str:
    """The shape of the name of a library or function."""
    is_one = isinstance(value, str) and len(value) <= NAME_BYTES_MAX and value.isascii() and is_name(value.encode())
    return "" if is_one else "it is no name"


_FLAGS = shapes.listed(shapes.one_of(*FLAGS), len(FLAGS))
_DESCRIPTION = shapes.listed(_text(DESCRIPTION_BYTES_MAX), 1)  # none, or one
_FUNCTIONS = shapes.listed(shapes.row(_name, _DESCRIPTION, _FLAGS), FUNCTIONS_MAX)
_ENTRY = shapes.row(shapes.version, shapes.node_id, shapes.nothing_or(_text(LIBRARY_BYTES_MAX)), _FUNCTIONS)
_SHAPE = shapes.fields({"floor": shapes.version, "libraries": shapes.mapped(_name, _ENTRY)})


def libraries_in(data: bytes) -> Libraries:
    """Decodes a document of libraries. Raises ValueError for any other document."""
    fields = shapes.parse(data, _SHAPE, "libraries")
    for name, (_, _, text, functions) in fields["libraries"].items():
        if functions if text is None else _name_in(text) != name:
            raise ValueError(f"libraries: {name} has functions but no text, or another name in its text")
    entries = {name.encode(): entry_of(row) for name, row in fields["libraries"].items()}
    return Libraries(entries, int(fields["floor"], 16))


def _name_in(text: str) -> str:
    try:
        return library_name(text.encode("latin-1")).decode()
    except ScriptError as error:
        raise ValueError(f"libraries: {error.args[0].decode('latin-1')}") from None


def _libraries(items: Reader) -> Libraries:
    return shapes.document_in(items, shapes.DOCUMENT_BYTES_MAX, libraries_in)


LIBRARIES: Final = Kind(b"LIBRARIES", _libraries)
LIBVIEW: Final = Kind(b"LIBVIEW", lambda items: items.data(DIGEST_DIGITS, DIGEST_DIGITS))
_SHA_BYTES: Final = 40
LIBRARY: Final[Question[bytes, bytes]] = Question(
    b"LIBRARY",
    lambda sha: [sha],
    lambda items: items.data(_SHA_BYTES, _SHA_BYTES),
    lambda text: [text],
    lambda items, asked: items.data(LIBRARY_BYTES_MAX),
)
LIBKNOWN: Final[Question[None, bool]] = Question(
    b"LIBKNOWN", lambda _: [], lambda items: None, write_done, read_done, in_order=True
)


def encode_libraries(reading: int, document: bytes) -> bytes:
    """Encodes LIBRARIES: an encoded document of libraries, or a part of it."""
    return encode_message((b"LIBRARIES", reading, 0, document))


def encode_libraries_view(reading: int, digest: bytes) -> bytes:
    """Encodes LIBVIEW: the digest of our document of libraries."""
    return encode_message((b"LIBVIEW", reading, 0, digest))
