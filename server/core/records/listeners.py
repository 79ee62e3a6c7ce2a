"""The functions that `Records` calls when it finds a bad record. Other parts of the node append theirs."""

from __future__ import annotations

from collections.abc import Callable

from protocol.databases import UNSWAPPED
from server.core.records.siblings import DamagedRecord
from server.core.records.storage_keys import PREFIX_BYTES


class RecordListeners:
    """`damaged` are called with a storage key, `unmergeable` with the error of a merge. Messages about keys name their
    databases by `numbering`."""

    def __init__(self) -> None:
        self.damaged: list[Callable[[bytes], None]] = []
        self.numbering = UNSWAPPED
        self.unmergeable: list[Callable[[Exception], None]] = []

    def shown_key(self, key: bytes) -> str:
        """Returns the key of a storage key as messages to operators show it."""
        return self.numbering.shown_key(key[PREFIX_BYTES:])

    def wrong_checksum(self, key: bytes) -> str:
        """The text of an error about the record under a storage key."""
        return f"the stored record of key {self.shown_key(key)} fails its checksum"

    def tell_damaged(self, key: bytes) -> None:
        """Reports that the record under a storage key was found damaged."""
        for listener in self.damaged:
            listener(key)

    def tell_unmergeable(self, key: bytes, error: Exception) -> DamagedRecord:
        """Reports that a received record could not be merged with the stored one, and returns what to raise. Either may be
        bad. The node refuses such a record however often it comes, so it ends no owner of its key; nothing of it was
        stored."""
        if isinstance(error, DamagedRecord):
            return error
        for listener in self.unmergeable:
            listener(error)
        return DamagedRecord(f"the record of key {self.shown_key(key)} cannot be merged: {error!r}", key)
