"""The shell's back pressure by itself: who may send a large value, who waits, and until when."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

from server.core.base.config import Config
from server.shell.flow import FIRST_S, SILENCE_S, Flow

SHARE = 1 << 20
BULK = 400 << 10


class _Connection:
    """A client that sends in bulk."""

    is_held = False
    unfinished = 0
    in_flight = False

    def __init__(self, host: str = "a") -> None:
        self.host = host

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

    def begin(self, client: _Connection, size: int = BULK) -> None:
        """A part of the client's command arrives."""
        client.unfinished += size
        self.flow.received(client, size)  # type: ignore[arg-type]

    def turns(self, client: _Connection, is_dripping: Sequence[_Connection] = ()) -> float:
        """For how long the client is held, while nobody else sends more than some bytes."""
        begun_s = self.now_s
        while client.is_held:
            self.now_s += 0.1  # a tick
            for each in is_dripping:
                if not each.is_held:
                    self.begin(each, 1)
            self.flow.review()
        return self.now_s - begun_s

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
        shell.now_s += 2 * SILENCE_S
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
        shell.now_s += 0.7 * SILENCE_S
        first.unfinished += 1
        shell.flow.incomplete(first, first.unfinished)  # type: ignore[arg-type]
        shell.flow.review()
        assert second.is_held


def test_the_next_first_has_the_same_patience() -> None:
    shell, (first, second, third) = _Shell(), (_Connection(), _Connection(), _Connection())
    for client in (first, second, third):
        client.unfinished = SHARE
        shell.flow.incomplete(client, SHARE)  # type: ignore[arg-type]
    shell.now_s += 2 * SILENCE_S
    shell.flow.gone(first)  # type: ignore[arg-type]
    shell.flow.review()
    assert not second.is_held and third.is_held


def test_half_sent_requests_of_one_host_delay_a_client_of_another_one_by_one_turn() -> None:
    shell, half = _Shell(), [_Connection("half") for _ in range(100)]
    for client in half:
        shell.begin(client)
    for number in range(5):
        victim = _Connection(f"other{number}")
        shell.begin(victim)
        assert victim.is_held and shell.turns(victim) < 2 * SILENCE_S
        victim.unfinished = 0
        shell.send(victim, 0)
        shell.answer(victim)


def test_half_sent_requests_of_the_same_host_delay_it_once_for_each() -> None:
    shell, half = _Shell(), [_Connection() for _ in range(20)]
    for client in half:
        shell.begin(client)
    waited_s = []
    for _ in range(3):
        victim = _Connection()
        shell.begin(victim)
        waited_s.append(shell.turns(victim))
        victim.unfinished = 0
        shell.send(victim, 0)
        shell.answer(victim)
    assert waited_s[0] < 20 * 2 * SILENCE_S and max(waited_s[1:]) <= 0.1


def test_requests_that_come_byte_by_byte_are_the_first_for_so_long_only() -> None:
    shell, slow = _Shell(), [_Connection("slow") for _ in range(10)]
    for client in slow:
        shell.begin(client)
    victim = _Connection("other")
    shell.begin(victim)
    assert FIRST_S / 2 < shell.turns(victim, slow) < 2 * FIRST_S
