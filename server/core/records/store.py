"""What the core needs of a storage engine within a turn."""

from __future__ import annotations

from typing import Protocol


class Store(Protocol):
    """The part of `Engine` (server/storage/engine.py) that the core uses."""

    def get(self, key: bytes) -> bytes | None:
        """Returns the value under a storage key."""

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """Returns the values under storage keys, in their order. One damaged value raises for all."""

    def scan(self, start: bytes, end: bytes | None, limit: int, bytes_max: int) -> list[tuple[bytes, bytes]]:
        """Returns pairs from `start` (included) to `end` (not), in order: up to `limit`, or until `bytes_max` is met."""

    def require(self, mark: str) -> bool:
        """Sees to it that only binaries that know this mark can open the store; False if the disk is too full for that."""
