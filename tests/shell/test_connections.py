"""A client's connection, without a socket: what is begun, what waits, and what a command that fails costs."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from protocol import resp
from protocol.frames import FrameReader, encode_frame
from protocol.requests import RequestReader
from server.core import dispatch
from server.core.base.config import Config
from server.core.node import Node
from server.core.outbox import Outbox
from server.core.services.client_pause import PAUSE_ALL
from server.shell.admission import Admission
from server.shell.certificates import Certificates
from server.shell.clients import Clients
from server.shell.connections import PASS_BYTES_MAX, Connection
from server.shell.context import Context
from server.shell.handshakes import Handshakes
from server.shell.inbound import InboundPeer
from server.shell.introductions import Introductions
from server.shell.peers import Peers
from server.shell.reports import Reports
from server.shell.staging import Staging
from tests.core.commands.talking import finish_turn, make_node, member, reach


class Transport:
    """A socket that takes `room_bytes` of what it is given."""

    def __init__(self, room_bytes: int = 1 << 30) -> None:
        self.room_bytes = room_bytes
        self.written = b""
        self.high = 0
        self.reading = True
        self.aborted = False
        self.closed = False
        self.connection: Connection | None = None
        self.protocol: object = None

    def set_protocol(self, protocol: object) -> None:
        self.protocol = protocol

    def set_write_buffer_limits(self, high: int) -> None:
        self.high = high

    def get_extra_info(self, name: str) -> tuple[str, int]:
        return ("127.0.0.1", 1)

    def get_write_buffer_size(self) -> int:
        return max(0, len(self.written) - self.room_bytes)

    def write(self, data: bytes) -> None:
        self.written += data
        assert self.connection is not None
        if self.get_write_buffer_size() > self.high:
            self.connection.pause_writing()

    def writelines(self, parts: Iterable[bytes | memoryview]) -> None:
        self.write(b"".join(parts))

    def read_all(self) -> None:
        """The client fetches everything."""
        self.room_bytes = 1 << 30
        assert self.connection is not None
        self.connection.resume_writing()

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        self.closed = True


class Queue:
    """An admission that lets everybody begin, and keeps who has more to begin."""

    def __init__(self) -> None:
        self.waiting: list[Connection] = []
        self.unchecked = 0
        self.is_crowded = False

    def may_begin(self, held_bytes: int = 0) -> bool:
        return not self.waiting

    def has_plenty(self) -> bool:
        return not self.is_crowded

    def add(self, connection: Connection) -> None:
        connection.is_queued = True
        self.waiting.append(connection)


class Shell:
    """What a client's connection asks of the shell: a context and one client, whose turns are ended by the test."""

    def __init__(self, transport: Transport, members: int = 1, **settings: Any) -> None:
        self.config = Config(engine="memory", **settings)
        self.node: Node = make_node(members, config=self.config)
        self.services = self.node.services
        self.loop = SimpleNamespace(time=lambda: 0.0, call_soon=lambda *_: None, call_later=lambda *_: None)
        self.staging = Staging()
        self.turns_asked = self.large_turns = 0
        self.is_pass_late = self.just_large = False
        self.marks_large = False  # whether a large turn makes the next ones wait
        context = cast(Context, self)
        handshakes = Handshakes(context, Certificates(self.config))
        self.clients = Clients(context, Peers(context, Reports(self.node)), handshakes)
        self.admission = Queue()
        self.clients.admission = cast(Admission, self.admission)
        self.memory = self.clients.memory
        self.client = transport.connection = Connection(self.clients)
        self.client.connection_made(transport)  # type: ignore[arg-type]

    def now_ms(self) -> int:
        return 0

    def fresh_ms(self) -> int:
        return self.now_ms()

    def schedule_turn(self, in_flight: int = 0) -> None:
        """The test ends it."""
        self.turns_asked += 1

    def is_late(self) -> bool:
        """As the test says."""
        return self.is_pass_late

    def has_just_been_large(self) -> bool:
        """As the last turn or the test says."""
        return self.just_large

    def end_large_turn(self) -> None:
        """Ends the turn: something large is in it."""
        self.large_turns += 1
        self.just_large = self.marks_large
        self.end_turn()

    def end_turn(self) -> None:
        """Ends a turn, and gives those their turn who have more to begin."""
        for _, data in finish_turn(self.node).replies:
            self.client.write(data)
        waiting, self.admission.waiting = self.admission.waiting, []
        for connection in waiting:
            connection.is_queued = False
            connection.begin_commands()


def test_a_connection_begins_a_part_of_a_long_pipeline_in_each_turn() -> None:
    transport = Transport()
    shell = Shell(transport, turn_commands_max=10)
    shell.client.data_received(resp.command("PING") * 35)
    begun = []
    while transport.written.count(b"PONG") < 35:
        before = shell.node.state.statistics.commands
        shell.end_turn()
        begun.append(shell.node.state.statistics.commands - before)
    assert max(begun) == 10 and transport.written == resp.PONG * 35


def test_a_command_that_has_not_come_whole_is_read_in_parts() -> None:
    """What has come of it is walked through over several passes of the loop, as others want their turn, too."""
    transport = Transport()
    shell = Shell(transport)
    shell.client.data_received(resp.command("PING"))
    shell.admission.add(shell.client)
    text = resp.command("EXISTS", *(b"key:%d" % number for number in range(400_000)))[:-1]
    pieces = [text[first : first + (256 << 10)] for first in range(0, len(text), 256 << 10)]
    for piece in pieces:
        shell.client.data_received(piece)
    assert len(shell.admission.waiting) > 0
    passes = 0
    while shell.client._input:
        shell.end_turn()
        passes += 1
    assert passes == pytest.approx(len(text) / PASS_BYTES_MAX, abs=2)
    before = shell.node.state.statistics.commands
    shell.client.data_received(b"\n")
    assert shell.node.state.statistics.commands == before + 1, "the command is whole, and begins"


def test_a_client_that_writes_before_it_reads_is_read_to_the_end() -> None:
    """Nothing more of its commands begins while its replies wait, and all of them are answered once it reads."""
    transport = Transport(room_bytes=1000)
    shell = Shell(transport, client_output_bytes_max=2000, client_input_bytes_max=500)
    command = resp.command("ECHO", b"x" * 100)
    for _ in range(200):
        shell.client.data_received(command)
        shell.end_turn()
        assert transport.reading or not transport.get_write_buffer_size()
    assert transport.reading and len(transport.written) < 20_000
    transport.read_all()
    for _ in range(400):
        shell.end_turn()
    assert transport.written == resp.bulk(b"x" * 100) * 200


def test_a_client_that_reads_is_held_back_by_tcp() -> None:
    transport = Transport()
    shell = Shell(transport, client_input_bytes_max=500, turn_commands_max=1)
    shell.client.data_received(resp.command("ECHO", b"x" * 100) * 10)
    assert not transport.reading
    while shell.admission.waiting:
        shell.end_turn()
    assert transport.reading


def test_a_client_that_waits_for_a_reply_is_not_idle() -> None:
    """CLIENT PAUSE held a client for longer than the limit, and it was closed without its reply."""
    transport = Transport()
    shell = Shell(transport, idle_timeout_ms=1000)
    shell.services.clients.pause.begin(5000, PAUSE_ALL)
    shell.client.data_received(resp.command("SET", "k", "v"))
    shell.end_turn()
    shell.clients.close_idle(4999)
    assert shell.client.session.backlog and not transport.closed
    shell.services.clients.pause.end()
    shell.end_turn()
    shell.clients.close_idle(5999)
    assert transport.written == resp.OK and not transport.closed, "it has its reply, and time to send the next command"
    shell.clients.close_idle(6000)
    assert transport.closed


def test_the_client_for_which_most_is_held_is_cut() -> None:
    transport = Transport(room_bytes=0)
    limits = {"client_buffers_bytes_max": 4000, "request_bytes_max": 2000, "value_bytes_max": 1000}
    shell = Shell(transport, client_output_bytes_max=500, **limits)
    for _ in range(100):
        shell.client.data_received(resp.command("ECHO", b"x" * 100))
        shell.end_turn()
        shell.memory.check()
    assert transport.aborted


def test_a_command_that_fails_by_a_fault_of_ours_is_answered_and_the_connection_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    transport = Transport()
    shell = Shell(transport)
    monkeypatch.setattr(resp, "verbatim", lambda *_: 1 // 0)
    shell.client.data_received(resp.command("PING") + resp.command("INFO") + resp.command("PING"))
    shell.end_turn()
    first, error, last = transport.written.split(b"\r\n")[:3]
    assert (first, last) == (b"+PONG", b"+PONG") and not transport.aborted
    assert error.startswith(b"-ERR internal error ") and b"ZeroDivisionError in info: outcome=unwritten" in error
    assert [type(incident.error) for incident in shell.node.state.unexpected.drain_incidents()] == [ZeroDivisionError]


def test_a_connection_whose_commands_cannot_be_kept_in_order_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    transport = Transport()
    shell = Shell(transport)
    monkeypatch.setattr(dispatch, "may_enter", lambda *_: 1 // 0)
    shell.client.data_received(resp.command("PING") + resp.command("GET", "k") + resp.command("SET", "k", "v"))
    assert shell.client.session.closing and shell.client.session not in shell.node.services.clients.sessions.values()
    outbox = finish_turn(shell.node)
    assert outbox.closing == [shell.client.session]
    assert shell.node.state.statistics.internal_errors == 1 and not shell.node.state.commands_waiting


def test_bytes_that_the_parser_cannot_cope_with_cost_the_connection_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    transport = Transport()
    shell = Shell(transport)
    shell.client.data_received(resp.command("PING"))
    monkeypatch.setattr(RequestReader, "take", lambda *_: [][0])
    shell.client.data_received(resp.command("PING"))
    outbox = finish_turn(shell.node)
    assert [data[:27] for _, data in outbox.replies] == [b"+PONG\r\n-ERR internal error "]
    assert outbox.closing == [shell.client.session] and shell.node.state.statistics.internal_errors == 1
    assert not transport.reading


def test_an_introduction_that_cannot_be_digested_is_refused() -> None:
    transport = Transport()
    shell = Shell(transport)
    introductions = SimpleNamespace(check=lambda args: 1 // 0, report_refusal=lambda *_: None)
    shell.clients.introductions = cast(Introductions, introductions)
    shell.client.data_received(resp.command("DYN.PEER", "1", "c", "n2", "5"))
    (reply,) = [data for _, data in finish_turn(shell.node).replies]
    assert isinstance(reply, bytes) and reply.startswith(b"-ERR internal error ")
    assert shell.node.state.statistics.messages_undigested == 1


def test_an_answer_that_no_request_needs_any_more_ends_no_turn() -> None:
    """With R=2 the first owner that answers makes the quorum with this node; what the other one says changes nothing."""
    transport = Transport()
    shell = Shell(transport, members=3)
    node = shell.node
    for number in (2, 3):
        reach(node, number)
    peers = [peer_of(shell, number) for number in (2, 3)]
    key = next(key for key in map(str, range(100)) if node.services.route(key.encode()).plan.owned)
    shell.client.data_received(resp.command("GET", key))
    number = _number_of(finish_turn(node), b"READ")
    turns = []
    for peer in peers:
        before = shell.turns_asked
        peer.data_received(encode_frame((b"SAME", 0, number)))
        turns.append(shell.turns_asked - before)
    shell.end_turn()
    assert transport.written == b"$-1\r\n" and turns == [1, 0]
    links = node.services.process.peer_links
    assert [(link.direction, link.peer) for link in links.values()] == [("from", peer.peer) for peer in peers]
    peers[0].connection_lost(None)
    assert [link.peer for link in links.values()] == [peers[1].peer]
    assert node.state.statistics.unneeded_answers == 1


def test_late_confirmations_of_many_groups_in_one_message_do_not_hide_an_answer_that_counts() -> None:
    """KEPT confirms groups that are closed by now; the SAME beside it makes a quorum, and its reply must not wait."""
    shell = Shell(Transport(), members=3)
    node = shell.node
    for number in (2, 3):
        reach(node, number)
    peer = peer_of(shell, 2)
    key = next(key for key in map(str, range(100)) if node.services.route(key.encode()).plan.owned)
    shell.client.data_received(resp.command("GET", key))
    number = _number_of(finish_turn(node), b"READ")
    before = shell.turns_asked
    closed = b"".join((10**6 + group).to_bytes(8, "big") for group in range(2))
    peer.data_received(encode_frame((b"SAME", 0, number)) + encode_frame((b"KEPT", 0, 0, closed)))
    assert shell.turns_asked == before + 1


def peer_of(shell: Shell, number: int) -> InboundPeer:
    """A connection over which that member has introduced itself."""
    transport, layout = Transport(), shell.node.state.layout
    assert layout is not None
    connection = transport.connection = Connection(shell.clients)
    connection.connection_made(transport)  # type: ignore[arg-type]
    connection.data_received(
        resp.command("DYN.PEER", "1", layout.cluster, member(number).id, "5", str(layout.epoch), "0")
    )
    assert transport.written.startswith(b"+OK") and isinstance(transport.protocol, InboundPeer)
    assert connection not in shell.clients.connections.values()
    return transport.protocol


def _number_of(outbox: Outbox, kind: bytes) -> int:
    """The number of a message of that kind that the turn has sent."""
    for data in outbox.messages.values():
        reader = FrameReader(1 << 20)
        reader.feed(data)
        while (message := reader.next()) is not None:
            if message[0] == kind:
                return int(message[2])
    raise AssertionError(f"no {kind!r} was sent")
