"""The shell's back pressure by itself: who may send a large value, who waits, and until when."""

from __future__ import annotations

from types import SimpleNamespace

from server.core.base.config import Config
from server.shell.flow import HEAD_TIMEOUT_S, Flow

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
    shell.flow.review()
    assert [client.is_held for client in clients] == [False, False, True, True], "nobody is answered yet"
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
        shell.now_s += 2 * HEAD_TIMEOUT_S
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
    assert not shell.flow.is_in_use
    shell.send(_Connection())
    shell.send(third, SHARE - BULK)
    assert not third.is_held, "whose bytes are gone"


def test_a_request_that_comes_slowly_counts_as_it_grows() -> None:
    shell, slow, other = _Shell(), _Connection(), _Connection()
    for pending in range(BULK, 3 * BULK + 1, BULK):
        slow.unfinished = pending
        shell.flow.incomplete(slow, pending)  # type: ignore[arg-type]
        shell.flow.incomplete(slow, pending)  # type: ignore[arg-type]
        assert shell.flow.held_bytes == pending
    shell.flow.received(other, BULK)  # type: ignore[arg-type]
    assert other.is_held


def test_a_held_client_goes_on_once_it_is_answered_and_others_wait_on() -> None:
    shell, clients = _Shell(), [_Connection() for _ in range(4)]
    for client in clients:
        shell.send(client)
    assert [client.is_held for client in clients] == [False, False, True, True]
    shell.answer(clients[2])
    assert [client.is_held for client in clients] == [False, False, False, True]


def test_what_an_answered_client_has_begun_to_send_counts_if_it_is_much() -> None:
    for left, counted in ((100, 0), (BULK, BULK)):
        for more in (0, 1):
            shell, first, second = _Shell(), _Connection(), _Connection()
            shell.send(first, 2 * BULK)
            first.unfinished = left
            shell.answer(first)
            assert shell.flow.is_in_use == (counted > 0)
            shell.send(_Connection(), 0)  # so that the next one is not the first, who is always read
            shell.send(second, SHARE - counted + more)
            assert second.is_held == (more > 0)


def test_a_first_that_goes_on_sending_keeps_its_place_however_slowly_it_sends() -> None:
    shell, first, second = _Shell(), _Connection(), _Connection()
    for client in (first, second):
        client.unfinished = SHARE
        shell.flow.incomplete(client, SHARE)  # type: ignore[arg-type]
    for _ in range(5):
        shell.now_s += 0.7 * HEAD_TIMEOUT_S
        first.unfinished += 1
        shell.flow.incomplete(first, first.unfinished)  # type: ignore[arg-type]
        shell.flow.review()
        assert second.is_held


def test_the_next_first_has_the_same_patience() -> None:
    shell, (first, second, third) = _Shell(), (_Connection(), _Connection(), _Connection())
    for client in (first, second, third):
        client.unfinished = SHARE
        shell.flow.incomplete(client, SHARE)  # type: ignore[arg-type]
    shell.now_s += 2 * HEAD_TIMEOUT_S
    shell.flow.gone(first)  # type: ignore[arg-type]
    shell.flow.review()
    assert not second.is_held and third.is_held
