"""What a blocking command asks for: of which keys, what, and until when."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from server.core.formats.pausing import Slices

MOVE: Final = b"LMOVE"  # the operation of an attempt that moves an element; the key that it moves to follows


class BlockingCall:
    """What a blocking command asks for.

    `keys`, in order, each once; `operation`: the words of an attempt, behind those that name key and client, and
    `by_key`: further ones; `deletes`: it only removes, so it also runs where there is room for nothing else. `reply` makes
    the client's reply of the key and what was popped, in slices if that may be much; `nothing` is the reply when the time
    is over, at `deadline_ms` (0: never).
    """

    __slots__ = ("by_key", "deadline_ms", "deletes", "keys", "nothing", "operation", "reply")

    def __init__(
        self,
        keys: Sequence[bytes],
        operation: Sequence[bytes],
        deletes: bool,
        reply: Callable[[bytes, list[bytes]], bytes | Slices[bytes]],
        nothing: bytes,
        deadline_ms: int,
        by_key: Mapping[bytes, Sequence[bytes]] = MappingProxyType({}),
    ) -> None:
        self.by_key = by_key
        self.keys = list(dict.fromkeys(keys))
        self.operation = operation
        self.deletes = deletes
        self.reply = reply
        self.nothing = nothing
        self.deadline_ms = deadline_ms

    def renamed(self, rename: Callable[[bytes], bytes]) -> BlockingCall:
        """Returns the call with other inner keys, by a function of the present ones."""
        operation = list(self.operation)
        if operation[0] == MOVE:
            operation[1] = rename(operation[1])
        by_key = {rename(key): words for key, words in self.by_key.items()}
        keys = [rename(key) for key in self.keys]
        return BlockingCall(keys, operation, self.deletes, self.reply, self.nothing, self.deadline_ms, by_key)
