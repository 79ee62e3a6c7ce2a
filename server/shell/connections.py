"""A client's connection: bytes in, commands to the node; and how a connection becomes another node's.

Theory (P10). All that is held for a client is bounded, and no bound can deadlock with a client that writes a whole pipeline
before it reads.

    commands in flight         `pipeline_max` plain GETs and SETs; an eighth of it if there are other commands, which cost
                               the node more, or while half as many requests are in flight as it takes (admission.py); and
                               as many as are likely to answer `client_output_bytes_max` in all, judged by the size of the
                               client's last replies
    replies not fetched        past `client_output_bytes_max` no more commands begin. We still read, because the client may
                               still be writing its pipeline
    commands not begun         while the client fetches its replies, we stop reading at `client_input_bytes_max`, and TCP
                               makes it wait
    all clients together       past `client_buffers_bytes_max` the client with the largest buffers is cut (memory.py)
    large values               flow.py

A client that is refused can read why, also if it is still sending (draining.py).

One client does not delay the others: a connection begins `turn_commands_max` commands at a time, and then waits
behind the others that have commands to begin (admission.py). How many clients there may be: clients.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Final, cast

from protocol import resp
from protocol.handshake import AUTH
from protocol.requests import ProtocolError, RequestLimits, RequestReader
from server.core.base.sinks import Flushed
from server.shell.client import Client
from server.shell.clients import Clients
from server.shell.context import LARGE_BYTES, has_large_word
from server.shell.draining import close_readably
from server.shell.entry import NodeEntry
from server.shell.flow import BULK_BYTES
from server.shell.half_closed import serve_rest
from server.shell.handshakes import HELLO, address_of
from server.shell.push_limits import PushLimits
from server.shell.staged_commands import StagedCommands
from server.shell.timing import Timing

log = logging.getLogger("dyn")
REFUSAL = "ERR max number of clients reached"
INTRODUCTION_BYTES_MAX: Final = 64 << 10  # of a command of a connection that may only be a node's, or has to log in
COMMAND_BYTES: Final = 4096  # to read so many bytes takes about as long as a command
PASS_COMMANDS_MAX: Final = 1024  # of one client that begin before others have their turn, if they are small
PASS_BYTES_MAX: Final = 1 << 20  # read for one client in one pass of the loop while they make no complete command
_FIRST_REPLY_BYTES = 64 << 10  # the assumed size of a client's replies before the first


class Connection(Client):
    """One accepted connection: a client's, until its first command says that it is a node's."""

    def __init__(self, clients: Clients, is_tls: bool = False, secret: bytes = b"") -> None:
        """`secret`: the one that both sides of the connection have proven, if it is a node's."""
        config = clients.context.config
        self.secret = secret
        self._clients = clients
        self._is_tls = is_tls
        self._context = clients.context
        self._node = clients.context.node
        self._statistics = clients.context.node.state.statistics
        self._pipeline_max = config.pipeline_max
        self._busy_pipeline_max = config.pipeline_max // 8 + 1
        self._commands_max = config.turn_commands_max
        self._input_bytes_max = config.client_input_bytes_max
        self._output_bytes_max = config.client_output_bytes_max
        self._request_bytes_max = config.request_bytes_max
        self._reader = self._new_reader()
        self._input: deque[bytes] = deque()  # received and not yet fed to the reader
        self._input_bytes = self._counted_bytes = 0
        self._staged: StagedCommands | None = None  # commands that have not begun: their values are being staged
        self._awaits_first_command = True
        self._reply_bytes = _FIRST_REPLY_BYTES
        self._written_bytes = 0  # memory of the replies written since the client had last fetched all of them
        self._blocked = False  # the client does not fetch its replies
        self._has_pending = False  # commands may have been received that have not begun
        self._stalled = False  # we have stopped reading
        self._refused = self._has_begun_large = False
        self._push_limits = PushLimits(config)
        self._timing = Timing(clients.context.services.latencies)

    def _new_reader(self) -> RequestReader:
        config = self._context.config
        return RequestReader(RequestLimits(self._request_bytes_max, config.arguments_max, config.inline_bytes_max))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected. If there are too many, it gets an error."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=self._output_bytes_max)
        address, local = address_of(transport), address_of(transport, "sockname")
        self.session = self._node.open_session(address, local, self._context.now_ms())
        if self._is_tls:
            self._clients.read_certificate(self)
        if self.secret:
            self._context.services.users.admit_node(self.session)
        self._clients.add(self)
        if self._clients.denial(self):  # it may be another node's, and an introduction is short
            self._request_bytes_max = INTRODUCTION_BYTES_MAX
            self._reader = self._new_reader()

    def reject(self) -> None:
        """Sends the error that there are too many clients, and closes the connection."""
        self._node.state.statistics.rejected_connections += 1
        self.refuse(REFUSAL)
        self._refused = False  # it is closed at once: there is no descriptor for it

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has disconnected."""
        self._clients.remove(self)
        self._forget_input()
        self._clients.flow.gone(self)
        self._node.close_session(self.session)

    def eof_received(self) -> bool:
        """The client sends no more."""
        return serve_rest(self._context.loop, self)

    def data_received(self, data: bytes) -> None:
        """HOT. Bytes from the client."""
        is_new = self._awaits_first_command and not (self._is_tls or self._has_pending or self._reader.pending_bytes)
        if is_new and data[0] == HELLO:
            self._clients.begin_tls(self, data, Connection(self._clients, is_tls=True))
            return
        self._statistics.net_input_bytes += len(data)
        if len(data) >= BULK_BYTES:
            self._clients.flow.received(self, len(data))
        admission = self._clients.admission
        admission.unchecked += len(data) // COMMAND_BYTES
        if self._has_pending or not (self._awaits_first_command or admission.may_begin(self._counted_bytes)):
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
        session, fed_bytes, begun = self.session, 0, 0
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
                    if self._counted_bytes >= LARGE_BYTES and self._stage(batch):
                        break
                    self._begin(batch)
                    if len(batch) == self._commands_max or (begun := begun + len(batch)) >= PASS_COMMANDS_MAX:
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
                denial = self._clients.denial(self) if self._awaits_first_command else ""
                self.refuse(denial or f"ERR {error}")
        self._end_pass()

    def _end_pass(self) -> None:
        """HOT. Commands have begun: asks for the end of the turn."""
        self._count_buffered()
        self._pace_reading()
        if self._has_begun_large:
            self._has_begun_large = False
            self._context.end_large_turn()
        else:
            self._context.schedule_turn(len(self.session.slots))

    def _begin(self, batch: list[list[bytes]]) -> None:
        """HOT. Gives the node these commands."""
        self._clients.admission.unchecked += len(batch)
        self._timing.began(batch)
        if self._counted_bytes >= LARGE_BYTES and has_large_word(batch):
            self._has_begun_large = True
        self._node.commands(self.session, batch, self._context.now_ms())

    def _stage(self, batch: list[list[bytes]]) -> bool:
        """Stages the large values of these commands, which begin after that. Returns False if they may begin at once."""
        values = self._node.values_of_commands(batch) if self._context.staging.is_possible else []
        if values:
            self._has_pending = self.is_queued = True  # until then nobody else lets this client begin commands
            self._staged = StagedCommands(self._context, values, lambda: self._begin_staged(batch))
        return bool(values)

    def _begin_staged(self, batch: list[list[bytes]]) -> None:
        self._staged, self.is_queued = None, False
        if not self.session.closing:
            self._begin(batch)
        self.begin_commands()

    def _leave_rest(self) -> None:
        """Leaves the client's other commands to one of the next passes of the loop."""
        self._has_pending = True
        self._clients.admission.add(self)

    def _take_requests(self, count_max: int) -> list[list[bytes]]:
        """HOT. Returns the next complete requests. Raises ProtocolError, also if our parser raises something else."""
        try:
            return self._reader.next_batch(count_max)
        except ProtocolError:
            raise
        except Exception as error:
            state = self._node.state
            word = state.unexpected.note(error, state.records.changes, f"reading a request of {self.session.address}")
            state.statistics.internal_errors += 1
            raise ProtocolError(f"internal error {word} in reading this request") from error

    def _is_clients(self, first: list[bytes]) -> bool:
        """Judges by the first command: is this a client, and is there room for it? If not, handles the connection."""
        self._awaits_first_command = False
        if first[0] == b"DYN.PEER" or (first[0] == AUTH and not self.secret):
            proven = lambda secret: Connection(self._clients, self._is_tls, secret)  # noqa: E731
            NodeEntry(self._clients, proven).enter(self, first)
            return False
        if denial := self._clients.denial(self):
            self._clients.deny(self, denial)
            return False
        if not self._clients.has_room_for(self):
            self.reject()
            return False
        return True

    def _room(self) -> int:
        """HOT. How many commands of this client may begin now."""
        if self._blocked:
            return 0
        likely = self._output_bytes_max // self._reply_bytes + 1
        in_flight = len(self.session.slots) + len(self.session.backlog)
        pipeline_max = self._busy_pipeline_max
        if not in_flight:
            self.session.is_costly = False
        elif in_flight >= pipeline_max and not self.session.is_costly and self._clients.admission.has_plenty():
            pipeline_max = self._pipeline_max
        return min(pipeline_max, likely) - in_flight

    def _pace_reading(self) -> None:
        """HOT. Resumes or stops reading. A client that does not fetch its replies is read, see the theory."""
        if self.is_held or self.session.closing or self._clients.is_stopping:
            self.stop_reading()
        elif not self._has_pending or self._blocked or self._counted_bytes < self._input_bytes_max:
            self._resume()
        else:
            self.stop_reading()

    def _count_buffered(self) -> None:
        """HOT. Counts the bytes of requests not begun, which are bounded for all clients together."""
        held_bytes = self._reader.pending_bytes + self._input_bytes + (self._staged.size_bytes if self._staged else 0)
        grown_bytes = held_bytes - self._counted_bytes
        if not grown_bytes:
            return
        self._counted_bytes = held_bytes  # before the next calls, which may cut this client
        if held_bytes > INTRODUCTION_BYTES_MAX and not self.session.has_logged_in and not self.session.in_flight:
            self.refuse("ERR Protocol error: this is too much from a client that has not logged in")
            return
        if held_bytes >= BULK_BYTES:
            self._clients.flow.incomplete(self, held_bytes)
        self._clients.memory.input_changed(grown_bytes)

    def held_bytes(self) -> int:
        """Returns the memory that this client's waiting requests and replies take."""
        unfetched_bytes = self.transport.get_write_buffer_size()
        if not unfetched_bytes:
            self._written_bytes = 0
        waiting_bytes = self._counted_bytes + self.session.queued_bytes()
        return waiting_bytes + min(unfetched_bytes, self._written_bytes) + self.session.held_bytes

    def cut(self, reason: str) -> None:
        """Closes the connection at once, without its replies; `reason` is logged."""
        log.warning("client %s is cut: %s", self.session.address, reason)
        self._forget_input()
        self.transport.abort()

    def _forget_input(self) -> None:
        self._reader = self._new_reader()
        self._input.clear()
        self._input_bytes = 0
        if self._staged is not None:
            self._staged.cancel()
            self._staged, self.is_queued = None, False
        self._count_buffered()

    def refuse(self, message: str) -> None:
        """Sends the replies that are due, then an error, and closes the connection."""
        self._refused = True
        self._forget_input()
        if not self.session.closing:
            number = self.session.open([])
            self.session.answer(number, resp.error(message))
            self.session.backlog.clear()
            self._node.kill_session(self.session)
            self._context.schedule_turn()
            self.stop_reading()

    def stop_reading(self) -> None:
        """Stops reading; what has been read already is still served."""
        if not self._stalled:
            self._stalled = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        if self._stalled and not self.is_held and not self.session.closing and not self._clients.is_stopping:
            self._stalled = False
            self.transport.resume_reading()

    def hold(self, is_held: bool) -> None:
        """Stops reading from a client that sends large values (`is_held`), or resumes."""
        self.is_held = is_held
        self._pace_reading()

    def is_idle(self) -> bool:
        """Whether the client has the answers to all the commands that have begun."""
        return not self.session.slots and not self.session.backlog

    def unfinished_bytes(self) -> int:
        """Returns the received bytes of requests that have not begun."""
        return self._counted_bytes

    def write(self, data: Flushed) -> None:
        """HOT. Writes replies, in order. They make room in the pipeline, so the client's next commands may begin."""
        session = self.session
        if isinstance(data, bytes):
            size_bytes = len(data)
            self.transport.write(data)
        else:
            size_bytes = sum(map(len, data))
            self.transport.writelines(data)
        self._written_bytes += session.flushed_bytes
        self._statistics.net_output_bytes += size_bytes
        self._timing.answered(session.flushed, self._clients.clock.left_ns, session.address, session.name)
        self._reply_bytes = max(self._reply_bytes // 2, size_bytes // (session.flushed or 1) + 1)
        if self._has_pending and not self._blocked and not self.is_queued and not session.closing:
            self._clients.admission.add(self)

    def push(self, data: bytes) -> None:
        """Writes messages that the client has subscribed to, and cuts it if too many are unread."""
        self.transport.write(data)
        self._written_bytes += len(data)
        self._statistics.net_output_bytes += len(data)
        reason = self._push_limits.excess(self.transport.get_write_buffer_size(), self._context.now_ms())
        if reason:
            self._node.state.statistics.subscribers_cut += 1
            self.cut(reason)

    def end(self) -> None:
        """Closes the connection once its replies are out; at once if the client does not fetch them."""
        if self._blocked:
            self.transport.abort()
        elif self._refused:
            close_readably(self._context.loop, self.transport, self)
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        """More replies wait than `client_output_bytes_max`: no more commands begin.

        We still read: a client may fetch its replies only after it has written its whole pipeline.
        """
        self._blocked = True
        self._pace_reading()

    def resume_writing(self) -> None:
        """The client has fetched its replies."""
        self._blocked = False
        self._written_bytes = 0
        if self._has_pending and not self.is_queued and not self.session.closing and not self.transport.is_closing():
            self._clients.admission.add(self)

    def hand_over(self) -> None:
        """The connection is no client's: something else reads what comes."""
        self._clients.remove(self)
        self._forget_input()
        self._clients.flow.gone(self)
        self._node.close_session(self.session)
