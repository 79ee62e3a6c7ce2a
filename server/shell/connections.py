"""A client's connection: bytes in, commands to the node; and how a connection becomes another node's.

Theory (P10). All that is held for a client is bounded, and no bound can deadlock with a client that writes a whole pipeline
before it reads.

    commands in flight         `pipeline_max`, and as many as are likely to answer `client_output_bytes_max` in all, judged
                               by the size of the client's last replies
    replies not fetched        past `client_output_bytes_max` no more commands begin; we read on, as the client may still be
                               writing
    commands not begun         while the client fetches its replies we stop reading at `client_input_bytes_max`, and TCP
                               makes it wait
    all clients together       `client_buffers_bytes_max`: past that the client for which most is held is cut (memory.py)
    large values               flow.py

A client that is refused can read why, also if it is still sending (draining.py).

One client does not delay the others: a connection begins `turn_commands_max` commands at a time, and then waits
behind the others that have commands to begin (admission.py).

How many clients there may be: clients.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import cast

from protocol import resp
from protocol.peer_versions import introduced
from protocol.requests import ProtocolError, RequestLimits, RequestReader
from server.core.base.sinks import Flushed
from server.shell.client import Client
from server.shell.clients import Clients
from server.shell.draining import close_readably
from server.shell.flow import BULK_BYTES
from server.shell.inbound import InboundPeer

log = logging.getLogger("dyn")
REFUSAL = "ERR max number of clients reached"
BYTES_AS_LONG_AS_A_COMMAND = 4096  # reading so many takes about as long
PASS_BYTES_MAX = 1 << 20  # read for one client in one pass of the loop, though they make no whole command yet
_FIRST_REPLY_BYTES = 64 << 10  # the assumed size of a client's replies before the first


def _address(transport: asyncio.BaseTransport, name: str) -> str:
    host, port = (transport.get_extra_info(name) or ("?", 0))[:2]
    return f"{host}:{port}"


class Connection(Client):
    """One accepted connection: a client's, until its first command says that it is a node's."""

    def __init__(self, clients: Clients) -> None:
        config = clients.context.config
        self._clients = clients
        self._context = clients.context
        self._node = clients.context.node
        self._pipeline_max = config.pipeline_max
        self._commands_max = config.turn_commands_max
        self._input_bytes_max = config.client_input_bytes_max
        self._output_bytes_max = config.client_output_bytes_max
        self._reader = self._new_reader()
        self._input: deque[bytes] = deque()  # received behind what the reader holds
        self._input_bytes = 0
        self._counted_bytes = 0
        self._awaits_first_command = True
        self._reply_bytes = _FIRST_REPLY_BYTES
        self._written_bytes = 0  # what the replies cost that were written since the client had fetched all
        self._blocked = False  # the client does not fetch its replies
        self._has_pending = False  # commands may have been received that have not begun
        self._stalled = False  # we have stopped reading
        self._refused = False

    def _new_reader(self) -> RequestReader:
        config = self._context.config
        return RequestReader(RequestLimits(config.request_bytes_max, config.arguments_max, config.inline_bytes_max))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected. If there are too many, it gets an error."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=self._output_bytes_max)
        address, local = (_address(transport, name) for name in ("peername", "sockname"))
        self.session = self._node.open_session(address, local, self._context.now_ms())
        self._clients.add(self)

    def turn_away(self) -> None:
        """Tells the client that there are too many, and ends the connection."""
        self._node.state.statistics.rejected_connections += 1
        self._refuse(REFUSAL)
        self._refused = False  # it is closed at once: there is no descriptor for it

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has disconnected."""
        self._clients.remove(self)
        self._forget_input()
        self._clients.flow.gone(self)
        self._node.close_session(self.session)

    def data_received(self, data: bytes) -> None:
        """HOT. Bytes from the client."""
        if len(data) >= BULK_BYTES:
            self._clients.flow.received(self, len(data))
        admission = self._clients.admission
        admission.unchecked += len(data) // BYTES_AS_LONG_AS_A_COMMAND
        if self._has_pending or not (self._awaits_first_command or admission.may_begin()):
            self._input.append(data)
            self._input_bytes += len(data)
            self._has_pending = True
            if not self.is_queued and not self._blocked:
                admission.add(self)
            self._count_buffered()
            self._pace_reading()
        else:
            self._reader.feed(data)
            self.begin_commands()

    def begin_commands(self) -> None:
        """HOT. Gives the node the client's next commands, as many as the limits allow and one turn may have."""
        session, fed_bytes = self.session, 0
        self._has_pending = False
        try:
            while not session.closing:
                count_max = self._room()
                if count_max <= 0:
                    self._has_pending = True
                    break
                batch = self._take_requests(min(count_max, self._commands_max))
                if batch:
                    if self._awaits_first_command and not self._is_clients(batch[0]):
                        return
                    self._clients.admission.unchecked += len(batch)
                    self._node.commands(session, batch, self._context.now_ms())
                    if len(batch) == self._commands_max:
                        self._leave_rest()
                        break
                    if not (self._input or self._reader.pending_bytes):
                        break  # the usual case: all commands that have come have begun
                elif fed_bytes >= PASS_BYTES_MAX and self._input:
                    self._leave_rest()
                    break
                elif self._input:
                    data = self._input.popleft()
                    fed_bytes += len(data)
                    self._input_bytes -= len(data)
                    self._reader.feed(data)
                else:
                    break
        except ProtocolError as error:
            if session.backlog:
                self._has_pending = True  # the commands before it come first: `begin_commands` meets the error again
            else:
                self._refuse(f"ERR {error}")
        self._count_buffered()
        self._pace_reading()
        self._context.schedule_turn()

    def _leave_rest(self) -> None:
        """What else has come begins in one of the next passes of the loop."""
        self._has_pending = True
        self._clients.admission.add(self)

    def _take_requests(self, count_max: int) -> list[list[bytes]]:
        """HOT. The next requests that have come. Raises ProtocolError, also if the parser fails by a fault of ours."""
        try:
            return self._reader.take(count_max)
        except ProtocolError:
            raise
        except Exception as error:
            state = self._node.state
            word = state.unexpected.note(error, state.records.changes, f"reading a request of {self.session.address}")
            state.statistics.internal_errors += 1
            raise ProtocolError(f"internal error {word} in reading this request") from error

    def _is_clients(self, first: list[bytes]) -> bool:
        """By the first command: whether this is a client, and there is room for it."""
        self._awaits_first_command = False
        if first[0] == b"DYN.PEER":
            self._become_peer(first)
            return False
        if not self._clients.has_room_for(self):
            self.turn_away()
            return False
        return True

    def _room(self) -> int:
        """HOT. How many commands of this client may begin now."""
        if self._blocked:
            return 0
        likely = self._output_bytes_max // self._reply_bytes + 1
        return min(self._pipeline_max, likely) - len(self.session.slots) - len(self.session.backlog)

    def _pace_reading(self) -> None:
        """HOT. Reads on, or lets TCP hold the client back; a client that does not fetch its replies is always read, see the
        theory."""
        if self.is_held or self.session.closing or self._clients.is_stopping:
            self.stall()
        elif not self._has_pending or self._blocked or self._counted_bytes < self._input_bytes_max:
            self._resume()
        else:
            self.stall()

    def _count_buffered(self) -> None:
        """HOT. Counts the bytes of requests not begun, which are bounded for all clients together."""
        held_bytes = self._reader.pending_bytes + self._input_bytes
        grown_bytes = held_bytes - self._counted_bytes
        if not grown_bytes:
            return
        self._counted_bytes = held_bytes  # before the next calls, which may cut this client
        if held_bytes >= BULK_BYTES:
            self._clients.flow.half_sent(self, held_bytes)
        self._clients.memory.input_changed(grown_bytes)

    def held_bytes(self) -> int:
        """The memory that this client's requests and replies take, as far as it is worth counting."""
        unread_bytes = self.transport.get_write_buffer_size()
        if not unread_bytes:
            self._written_bytes = 0
        return self._counted_bytes + min(unread_bytes, self._written_bytes) + self.session.held_bytes

    def cut(self, reason: str) -> None:
        """Ends the connection at once."""
        log.warning("client %s is cut: %s", self.session.address, reason)
        self._forget_input()
        self.transport.abort()

    def _forget_input(self) -> None:
        self._reader = self._new_reader()
        self._input.clear()
        self._input_bytes = 0
        self._count_buffered()

    def _refuse(self, message: str) -> None:
        """Ends the connection with an error, after the replies that are due."""
        self._refused = True
        self._forget_input()
        if not self.session.closing:
            number = self.session.open([])
            self.session.answer(number, resp.error(message))
            self.session.backlog.clear()
            self._node.kill_session(self.session)
            self._context.schedule_turn()
            self.stall()

    def stall(self) -> None:
        """Stops reading; what has been read already is still served."""
        if not self._stalled:
            self._stalled = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        if self._stalled and not self.is_held and not self.session.closing and not self._clients.is_stopping:
            self._stalled = False
            self.transport.resume_reading()

    def hold(self, is_held: bool) -> None:
        """Reads no more from a client that sends in bulk, or goes on."""
        self.is_held = is_held
        self._pace_reading()

    def is_idle(self) -> bool:
        """Whether the client has the answers to all the commands that have begun."""
        return not self.session.slots and not self.session.backlog

    def unfinished_bytes(self) -> int:
        """What has come of requests that have not begun."""
        return self._counted_bytes

    def write(self, data: Flushed) -> None:
        """HOT. Replies, in order. With room again in the pipeline, its next commands may begin."""
        session = self.session
        if isinstance(data, bytes):
            size_bytes = len(data)
            self.transport.write(data)
        else:
            size_bytes = sum(map(len, data))
            self.transport.writelines(data)
        self._written_bytes += session.flushed_bytes
        self._reply_bytes = max(self._reply_bytes // 2, size_bytes // (session.flushed or 1) + 1)
        if self._has_pending and not self._blocked and not self.is_queued and not session.closing:
            self._clients.admission.add(self)

    def end(self) -> None:
        """Closes the connection once its replies are out; at once if the client does not fetch them."""
        if self._blocked:
            self.transport.abort()
        elif self._refused:
            close_readably(self._context.loop, self.transport, self)
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        """More replies wait than the client may leave unread. It may read only after it has written all, so we go on
        reading."""
        self._blocked = True
        self._pace_reading()

    def resume_writing(self) -> None:
        """The client has fetched its replies."""
        self._blocked = False
        self._written_bytes = 0
        if self._has_pending and not self.is_queued and not self.session.closing and not self.transport.is_closing():
            self._clients.admission.add(self)

    # Another node's connection

    def _become_peer(self, args: list[bytes]) -> None:
        """DYN.PEER, an introduction (protocol/peer_versions.py): from then on an `InboundPeer` reads what comes."""
        context, clients, introductions = self._context, self._clients, self._clients.introductions
        error = self._check_introduction(args)
        if error:
            introductions.report_refusal(args[3:4], self.session.address, error)
            self._refuse(error)
            return
        clients.remove(self)
        self._forget_input()
        clients.flow.gone(self)
        self._node.close_session(self.session)
        inbound = introductions.peers.inbound
        session, peer, process = self.session, args[3].decode(), args[4]
        connection = InboundPeer(context, inbound, self.transport, session.id, session.address, peer, process)
        inbound.add(connection)
        self.transport.set_protocol(connection)
        theirs = introduced(args[1], args[5:])
        assert theirs is not None, "the introduction was checked"
        self.transport.write(introductions.welcome(theirs))
        self._node.greeted(peer, context.now_ms(), theirs.capabilities if theirs.announces else ())
        introductions.peers.arrived(peer, process)
        context.schedule_turn()

    def _check_introduction(self, args: list[bytes]) -> str:
        """Why a node is refused; empty if it is welcome. An introduction that raises here is refused, too."""
        state = self._node.state
        changes = state.records.changes
        try:
            return self._clients.introductions.check(args)
        except Exception as error:  # noqa: BLE001
            state.statistics.messages_undigested += 1
            return f"ERR internal error {state.unexpected.note(error, changes, 'an introduction')}"
