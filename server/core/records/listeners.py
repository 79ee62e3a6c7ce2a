"""The functions that `Records` calls when it finds a bad record. Other parts of the node append theirs."""

from __future__ import annotations

from collections.abc import Callable


class RecordListeners:
    """`damaged` are called with a storage key, `unmergeable` with the error of a merge."""

    def __init__(self) -> None:
        self.damaged: list[Callable[[bytes], None]] = []
        self.unmergeable: list[Callable[[Exception], None]] = []

    def tell_damaged(self, key: bytes) -> None:
        """Reports that the record under a storage key was found damaged."""
        for listener in self.damaged:
            listener(key)

    def tell_unmergeable(self, error: Exception) -> None:
        """Reports that a received record could not be merged with the stored one."""
        for listener in self.unmergeable:
            listener(error)
