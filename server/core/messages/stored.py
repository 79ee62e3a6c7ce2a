"""The node's own documents, read back from its disk.

Theory. The engine checks its blocks, so a document that does not decode was damaged before it was written, or by hand. It
is treated as any damage: counted (`damaged_records` of DYN.STATS), never a traceback, and never adopted. Each reader says
what stands for a document that cannot be read; the next write of it replaces it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from server.core.records.records import Records

V = TypeVar("V")


def stored(records: Records, name: bytes, read: Callable[[bytes], V], absent: V, damaged: V) -> V:
    """What `read` makes of a document of this node; `read` raises ValueError for what is none."""
    document = records.document(name)
    if document is None:
        return absent
    try:
        return read(document)
    except ValueError:
        records.damaged += 1
        return damaged
