"""Commands that only nodes may send: steps of commands over several keys (typed_steps.py).

A client that sent one could write records of any content, with dots that nobody issued. To a client they do not exist:
dispatch finds none of them for it (`find_for_client`), alone or between MULTI and EXEC. What is here holds if that should
ever fail.
"""

from __future__ import annotations

from server.core.base.errors import unknown_command
from server.core.base.sinks import Session, Sink
from server.core.commands.spec import Handler
from server.core.services.services import Services


def internal(handler: Handler) -> Handler:
    """Returns the handler of a command that a client's connection gets Redis' error for unknown commands for."""

    def handle(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes | None:
        return unknown_command(args) if isinstance(sink, Session) else handler(services, sink, number, args)

    return handle
