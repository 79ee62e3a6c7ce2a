"""What happens to a command between MULTI and EXEC: it is queued, or it is refused, and EXEC with it (see dispatch.py)."""

from __future__ import annotations

from typing import Final

from protocol import resp
from server.core.base.config import Config
from server.core.base.errors import ErrorReply
from server.core.base.sinks import Session
from server.core.commands.registry import unfit
from server.core.commands.spec import CommandSpec

# Redis runs the first six at once. The others close the connection (connection.py).
_AT_ONCE: Final = frozenset(("exec", "discard", "multi", "watch", "quit", "reset", "post", "host:"))
_QUEUED: Final = resp.simple("QUEUED")
# The first would drop replies of the connection. The second checks its inner command when it runs, without its client.
_NOT_IN_TRANSACTIONS: Final = frozenset(("client|reply", "dyn.trace"))
_ABORTED: Final = b"-EXECABORT Transaction discarded because of: "
_WORD_BYTES: Final = 48  # of memory that each word takes beside its bytes


def is_part(session: Session, spec: CommandSpec | None, fits: bool) -> bool:
    """Whether `queue` answers a command: it waits for EXEC, or its arguments are wrong and that refuses EXEC. `fits`: the
    number of its arguments is right."""
    if session.transaction is None:
        return spec is not None and not fits and spec.name == "exec"
    return not fits or spec is None or spec.name not in _AT_ONCE


def refused(session: Session, spec: CommandSpec | None, reply: bytes) -> bytes:
    """A command was refused with `reply` before it could run: so is the transaction that the session is in. Returns what to
    answer. If it is EXEC that was refused, the transaction is over."""
    if spec is not None and spec.name == "exec":
        session.transaction = session.watched = None
        return ErrorReply(_ABORTED + reply[1:].removeprefix(b"ERR "))
    if session.transaction is not None:
        session.transaction.refuse()
    return reply


def queue(session: Session, spec: CommandSpec | None, args: list[bytes], config: Config) -> bytes:
    """Queues a command of a session between MULTI and EXEC, or refuses it and EXEC. Returns the reply."""
    transaction = session.transaction
    if transaction is None or spec is None or not spec.accepts(len(args)):
        return refused(session, spec, unfit(spec, args))
    if spec.name in _NOT_IN_TRANSACTIONS:
        return refused(session, spec, ErrorReply.of("ERR Command not allowed inside a transaction"))
    if transaction.is_refused:
        return _QUEUED  # as Redis answers; it will never run
    transaction.size_bytes += sum([len(word) + _WORD_BYTES for word in args])
    transaction.commands.append(args)
    if len(transaction.commands) > config.transaction_commands_max:
        transaction.refuse()
        return ErrorReply.of(
            f"ERR the transaction has more than transaction_commands_max={config.transaction_commands_max} commands"
        )
    if transaction.size_bytes > config.transaction_bytes_max:
        transaction.refuse()
        return ErrorReply.of(
            f"ERR the transaction has more than transaction_bytes_max={config.transaction_bytes_max} bytes"
        )
    return _QUEUED
