"""A library of functions, as FUNCTION LOAD takes it: `#!lua name=mylib`, then the code.

Source: https://redis.io/docs/latest/develop/interact/programmability/functions-intro/, and redis 7.0 functions.c.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from protocol.requests import ProtocolError, split_arguments
from server.core.scripts.engine import Function, ScriptError

_MARK: Final = b"#!"
_NAME: Final = re.compile(rb"[A-Za-z0-9_]+\Z")
NAME_BYTES_MAX: Final = 1024  # Redis has no such limits
DESCRIPTION_BYTES_MAX: Final = 16 << 10
FUNCTIONS_MAX: Final = 10_000  # of one library
_MALFORMED: Final = b"ERR Invalid library metadata"
_BAD_NAME: Final = (
    b"ERR Library names can only contain letters, numbers, or underscores(_) and must be at least one character long"
)


class Library(NamedTuple):
    """A library: its whole text, the SHA1 of that, and the functions that the text registers, by name."""

    text: bytes
    sha: bytes
    functions: tuple[Function, ...]


def check_limits(library: Library, name: bytes) -> None:
    """Raises ScriptError if something is larger than all nodes take."""
    names = [name, *[each.name for each in library.functions]]
    if max(map(len, names)) > NAME_BYTES_MAX:
        raise ScriptError(b"ERR a name has %d bytes at most" % NAME_BYTES_MAX)
    if any(len(each.description or b"") > DESCRIPTION_BYTES_MAX for each in library.functions):
        raise ScriptError(b"ERR a description has %d bytes at most" % DESCRIPTION_BYTES_MAX)
    if len(library.functions) > FUNCTIONS_MAX:
        raise ScriptError(b"ERR a library has %d functions at most" % FUNCTIONS_MAX)


def is_name(name: bytes) -> bool:
    """Whether a library or function may have that name."""
    return _NAME.match(name) is not None


def library_name(text: bytes) -> bytes:
    """The name of a library, which its first line says. Raises ScriptError in Redis' words."""
    if not text.startswith(_MARK):
        raise ScriptError(b"ERR Missing library metadata")
    line, newline, _ = text.partition(b"\n")
    if not newline:
        raise ScriptError(_MALFORMED)
    try:
        words = split_arguments(line)
    except ProtocolError:
        raise ScriptError(_MALFORMED) from None
    name = _name_among(words[1:])
    if not is_name(name):
        raise ScriptError(_BAD_NAME)
    if words[0].lower() != _MARK + b"lua":
        raise ScriptError(b"ERR Engine '%b' not found" % words[0].removeprefix(_MARK))
    return name


def _name_among(words: list[bytes]) -> bytes:
    name: bytes | None = None
    for word in words:
        if word[:5].lower() != b"name=":
            raise ScriptError(b"ERR Invalid metadata value given: %b" % word)
        if name is not None:
            raise ScriptError(b"ERR Invalid metadata value, name argument was given multiple times")
        name = word[5:]
    if name is None:
        raise ScriptError(b"ERR Library name was not given")
    return name


def library_body(text: bytes) -> bytes:
    """The text for the interpreter: without the first line, which still counts, so that errors name the right lines."""
    return b"\n" + text.partition(b"\n")[2]
