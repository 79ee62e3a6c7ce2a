"""How many keys are read at once: fewer, the larger they are, so that neither side has to hold very much."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

PAGE_KEYS: Final = 1024  # at most
PAGE_BYTES: Final = 8 << 20  # about
_FIRST_KEYS: Final = 64


class PageSize:
    """The number of keys to read next."""

    def __init__(self) -> None:
        self._keys = _FIRST_KEYS

    def parts(self, keys: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
        """The keys in parts to be read at once. `adapt` is to be called in between."""
        start = 0
        while start < len(keys):
            part = keys[start : start + self._keys]
            start += len(part)
            yield part

    def adapt(self, size_bytes: int) -> None:
        """The last part had so many bytes."""
        if size_bytes > PAGE_BYTES:
            self._keys = max(1, self._keys // 2)
        elif size_bytes < PAGE_BYTES // 4:
            self._keys = min(PAGE_KEYS, 2 * self._keys)
