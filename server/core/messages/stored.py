"""Reads the node's own documents back from its disk.

Theory. The engine checks its blocks. So if a document does not decode, it was damaged before it was written, or by
hand. That is treated like any damage: it is counted (`damaged_records` of DYN.STATS), causes no traceback, and the
document is not used. Each caller says what takes the place of a damaged document. The next write replaces it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from server.core.records.records import Records

V = TypeVar("V")


def stored(records: Records, name: bytes, read: Callable[[bytes], V], absent: V, damaged: V) -> V:
    """Returns what `read` makes of a document; `absent` if there is none; `damaged` if `read` raises ValueError."""
    document = records.document(name)
    if document is None:
        return absent
    try:
        return read(document)
    except ValueError:
        records.damaged += 1
        return damaged
