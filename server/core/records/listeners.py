"""Who is told when the records of a node find something wrong: whoever needs to know enters itself here."""

from __future__ import annotations

from collections.abc import Callable


class RecordListeners:
    """Who is told of damaged records, by their storage keys, and of records that could not be merged."""

    def __init__(self) -> None:
        self.damaged: list[Callable[[bytes], None]] = []
        self.unmergeable: list[Callable[[Exception], None]] = []

    def tell_damaged(self, key: bytes) -> None:
        """The record under a storage key was found damaged."""
        for listener in self.damaged:
            listener(key)

    def tell_unmergeable(self, error: Exception) -> None:
        """A record that came could not be merged with the stored one."""
        for listener in self.unmergeable:
            listener(error)
