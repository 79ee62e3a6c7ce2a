"""How many commands of one connection are in flight, and how much is held for it: exactly what the limits say."""

from __future__ import annotations

import pytest

from protocol import resp
from server.shell.connections import COMMAND_BYTES, PASS_COMMANDS_MAX, Connection
from server.shell.flow import BULK_BYTES
from tests.core.commands.talking import reach
from tests.shell.test_connections import Shell, Transport

KIB = 1 << 10


def _asking_others(**settings: int) -> Shell:
    """A client of a node that has to ask two others for what is stored, and they do not answer."""
    shell = Shell(Transport(), members=3, **settings)
    for number in (2, 3):
        reach(shell.node, number)
    return shell


def _in_flight(shell: Shell) -> int:
    session = shell.client.session
    return len(session.slots) + len(session.backlog)


def test_no_more_commands_are_in_flight_than_a_pipeline_may_have() -> None:
    shell = _asking_others(pipeline_max=8)
    shell.client.data_received(resp.command("GET", "k") * 5)
    assert _in_flight(shell) == 5
    shell.client.data_received(resp.command("GET", "k") * 5)
    assert _in_flight(shell) == 8


def test_an_eighth_of_a_pipeline_is_in_flight_while_the_node_is_busy() -> None:
    shell = _asking_others(pipeline_max=40, client_output_bytes_max=1 << 30)
    shell.admission.is_crowded = True
    shell.client.data_received(resp.command("GET", "k") * 100)
    assert _in_flight(shell) == 6
    shell.admission.is_crowded = False
    shell.client.begin_commands()
    assert _in_flight(shell) == 40


@pytest.mark.parametrize(
    ("line", "in_flight"), [("GET k", 40), ("SET k v", 40), ("SET k v NX", 6), ("STRLEN k", 6), ("GET k,SADD s a", 6)]
)
def test_only_plain_reads_and_writes_fill_a_whole_pipeline(line: str, in_flight: int) -> None:
    """Other commands cost more, so that as many of them would delay other clients."""
    shell = _asking_others(pipeline_max=40, client_output_bytes_max=1 << 30)
    commands = b"".join([resp.command(*words.split()) for words in line.split(",")])
    shell.client.data_received(commands * 100)
    assert _in_flight(shell) == in_flight


def test_a_client_that_was_idle_has_a_whole_pipeline_again() -> None:
    shell = _asking_others(pipeline_max=40, client_output_bytes_max=1 << 30)
    shell.client.session.is_costly = True
    shell.client.data_received(resp.command("GET", "k") * 100)
    assert _in_flight(shell) == 40


def test_one_client_begins_a_bounded_number_of_commands_in_one_pass() -> None:
    """A read of 256 KiB may hold more of them than others should wait for."""
    shell = _asking_others(client_output_bytes_max=1 << 30)
    shell.client.data_received(resp.command("GET", "k" * 60) * 4000)
    assert PASS_COMMANDS_MAX <= _in_flight(shell) < PASS_COMMANDS_MAX + shell.config.turn_commands_max + 1
    assert shell.admission.waiting == [shell.client]


def test_commands_that_wait_for_their_turn_in_the_backlog_are_in_flight() -> None:
    shell = _asking_others(pipeline_max=56)  # other commands than plain ones: 8 of them
    shell.client.data_received(resp.command("GET", "k") + resp.command("DYN.QUORUM") * 3)
    assert len(shell.client.session.backlog) == 3
    shell.client.data_received(resp.command("GET", "k") * 20)
    assert _in_flight(shell) == 8


@pytest.mark.parametrize(
    ("reply_kib", "in_flight"),
    [
        (0, 3),  # before the first reply: 64 KiB each are expected
        (100, 2),
        (40, 4),
        (1, 5),  # half of what was expected before, as one small reply says little
    ],
)
def test_commands_are_in_flight_whose_replies_are_likely_to_fit(reply_kib: int, in_flight: int) -> None:
    shell = _asking_others(client_output_bytes_max=130 * KIB)
    if reply_kib:
        shell.client.data_received(resp.command("ECHO", b"x" * (reply_kib * KIB)))
        shell.end_turn()
    shell.client.data_received(resp.command("GET", "k") * 20)
    assert _in_flight(shell) == in_flight


def test_nothing_is_held_for_a_client_that_has_been_answered() -> None:
    transport = Transport()
    shell = Shell(transport, turn_commands_max=3)
    for _ in range(4):
        shell.client.data_received(resp.command("ECHO", b"x" * 1000) * 4)
    assert shell.client.held_bytes() > 1000
    for _ in range(20):
        shell.end_turn()
    transport.written = b""
    assert shell.client.held_bytes() == 0


def test_replies_that_wait_for_an_earlier_one_are_held() -> None:
    shell = _asking_others()
    shell.client.data_received(resp.command("GET", "k") + resp.command("ECHO", b"x" * 100_000))
    shell.end_turn()
    assert 100_000 < shell.client.held_bytes() < 110_000


def test_unread_replies_are_held_and_a_value_that_they_contain_many_times_counts_once() -> None:
    transport = Transport(room_bytes=0)
    shell = Shell(transport)
    shell.client.data_received(resp.command("SET", "k", b"x" * 100_000))
    shell.end_turn()
    shell.client.data_received(resp.command("MGET", *["k"] * 50))
    shell.end_turn()
    assert len(transport.written) > 50 * 100_000
    assert 100_000 < shell.client.held_bytes() < 200_000


def test_requests_that_never_end_are_counted_as_they_arrive() -> None:
    """Not with the next tick: a burst must not pass the limit. The one of which more has come is cut."""
    transports = [Transport(), Transport()]
    limits = {"client_buffers_bytes_max": 4000, "request_bytes_max": 4000, "value_bytes_max": 1000}
    shell = Shell(transports[0], **limits)
    other = transports[1].connection = Connection(shell.clients)
    other.connection_made(transports[1])  # type: ignore[arg-type]
    begun = b"*2\r\n$4\r\nECHO\r\n$3900\r\n"
    shell.client.data_received(begun + b"x" * 1500)
    other.data_received(begun + b"x" * 2000)
    assert [transport.aborted for transport in transports] == [False, False]
    other.data_received(b"x" * 600)
    assert [transport.aborted for transport in transports] == [False, True]


def test_admission_hears_of_commands_and_of_bytes() -> None:
    """Both take time: ten commands, and 40 KiB of one that is not whole yet, which take as long as ten more."""
    shell = Shell(Transport())
    shell.client.data_received(resp.command("PING") * 10)
    assert shell.admission.unchecked == 10
    shell.client.data_received(b"*2\r\n$4\r\nECHO\r\n$99999\r\n" + b"x" * 10 * COMMAND_BYTES)
    assert shell.admission.unchecked == 20


def test_commands_before_one_that_breaks_the_protocol_are_answered_first() -> None:
    transport = Transport()
    shell = Shell(transport, members=3)
    for number in (2, 3):
        reach(shell.node, number)
    key = next(key for key in map(str, range(100)) if shell.node.services.route(key.encode()).plan.owned)
    shell.client.data_received(resp.command("GET", key) + resp.command("DYN.QUORUM") + b"*1\r\n+PING\r\n")
    shell.end_turn()
    assert transport.written == b"" and shell.client.session.backlog, "the first waits for other owners"


def test_large_requests_are_counted_whole_or_not_until_their_client_has_gone() -> None:
    for pieces in ([resp.command("ECHO", b"x" * BULK_BYTES)], [b"*2\r\n$4\r\nECHO\r\n$99999\r\n", *[b"x" * 9000] * 2]):
        shell = Shell(Transport())
        flow = shell.clients.flow
        for piece in pieces:
            assert not flow.is_in_use
            shell.client.data_received(piece)
        assert flow.is_in_use
        shell.client.connection_lost(None)
        assert not flow.is_in_use


def test_a_client_on_hold_is_not_read_whatever_else_happens() -> None:
    transport = Transport()
    shell = Shell(transport)
    shell.client.hold(True)
    assert not transport.reading
    shell.client.data_received(resp.command("PING"))
    shell.end_turn()
    assert not transport.reading and transport.written == resp.PONG
    shell.client.hold(False)
    assert transport.reading


@pytest.mark.parametrize("reads", [True, False])
def test_the_end_waits_for_a_client_only_while_that_fetches_its_replies(reads: bool) -> None:
    transport = Transport(room_bytes=1 << 30 if reads else 0)
    shell = Shell(transport, client_output_bytes_max=1000)
    shell.client.data_received(resp.command("ECHO", b"x" * 5000))
    shell.end_turn()
    shell.client.end()
    assert (transport.closed, transport.aborted) == (reads, not reads)
