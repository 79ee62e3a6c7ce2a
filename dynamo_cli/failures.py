"""The errors of `dyn` commands, as exceptions that carry everything the user sees.

An operator needs three things of an error: what happened, to which node, and what to try next. A `Failure` has these
three and the exit status. A command raises it where it notices the error, and one place (`commands`) prints it. Exit
statuses are part of the interface, because scripts depend on them.
"""

from __future__ import annotations

from enum import IntEnum
from json import JSONDecodeError


class ExitStatus(IntEnum):
    """The exit statuses of `dyn`."""

    FINE = 0
    FAILED = 1
    USAGE = 2
    NOT_REACHED = 3
    DEGRADED = 4
    UNAVAILABLE = 5
    NO_REPLICAS = 6


class Failure(Exception):
    """The command failed. `hint` says what to try, usually a command line."""

    status = ExitStatus.FAILED

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class WrongUsage(Failure):
    """The request can never succeed: wrong options, or options that contradict what is stored."""

    status = ExitStatus.USAGE


class NotReached(Failure):
    """The node could not be connected to, or did not answer in time."""

    status = ExitStatus.NOT_REACHED


_NO_REPLICAS = frozenset(("NOQUORUM", "TIMEOUT"))


def status_of(reply: str) -> ExitStatus:
    """The exit status for an error reply: if too few replicas answered, it says that the command may be tried again."""
    return ExitStatus.NO_REPLICAS if reply.partition(" ")[0] in _NO_REPLICAS else ExitStatus.FAILED


class Refused(Failure):
    """The node answered with an error reply, which is shown unchanged. `code` is its first word, e.g. `NOQUORUM`."""

    def __init__(self, node: str, reply: str, hint: str | None = None) -> None:
        super().__init__(f"{node} answered: {reply}", hint)
        self.reply = reply
        self.code = reply.partition(" ")[0]
        self.status = status_of(reply)


def unreadable(error: Exception) -> str:
    """Why a file cannot be read, in words for somebody who does not know Python."""
    if isinstance(error, UnicodeDecodeError):
        return f"it is not UTF-8 text (byte {error.start})"
    if isinstance(error, JSONDecodeError):
        return f"it is not JSON (line {error.lineno}, column {error.colno})"
    if isinstance(error, RecursionError):
        return "it has too many brackets within brackets"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"it lacks {error}" if isinstance(error, KeyError) else str(error)
