"""Large values are written in chunks before they are handled: one chunk in each pass, and nothing is left over."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from protocol import resp
from protocol.pieces import PieceQueue
from server.core.messages.kinds import encode_relay, encode_store
from server.core.records import versions
from server.core.records.records import storage_key_of
from server.shell.connections import Connection
from server.shell.staging import PAUSE_S, PAUSES_MAX, ValueStaging
from server.storage.chunked import OWNERS, ChunkedEngine
from server.storage.engine import StorageDamaged, StorageFull
from server.storage.memory import MemoryEngine
from tests.core.commands.talking import reach
from tests.shell.test_connections import Shell, Transport, peer_of

VALUE = b"v" * (1 << 20)
CHUNKS = 4
SET = resp.command("SET", "large", VALUE)
FIRST = len(SET) - 10  # comes first: what makes the rest large is counted then


class Refusing(MemoryEngine):
    """A memory engine that refuses all commits from some number on."""

    left = 1 << 30
    congested = 0  # for so many looks

    def is_congested(self) -> bool:
        self.congested -= 1
        return self.congested >= 0

    def commit(self, writes: dict[bytes, bytes | None]) -> None:
        self.left -= 1
        if self.left < 0:
            raise StorageFull("no space")
        super().commit(writes)


class Due:
    """What the next pass of a loop is to call."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.call = call

    def cancel(self) -> None:
        self.call = lambda: None


class Passes:
    """A client's connection, and a store that takes chunks, in passes of a loop that the test makes."""

    def __init__(self, members: int = 1) -> None:
        self.transport = Transport()
        self.shell = Shell(self.transport, members)
        self.inner = Refusing()
        self.engine = ChunkedEngine(self.inner, chunk_bytes=len(VALUE) // CHUNKS)
        self.shell.staging = ValueStaging(self.engine)
        self.due: list[Due] = []
        self.shell.loop.call_soon = self._call_soon
        self.shell.loop.call_later = lambda delay_s, *call: self._call_soon(*call)

    def _call_soon(self, call: Callable[..., Any], *args: Any) -> Due:
        self.due.append(due := Due(lambda: call(*args)))
        return due

    def run_pass(self) -> None:
        due, self.due = self.due, []
        for each in due:
            each.call()

    def rows(self) -> int:
        """How many rows of chunks there are."""
        return len(self.inner.scan(OWNERS, None, 99))


def test_a_command_begins_when_its_value_is_staged() -> None:
    passes = Passes()
    client = passes.shell.client
    client.data_received(SET[:FIRST])
    client.data_received(SET[FIRST:] + resp.command("PING"))
    commands = passes.shell.node.state.statistics.commands
    for number in range(CHUNKS):
        assert passes.rows() == (number + 1 if number else 0)
        assert passes.shell.node.state.statistics.commands == commands
        assert client.unfinished_bytes() >= len(VALUE), "what is staged counts, and is bounded"
        passes.run_pass()
    assert passes.shell.large_turns == 1 and not client.is_queued
    assert passes.shell.node.state.statistics.commands == commands + 2, "in order: the PING waited"
    passes.shell.end_turn()
    assert passes.transport.written == resp.OK + resp.PONG
    passes.shell.staging.end_turn()  # the turns of this test adopt nothing
    assert passes.rows() == 0 and client.unfinished_bytes() == 0


def test_a_command_that_has_begun_is_held_by_nothing_more() -> None:
    """A cycle of references would keep its value until the next collection of garbage, which may be hours away."""
    passes = Passes()
    client = passes.shell.client
    client.data_received(SET[:FIRST])
    client.data_received(SET[FIRST:])
    staged = weakref.ref(client._staged)
    gc.disable()
    try:
        for _ in range(CHUNKS):
            passes.run_pass()
        assert staged() is None
    finally:
        gc.enable()


def test_clients_whose_values_are_staged_begin_one_after_the_other() -> None:
    """Others are looked at after each large turn; nobody waits for ever."""
    passes = Passes()
    shell = passes.shell
    shell.marks_large = True
    clients = [shell.client]
    for _ in range(2):
        transport = Transport()
        clients.append(client := Connection(shell.clients))
        transport.connection = client
        client.connection_made(transport)  # type: ignore[arg-type]
    for client in clients:
        client.data_received(SET[:FIRST])
        client.data_received(SET[FIRST:])
    begun = []
    for number in range(CHUNKS + 6):
        before = shell.large_turns
        passes.run_pass()
        begun.append(shell.large_turns - before)
        shell.just_large &= number % 2 == 1
    assert sum(begun) == 3 and max(begun) == 1, begun


def test_a_late_pass_writes_no_chunk_once() -> None:
    passes = Passes()
    passes.shell.client.data_received(SET[:FIRST])
    passes.shell.client.data_received(SET[FIRST:])
    passes.shell.is_pass_late = True
    passes.run_pass()
    assert passes.rows() == 0
    passes.run_pass()
    assert passes.rows() == 2


def test_what_comes_meanwhile_waits() -> None:
    passes = Passes()
    client = passes.shell.client
    client.data_received(SET[:FIRST])
    client.data_received(SET[FIRST:])
    client.data_received(resp.command("PING"))
    client.data_received(SET[:FIRST])
    assert not passes.shell.admission.waiting
    for _ in range(CHUNKS):
        passes.run_pass()
    passes.shell.end_turn()
    assert passes.transport.written == resp.OK + resp.PONG
    client.data_received(SET[FIRST:])
    for _ in range(CHUNKS):
        passes.run_pass()
    passes.shell.end_turn()
    assert passes.transport.written == resp.OK + resp.PONG + resp.OK


@pytest.mark.parametrize("end", ["lost", "cut", "refused", "killed"])
@pytest.mark.parametrize("after", range(CHUNKS))
def test_a_connection_that_ends_leaves_no_chunk(end: str, after: int) -> None:
    passes = Passes()
    client = passes.shell.client
    client.data_received(SET[:FIRST])
    client.data_received(SET[FIRST:])
    for _ in range(after):
        passes.run_pass()
    commands = passes.shell.node.state.statistics.commands
    if end == "lost":
        client.connection_lost(None)
    elif end == "cut":
        client.cut("it is the greediest")
    elif end == "refused":
        client.refuse("ERR no")
    else:
        passes.shell.node.kill_session(client.session)
    for _ in range(2 * CHUNKS):
        passes.run_pass()
    passes.shell.staging.end_turn()
    assert passes.rows() == 0
    assert passes.shell.node.state.statistics.commands == commands, "it never began"


@pytest.mark.parametrize("left", range(CHUNKS))
def test_a_store_that_refuses_chunks_gets_the_value_whole(left: int) -> None:
    passes = Passes()
    passes.inner.left = left
    client = passes.shell.client
    client.data_received(SET[:FIRST])
    client.data_received(SET[FIRST:])
    for _ in range(CHUNKS):
        passes.run_pass()
    passes.shell.end_turn()
    assert passes.transport.written == resp.OK
    assert ChunkedEngine(passes.inner).stats()["chunked_values"] == 0


def test_a_damaged_store_that_cannot_be_marked_gets_the_value_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ends the run is the commit, which knows why."""

    def refuse(mark: str) -> bool:
        raise StorageDamaged(f"cannot mark the store: {mark}")

    passes = Passes()
    monkeypatch.setattr(passes.inner, "require", refuse)
    client = passes.shell.client
    client.data_received(SET[:FIRST])
    client.data_received(SET[FIRST:])
    passes.run_pass()
    passes.shell.end_turn()
    assert passes.transport.written == resp.OK
    assert passes.rows() == 0 and client.unfinished_bytes() == 0


def test_a_record_of_a_node_is_staged_and_what_comes_behind_it_waits() -> None:
    passes = Passes(members=3)
    reach(passes.shell.node, 2)
    pieces = PieceQueue()
    for counter, name in enumerate((b"one", b"two")):
        pieces.add(encode_store(0, counter, [storage_key_of(name), versions.supersede(None, b"actor--2", 6, VALUE)]))
    peer = peer_of(passes.shell, 2)
    peer.data_received(b"".join(iter(pieces.next, b"")))
    messages = passes.shell.node.state.statistics.messages
    for _ in range(CHUNKS):  # a chunk of 57 bytes more than four
        passes.run_pass()
    assert passes.shell.node.state.statistics.messages == messages + 1
    passes.shell.staging.end_turn()
    passes.run_pass()
    assert 0 < passes.rows() < CHUNKS
    peer.drop_message()
    assert passes.rows() == 0


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_relay_whose_connection_breaks_is_not_run_later(is_lost: bool) -> None:
    """Its sender gives it to another owner then: it would come late. Records that came behind it are still stored."""
    passes = Passes(members=3)
    node = passes.shell.node
    reach(node, 2)
    key = next(b"%d" % each for each in range(999) if node.services.route(b"%d" % each).coordinator_for(True) is None)
    pieces, record = PieceQueue(), versions.supersede(None, b"actor--2", 6, VALUE)
    pieces.add(encode_relay(0, 1, 0, [b"0", b"0", b"0"], [[b"SET", key, VALUE]]))
    pieces.add(encode_store(0, 1, [storage_key_of(b"record"), record]))
    peer = peer_of(passes.shell, 2)
    peer.data_received(b"".join(iter(pieces.next, b"")))
    passes.run_pass()
    assert passes.rows() > 0
    if is_lost:
        peer.connection_lost(None)
        assert passes.rows() == 0
    for _ in range(3 * CHUNKS):
        passes.run_pass()
    passes.shell.staging.end_turn()
    assert (node.state.records.get(storage_key_of(key)) is None) == is_lost
    assert node.state.records.get(storage_key_of(b"record")) == record
    assert peer.message_bytes == 0 and passes.rows() == 0


def test_a_relay_waits_for_a_congested_store_while_it_is_not_stale() -> None:
    passes = Passes(members=3)
    node = passes.shell.node
    reach(node, 2)
    keys = [b"%d" % each for each in range(999) if node.services.route(b"%d" % each).coordinator_for(True) is None]
    sets = [[b"SET", key, VALUE] for key in keys[:2]]
    pieces = PieceQueue()
    pieces.add(encode_relay(0, 1, 0, [b"0", b"0", b"0"], sets))
    passes.inner.congested = 1 << 30
    peer = peer_of(passes.shell, 2)
    peer.data_received(b"".join(iter(pieces.next, b"")))
    pauses = int(node.state.config.relay_stale_ms / 2 / (1000 * PAUSE_S))
    assert 0 < pauses < PAUSES_MAX
    for _ in range(pauses - 1):
        passes.run_pass()
    assert passes.rows() == 0
    for _ in range(2 * CHUNKS):  # not as many pauses for the second value
        passes.run_pass()
    assert None not in [node.state.records.get(storage_key_of(key)) for key in keys[:2]]


def test_nothing_is_staged_without_an_engine_for_it() -> None:
    passes = Passes()
    passes.shell.staging = ValueStaging()
    passes.shell.client.data_received(SET[:FIRST])
    passes.shell.client.data_received(SET[FIRST:])
    assert passes.shell.large_turns == 1 and passes.rows() == 0


@pytest.mark.parametrize("looks", [3, PAUSES_MAX, 1 << 30])
def test_chunks_wait_for_a_congested_store_and_not_for_ever(looks: int) -> None:
    passes = Passes()
    client = passes.shell.client
    client.data_received(SET[:FIRST])
    client.data_received(SET[FIRST:])
    passes.run_pass()
    assert passes.rows() == 2
    passes.inner.congested = looks
    for _ in range(min(looks, PAUSES_MAX)):
        passes.run_pass()
        assert passes.rows() == 2
    passes.run_pass()
    assert passes.rows() == 3, "the next chunk"
    for _ in range(CHUNKS):
        passes.run_pass()
    passes.shell.end_turn()
    assert passes.transport.written == resp.OK, "it has waited long enough"
    assert passes.shell.staging.pause_s == 0
