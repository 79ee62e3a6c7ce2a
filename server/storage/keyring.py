"""The keys by which a store is encrypted: a file, mode 600, with a line for each: its id and 64 hexadecimal digits.

The last line is the key that new values are encrypted with; the others are for values that are not rewritten yet. So a key
is changed by adding a line (`dyn key make`), and a line may go once the log says that no value needs it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from server.storage.engine import StorageError

ID_BYTES = 4
KEY_BYTES = 32
_LINE = re.compile(rf"([0-9a-f]{{{2 * ID_BYTES}}}) ([0-9a-f]{{{2 * KEY_BYTES}}})")


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Keys by their ids, and the id of the one to encrypt with."""

    keys: Mapping[bytes, bytes]
    current: bytes


def read_keys(path: Path) -> KeyRing:
    """The keys of a file. Raises StorageError, which never shows a key."""
    try:
        if path.stat().st_mode & 0o077:
            raise StorageError(f"the key file {path} can be read by others than its owner: chmod 600 {path}")
        lines = [line.strip() for line in path.read_text("ascii", "replace").splitlines()]
    except OSError as error:
        raise StorageError(f"cannot read the key file {path}: {error.strerror}") from error
    keys: dict[bytes, bytes] = {}
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            raise StorageError(
                f"line {number} of the key file {path} is not an id of 8 and a key of 64 hexadecimal digits"
            )
        key_id = bytes.fromhex(found[1])
        if key_id in keys:
            raise StorageError(f"the key file {path} has the id {found[1]} twice")
        keys[key_id] = bytes.fromhex(found[2])
    if not keys:
        raise StorageError(f"the key file {path} has no key: dyn key make --file {path} adds one")
    return KeyRing(keys, next(reversed(keys)))
