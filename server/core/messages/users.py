"""The kinds of messages by which nodes share the document of users (users/document.py).

Theory. USERS carries a document, or the part of it that has changed; whoever gets it merges it. USERSVIEW carries the
digest of the sender's document, with each gossip, so that a difference is noticed. Both go only to nodes that have
announced the capability `users`.
"""

from __future__ import annotations

import re
from typing import Final

from protocol.frames import encode_message
from server.core.messages import shapes
from server.core.messages.kinds import Kind
from server.core.messages.reader import Reader
from server.core.shared.document import DIGEST_DIGITS
from server.core.users.document import Document, entry_of
from server.core.users.rules import has_spaces

_BYTES: Final = re.compile("[\0-\u00ff]*")


def _name(value: object) -> str:
    """The shape of a user's name, and of a rule: characters that stand for bytes."""
    fault = shapes.text(value)
    return fault or ("" if isinstance(value, str) and _BYTES.fullmatch(value) is not None else "it is no byte string")


_RULES = shapes.listed(_name)


_ENTRY = shapes.row(shapes.version, shapes.node_id, shapes.version, shapes.nothing_or(_RULES), shapes.listed(_RULES))
_SHAPE = shapes.fields({"floor": shapes.version, "users": shapes.mapped(_name, _ENTRY)})


def document_in(data: bytes) -> Document:
    """Decodes a document of users, and checks all its rules. Raises ValueError for any other document."""
    fields = shapes.parse(data, _SHAPE, "users")
    entries = {name.encode("latin-1"): entry_of(row) for name, row in fields["users"].items()}
    if any(has_spaces(name) for name in entries):
        raise ValueError("users: a name with blanks")
    return Document(entries, int(fields["floor"], 16))


def _users(items: Reader) -> Document:
    return shapes.document_in(items, shapes.DOCUMENT_BYTES_MAX, document_in)


USERS: Final = Kind(b"USERS", _users)
USERSVIEW: Final = Kind(b"USERSVIEW", lambda items: items.data(DIGEST_DIGITS, DIGEST_DIGITS))


def encode_users(reading: int, document: bytes) -> bytes:
    """Encodes USERS: an encoded document of users, or a part of it."""
    return encode_message((b"USERS", reading, 0, document))


def encode_users_view(reading: int, digest: bytes) -> bytes:
    """Encodes USERSVIEW: the digest of our document of users."""
    return encode_message((b"USERSVIEW", reading, 0, digest))
