"""Between two large turns the loop looks at all sockets, however many clients and nodes have a large command or message."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from itertools import pairwise
from typing import Any, cast

from protocol.pieces import PieceQueue
from server.core.messages.kinds import encode_store
from server.core.records import versions
from server.core.records.records import storage_key_of
from server.shell.admission import Admission
from server.shell.client import Client
from server.shell.context import LARGE_BYTES, PUT_OFF_MAX, Context
from tests.core.commands.talking import CONFIG, make_node, reach
from tests.shell.test_connections import Shell, Transport, peer_of
from tests.shell.test_context import Loop


class Passes:
    """A loop whose passes the test makes, and which turns each pass had."""

    def __init__(self) -> None:
        self.loop = Loop()
        loop = cast(asyncio.AbstractEventLoop, self.loop)
        node = make_node()
        self.context = Context(node, CONFIG, loop)
        self.admission = Admission(loop, node.state, CONFIG, self.context.has_just_been_large)
        self.loop.time = time.monotonic  # type: ignore[method-assign]  # no pass is late
        self.turns: list[str] = []

    def run_pass(self) -> list[str]:
        """One pass; returns the turns that it had."""
        self.turns.clear()
        self.loop.run_pass()
        return self.turns[:]


class Waiting:
    """A client that waits to begin one command."""

    def __init__(self, passes: Passes, name: str, held_bytes: int) -> None:
        self._passes, self._name, self._held_bytes = passes, name, held_bytes
        self.is_queued = False
        passes.admission.add(cast(Client, self))

    def unfinished_bytes(self) -> int:
        return self._held_bytes

    def begin_commands(self) -> None:
        self._passes.turns.append(self._name)
        if self._held_bytes >= LARGE_BYTES:
            self._passes.context.end_large_turn()


def test_small_commands_pass_large_ones_which_never_come_in_a_row() -> None:
    passes = Passes()
    for _ in range(4):
        Waiting(passes, "large", 10 * LARGE_BYTES)
    had = []
    for _ in range(12):
        Waiting(passes, "small", 100)
        had.append(passes.run_pass())
    assert all(turns[0] == "small" for turns in had), "nobody waits behind a large turn that has not begun"
    large = [place for place, turns in enumerate(had) if "large" in turns]
    assert len(large) == 4 and all(turns.count("large") <= 1 for turns in had)
    assert all(later - earlier >= 2 for earlier, later in pairwise(large))


def test_a_command_that_has_just_come_waits_if_it_is_large_only() -> None:
    passes = Passes()
    assert passes.admission.may_begin(10 * LARGE_BYTES)
    passes.context.end_large_turn()
    passes.admission.unchecked = 0
    assert not passes.admission.may_begin(10 * LARGE_BYTES) and passes.admission.may_begin(100)
    for _ in range(3):
        passes.run_pass()
    assert passes.admission.may_begin(10 * LARGE_BYTES)
    Waiting(passes, "large", LARGE_BYTES)
    assert not passes.admission.may_begin(LARGE_BYTES) and passes.admission.may_begin(100)


def test_large_turns_of_others_keep_nobody_waiting_for_ever() -> None:
    passes = Passes()
    Waiting(passes, "large", LARGE_BYTES)
    had: list[list[str]] = []
    while len(had) < 2 * PUT_OFF_MAX and ["large"] not in had:
        passes.context.end_large_turn()  # in each pass, as a peer's
        had.append(passes.run_pass())
    assert had == [[]] * PUT_OFF_MAX + [["large"]]


def test_large_messages_of_two_nodes_do_not_come_in_a_row() -> None:
    shell = Shell(Transport(), members=3)
    shell.marks_large = True
    due = deque[Any]()
    shell.loop.call_soon = lambda call, *_: due.append(call)
    value = b"v" * LARGE_BYTES
    for number in (2, 3):
        reach(shell.node, number)
        pieces = PieceQueue()
        for name in (b"one", b"two"):
            record = versions.supersede(None, b"actor--2", 6, value)
            pieces.add(encode_store(0, 1, [storage_key_of(b"%b%d" % (name, number)), record]))
        shell.just_large = True
        peer_of(shell, number).data_received(b"".join(iter(pieces.next, b"")))
    had = []
    for _ in range(8):
        shell.just_large, before = False, shell.large_turns
        for _ in range(len(due)):
            due.popleft()()
        had.append(shell.large_turns - before)
    assert had == [1, 1, 1, 1, 0, 0, 0, 0]
