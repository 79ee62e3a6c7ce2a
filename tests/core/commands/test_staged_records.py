"""A command that makes a large record stages it in its last slices, so that no commit is large (shell/staging.py)."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from server.core.formats.pausing import Slices
from tests.core.commands.talking import finish_turn
from tests.core.commands.test_turns import COMMANDS, Turns

LARGE_BYTES = 100_000
PAUSES = 3


class StagingTurns(Turns):
    """Turns of a node whose store takes chunks. A value counts as staged in the turn in which its staging ends."""

    def __init__(self) -> None:
        super().__init__()
        self.node.state.staged_bytes_min = LARGE_BYTES
        self.node.services.writes.stage = self._stage
        self.ready: list[bytes] = []
        self.unstaged: list[int] = []  # the sizes of the large values that were committed without
        self.staged = 0

    def _stage(self, values: Sequence[bytes]) -> Slices[None]:
        for value in values:
            for _ in range(PAUSES):
                yield
            self.ready.append(value)

    def _replies(self) -> list[bytes]:
        outbox = finish_turn(self.node)
        for value in outbox.writes.values():
            if value is not None and len(value) >= LARGE_BYTES:
                found = any(value.endswith(each) for each in self.ready)
                self.staged += found
                self.unstaged += [] if found else [len(value)]
        self.ready.clear()
        return [
            bytes(part)
            for session, data in outbox.replies
            if session is self.client.session
            for part in ([data] if isinstance(data, bytes) else data)
        ]


STRING = [b"SET", b"b", b"x" * 4 * LARGE_BYTES]
LARGE = {
    name: COMMANDS[name]
    for name in (
        "SADD", "SPOP", "COPY", "RENAME", "SUNIONSTORE", "HSET", "HMSET", "HEXPIRE", "ZADD", "ZUNIONSTORE", "ZRANGESTORE",
        "GEOADD", "GEOSEARCHSTORE", "RPUSH", "LPUSH more", "SORT STORE", "COPY of a list", "RESTORE of a set",
        "RESTORE of a hash", "RESTORE of a sorted set", "RESTORE of a list",
    )
} | {
    "COPY of a string": ([STRING], [b"COPY", b"b", b"c"]),
    "RENAME of a string": ([STRING], [b"RENAME", b"b", b"c"]),
    "APPEND": ([STRING], [b"APPEND", b"b", b"y"]),
    "SETRANGE": ([STRING], [b"SETRANGE", b"b", b"7", b"y"]),
    "SETRANGE of a new string": ([], [b"SETRANGE", b"b", b"%d" % (5 * LARGE_BYTES), b"y"]),
    "SETBIT": ([STRING], [b"SETBIT", b"b", b"7", b"1"]),
    "BITFIELD": ([STRING], [b"BITFIELD", b"b", b"SET", b"u8", b"9", b"5"]),
    "BITOP": ([STRING], [b"BITOP", b"NOT", b"c", b"b"]),
    "EXPIRE": ([STRING], [b"EXPIRE", b"b", b"99"]),
    "PERSIST": ([[*STRING, b"EX", b"99"]], [b"PERSIST", b"b"]),
    "GETEX": ([STRING], [b"GETEX", b"b", b"EX", b"99"]),
}  # fmt: skip


@pytest.mark.parametrize("name", LARGE)
def test_a_large_record_is_staged_before_it_is_written(name: str) -> None:
    turns = StagingTurns()
    before, command = LARGE[name]
    for each in before:
        turns.ask(*each)
    turns.unstaged, turns.staged = [], 0
    reply = turns.ask(*command)
    assert not isinstance(reply, Exception), reply
    assert turns.unstaged == []
    assert turns.staged == 1
    assert len(turns.calls) > PAUSES
