"""The shell's back pressure by itself: who may send a large value, who waits, and until when."""

from __future__ import annotations

from types import SimpleNamespace

from server.core.base.config import Config
from server.shell.flow import PATIENCE_S, Flow

SHARE = 1 << 20
BULK = 400 << 10


class _Connection:
    """A client that sends in bulk."""

    is_held = False
    unfinished = 0
    in_flight = False

    def hold(self, is_held: bool) -> None:
        """As the flow says."""
        self.is_held = is_held

    def is_idle(self) -> bool:
        """As the test has it."""
        return not self.in_flight

    def unfinished_bytes(self) -> int:
        """As the test has it."""
        return self.unfinished


class _Shell:
    """What a flow asks of its server."""

    def __init__(self, members: int = 1) -> None:
        config = Config(values_in_flight_bytes_max=SHARE * members)
        state = SimpleNamespace(layout=SimpleNamespace(members=range(members)))
        self.now_s, self.backlog = 0.0, 0
        self.loop = SimpleNamespace(time=lambda: self.now_s)
        self.flow = Flow(self.loop, state, config, self.backlog_bytes)  # type: ignore[arg-type]

    def backlog_bytes(self) -> int:
        """As the test has it."""
        return self.backlog

    def send(self, client: _Connection, size: int = BULK) -> None:
        """The client's command arrives whole, and is in flight."""
        client.in_flight = True
        self.flow.received(client, size)  # type: ignore[arg-type]

    def answer(self, client: _Connection) -> None:
        """It is answered."""
        client.in_flight = False
        self.flow.review()


def test_past_the_share_of_this_node_clients_wait_until_others_are_answered() -> None:
    shell, clients = _Shell(members=3), [_Connection() for _ in range(4)]
    for client in clients:
        shell.send(client)
    assert [client.is_held for client in clients] == [False, False, True, True]
    shell.answer(clients[0])
    shell.answer(clients[1])
    assert not any(client.is_held for client in clients)
    for client in clients[2:]:
        shell.answer(client)
    assert not shell.flow.is_in_use


def test_the_first_goes_on_whatever_is_taken() -> None:
    shell, first, second = _Shell(), _Connection(), _Connection()
    for _ in range(10):
        shell.flow.received(first, BULK)  # type: ignore[arg-type]
    shell.flow.received(second, BULK)  # type: ignore[arg-type]
    assert not first.is_held and second.is_held


def test_a_first_that_sends_nothing_loses_its_place_and_one_in_flight_does_not() -> None:
    for in_flight in (False, True):
        shell, first, second = _Shell(), _Connection(), _Connection()
        first.in_flight, first.unfinished = in_flight, 3 * SHARE
        second.unfinished = BULK
        shell.flow.received(first, 3 * SHARE)  # type: ignore[arg-type]
        shell.flow.received(second, BULK)  # type: ignore[arg-type]
        shell.flow.review()
        shell.now_s += 2 * PATIENCE_S
        shell.flow.review()
        assert second.is_held is in_flight


def test_what_waits_in_links_counts_and_who_has_gone_does_not() -> None:
    shell, first, second, third = _Shell(), _Connection(), _Connection(), _Connection()
    shell.backlog = SHARE
    shell.send(first)
    shell.send(second)
    assert second.is_held
    shell.backlog = 0
    shell.flow.review()
    assert not second.is_held
    shell.flow.gone(first)  # type: ignore[arg-type]
    shell.flow.gone(second)  # type: ignore[arg-type]
    shell.send(third, SHARE - 1)
    assert not third.is_held


def test_a_request_that_comes_slowly_counts_as_it_grows() -> None:
    shell, slow, other = _Shell(), _Connection(), _Connection()
    for pending in range(BULK, 3 * BULK + 1, BULK):
        slow.unfinished = pending
        shell.flow.half_sent(slow, pending)  # type: ignore[arg-type]
        shell.flow.half_sent(slow, pending)  # type: ignore[arg-type]
        assert shell.flow._held_bytes == pending
    shell.flow.received(other, BULK)  # type: ignore[arg-type]
    assert other.is_held
