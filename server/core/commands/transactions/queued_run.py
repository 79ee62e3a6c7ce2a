"""Runs commands of a transaction in order, as if their client had sent them in a pipeline (`multi_slots = relaxed`).

Theory. The commands are those of a session of its own, so that the lanes of dispatch.py hold: commands of the same key wait
for each other, the others run side by side, and those that have gathered on a key run as a chain. A transaction of a
thousand keys costs as many messages as the same pipeline without MULTI. What commands do to their connection (CLIENT
SETNAME) they do to the client's: `Session.client`.

What the replies keep in memory is bounded by `gathered_bytes_max`, as for a command over several keys. The reply that is
too much, and those that come after it, are an error in the array. Commands that have not begun by then do not run.

Moves. A transaction that removes something and pushes something is mostly a move: Celery puts a task back by HDEL of one
key and RPUSH to another. If the coordinator of the list is lost, nobody knows whether it has pushed. Once the removal is
done, an error would lose the element: so the push is run again by the next owner. The element may be there twice then.

The session has no connection. `flush` gives nothing away, and the last reply completes the whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from protocol.databases import Numbering
from protocol.resp import Reply, ReplyMemory
from server.core.base.errors import ErrorReply
from server.core.base.sinks import Flushed, Session
from server.core.commands.registry import find_command
from server.core.services.services import Services
from server.core.work.procedures import Procedure, Step

Ended = tuple[list[Reply], Numbering]
_PUSHES: Final = (b"LPUSH", b"RPUSH")
_TOO_LARGE: Final = (
    "ERR the replies of the transaction have more than gathered_bytes_max=%d bytes: this one is left out, and "
    "the command may not have run"
)


class QueuedRun(Session):
    """The session of some commands of a client's transaction. `finish` gets their replies, in order, and the
    numbering of databases that they end with."""

    def __init__(
        self,
        client: Session,
        numbering: Numbering,
        ready: list[Session],
        commands: list[list[bytes]],
        finish: Callable[[Ended], None],
        bytes_max: int,
    ) -> None:
        super().__init__(client.id, client.address, client.local_address, client.created_ms, ready, client.statistics)
        self.resp3 = client.resp3
        self.read_quorum, self.write_quorum = client.read_quorum, client.write_quorum
        self.kept_numbering = numbering
        self.database, self.space = client.database, numbering.spaces[client.database]
        self.user, self.user_born = client.user, client.user_born
        self.denies_blocking = True
        self.origin = client.origin
        self._client = client
        self._commands = commands
        self._finish = finish
        self._unanswered = len(commands)
        self._memory, self._bytes_max = ReplyMemory(), bytes_max
        self._left_out = 0  # commands that do not run
        self.backlog.extend(commands)

    def client(self) -> Session:
        """The session of the connection."""
        return self._client

    def answer(self, number: int, reply: Reply) -> None:
        """Puts the reply of command `number` into its slot; the last one completes the whole."""
        if self._memory.held_bytes > self._bytes_max or self._memory.add(reply) > self._bytes_max:
            reply = ErrorReply.of(_TOO_LARGE % self._bytes_max)
            self._leave_out()
        super().answer(number, reply)
        self._unanswered -= 1
        if not self._unanswered:
            replies = [slot for slot in self.slots if not isinstance(slot, list)]
            replies += [ErrorReply.of(_TOO_LARGE % self._bytes_max)] * self._left_out
            assert self.kept_numbering is not None, "a SWAPDB replaces it by another one"
            self._finish((replies, self.kept_numbering))

    def _leave_out(self) -> None:
        """Removes the commands that wait, but for the first one, which may be just about to begin."""
        while len(self.backlog) > 1:
            self.backlog.pop()
            self._left_out += 1
            self._unanswered -= 1

    def repeats(self, args: list[bytes]) -> bool:
        """A push that is part of a move, see above."""
        return args[0].upper() in _PUSHES and any(map(_removes, self._commands))

    def flush(self) -> Flushed:
        """Nothing leaves before all is answered, and then by the client's own session."""
        self.flushed = 0
        return b""


def _removes(args: list[bytes]) -> bool:
    spec = find_command(args)
    accesses = [] if spec is None else [spec.access, *[key.access for key in spec.key_specs]]
    return any("delete" in access for access in accesses)


def run_queued(services: Services, client: Session, numbering: Numbering, commands: list[list[bytes]]) -> Step:
    """A step that runs commands in order, each by its own quorum, beginning with a numbering of databases. Its result is
    the list of their replies, and the numbering that they end with."""

    def start(procedure: Procedure) -> None:
        if commands:
            bytes_max = services.state.config.gathered_bytes_max
            run = QueuedRun(client, numbering, services.state.ready, commands, procedure.resume, bytes_max)
            services.clients.resumable[run] = None
        else:
            procedure.resume(([], numbering))

    return start
