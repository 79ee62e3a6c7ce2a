"""JSON documents from elsewhere: bounded in size and depth before they are parsed.

The problem. `json.loads` recurses, so a document that is nested deeply enough ends in RecursionError, at a depth that
depends on the caller's stack. A long document holds up the turn.

So the size is compared first. Then the depth is counted without recursion: strings are left out, then pairs of brackets
are removed from the inside out, as many times as a document may be deep. All of this runs in C, in time linear in the
size of the document for a fixed depth.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

DEPTH_MAX: Final = 32
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_NO_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"[]{}")
_AS_SQUARE: Final = bytes.maketrans(b"{}", b"[]")


def parse(document: bytes, bytes_max: int) -> Any:
    """The value of a document. Raises ValueError if it is no JSON, longer than `bytes_max`, or nested too deeply."""
    if len(document) > bytes_max:
        raise ValueError(f"a document of {len(document)} bytes, {bytes_max} are allowed")
    if document.count(b"[") + document.count(b"{") > DEPTH_MAX and _is_deep(document):
        raise ValueError(f"a document that is nested deeper than {DEPTH_MAX}")
    return json.loads(document.decode(), parse_constant=_refuse)


def _is_deep(document: bytes) -> bool:
    """Whether brackets are nested deeper than `DEPTH_MAX`; also true for some documents that are no JSON."""
    outside = _STRING.sub(b"", document) if b"\\" in document else b"".join(document.split(b'"')[::2])
    brackets = outside.translate(_AS_SQUARE, _NO_BRACKETS)
    for _ in range(DEPTH_MAX):
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
