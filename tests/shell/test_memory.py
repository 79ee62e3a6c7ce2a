"""The memory held for all clients: past the limit those are cut for which most is held, and nobody else."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace

import pytest

from server.shell.memory import ClientMemory

LIMIT = 100


class _Client:
    """A client for which some bytes are held."""

    def __init__(self, held: int, host: str = "", active_ms: int = 0) -> None:
        self.held = held
        self.asked = 0
        self._host = host or str(id(self))
        self.session = SimpleNamespace(active_ms=active_ms)
        self.reason = ""

    @property
    def host(self) -> str:
        """As the test has it."""
        self.asked += 1
        return self._host

    def held_bytes(self) -> int:
        """As the test has it."""
        self.asked += 1
        return self.held

    def cut(self, reason: str) -> None:
        """It is."""
        self.reason = reason


@pytest.mark.parametrize(
    ("held", "cut"),
    [
        ([40, 60], [False, False]),
        ([40, 61], [False, True]),
        ([61, 40], [True, False]),
        ([30, 50, 20, 30], [False, True, False, False]),
        ([70, 10, 80, 60], [True, False, True, False]),
    ],
)
def test_those_for_whom_most_is_held_are_cut_until_the_others_fit(held: list[int], cut: list[bool]) -> None:
    clients = [_Client(size) for size in held]
    ClientMemory(LIMIT, lambda: clients).check()  # type: ignore[arg-type, return-value]
    assert [bool(client.reason) for client in clients] == cut
    assert all("client_buffers_bytes_max" in client.reason for client in clients if client.reason)


def test_requests_that_arrive_past_the_limit_are_noticed_at_once() -> None:
    clients = [_Client(LIMIT), _Client(1)]
    memory = ClientMemory(LIMIT, lambda: clients)  # type: ignore[arg-type, return-value]
    memory.input_changed(LIMIT)
    memory.input_changed(-10)
    memory.input_changed(10)
    assert not clients[0].reason, "the requests alone are within the limit, and replies are counted with each tick"
    memory.input_changed(1)
    assert clients[0].reason and not clients[1].reason


def test_the_host_that_holds_most_in_many_connections_is_cut_and_not_a_larger_request_of_another_one() -> None:
    half, victim = [_Client(15, "half") for _ in range(7)], _Client(16, "other")
    ClientMemory(LIMIT, lambda: [*half, victim]).check()  # type: ignore[arg-type, return-value, list-item]
    assert sum(bool(client.reason) for client in half) == 2 and not victim.reason


def test_of_one_host_the_large_request_that_was_left_lying_for_longest_is_cut() -> None:
    half, victim = [_Client(15, "proxy", number) for number in range(6)], _Client(16, "proxy", 100)
    small = _Client(3, "proxy", 0)
    ClientMemory(LIMIT, lambda: [victim, small, *half]).check()  # type: ignore[arg-type, return-value, list-item]
    assert [bool(client.reason) for client in half] == [True] + [False] * 5
    assert not victim.reason and not small.reason, "to cut it would help nobody"


def _first_to_cut(clients: list[_Client]) -> _Client:
    """The rule as the theory says it, for one cut."""
    hosts = {client.host for client in clients}
    most = max(hosts, key=lambda host: sum(client.held for client in clients if client.host == host))
    own = [client for client in clients if client.host == most]
    largest = max(client.held for client in own)
    large = [client for client in own if 2 * client.held >= largest]
    return min(large, key=lambda client: (client.session.active_ms, -client.held))


@pytest.mark.parametrize("seed", range(20))
def test_many_cuts_of_one_check_are_those_of_the_rule(seed: int) -> None:
    """Each cut changes what its host holds, and which of its connections is the largest that is left."""
    random = Random(seed)
    clients = [_Client(random.randrange(1, 1 << 40), f"h{random.randrange(6)}", random.randrange(5)) for _ in range(60)]
    limit = random.randrange(sum(client.held for client in clients))
    left = list(clients)
    while sum(client.held for client in left) > limit:
        left.remove(_first_to_cut(left))
    ClientMemory(limit, lambda: clients).check()  # type: ignore[arg-type, return-value]
    assert [client for client in clients if not client.reason] == left


@pytest.mark.parametrize("hosts", [1, 2000])
def test_a_check_that_cuts_many_asks_each_connection_only_once(hosts: int) -> None:
    """A cut took 41 ms with 10,000 connections, and a check may have thousands to cut."""
    clients = [_Client(1 + number % 7, str(number % hosts)) for number in range(2000)]
    ClientMemory(LIMIT, lambda: clients).check()  # type: ignore[arg-type, return-value]
    assert sum(client.held for client in clients if not client.reason) <= LIMIT
    assert {client.asked for client in clients} == {2}, "how much it holds, and its host"
