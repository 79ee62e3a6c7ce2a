"""Runs commands of a transaction in order, as if their client had sent them in a pipeline (`multi_slots = relaxed`).

Theory. The commands are those of a session of its own, so that the lanes of dispatch.py hold: commands of the same key wait
for each other, the others run side by side, and those that have gathered on a key run as a chain. A transaction of a
thousand keys costs as many messages as the same pipeline without MULTI. What commands do to their connection (CLIENT
SETNAME) they do to the client's: `Session.client`.

The session has no connection. `flush` gives nothing away, and the last reply completes the whole.
"""

from __future__ import annotations

from collections.abc import Callable

from protocol.resp import Reply
from server.core.base.sinks import Flushed, Session
from server.core.services.services import Services
from server.core.work.procedures import Procedure, Step


class QueuedRun(Session):
    """The session of some commands of a client's transaction. `finish` gets their replies, in order."""

    def __init__(
        self, client: Session, ready: list[Session], commands: list[list[bytes]], finish: Callable[[list[Reply]], None]
    ) -> None:
        super().__init__(client.id, client.address, client.local_address, client.created_ms, ready)
        self.resp3 = client.resp3
        self.read_quorum, self.write_quorum, self.database = client.read_quorum, client.write_quorum, client.database
        self.user, self.user_born = client.user, client.user_born
        self.denies_blocking = True
        self._client = client
        self._finish = finish
        self._unanswered = len(commands)
        self.backlog.extend(commands)

    def client(self) -> Session:
        """The session of the connection."""
        return self._client

    def answer(self, number: int, reply: Reply) -> None:
        """Puts the reply of command `number` into its slot; the last one completes the whole."""
        super().answer(number, reply)
        self._unanswered -= 1
        if not self._unanswered:
            replies = [slot for slot in self.slots if not isinstance(slot, list)]
            self._finish(replies)

    def flush(self) -> Flushed:
        """Nothing leaves before all is answered, and then by the client's own session."""
        self.flushed = 0
        return b""


def run_queued(services: Services, client: Session, commands: list[list[bytes]]) -> Step:
    """A step that runs commands in order, each by its own quorum. Its result is the list of their replies."""

    def start(procedure: Procedure) -> None:
        if commands:
            run = QueuedRun(client, services.state.ready, commands, procedure.resume)
            services.clients.resumable[run] = None
        else:
            procedure.resume([])

    return start
