"""What can go wrong in a `dyn` command, as exceptions that carry all the user gets to see.

Theory. An operator who is woken at night needs three things of an error: what happened, to which node, and what to type
next. A `Failure` is these three and the exit status; commands raise it wherever they notice, and one place (`app`)
prints it. Exit statuses are part of the interface (DESIGN §7), because scripts branch on them.
"""

from __future__ import annotations

from enum import IntEnum


class ExitStatus(IntEnum):
    """What the shell sees in `$?`."""

    FINE = 0
    FAILED = 1
    USAGE = 2
    NOT_REACHED = 3
    DEGRADED = 4


class Failure(Exception):
    """The command cannot do what it was asked for. `hint` is what to try, mostly a command line."""

    status = ExitStatus.FAILED

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class WrongUsage(Failure):
    """The request makes no sense as it stands, and never will: wrong options, or options against what is there."""

    status = ExitStatus.USAGE


class NotReached(Failure):
    """No connection to the node, or no answer from it in time."""

    status = ExitStatus.NOT_REACHED


class Refused(Failure):
    """The node answered with an error reply, which is shown as it came. `code` is its first word, e.g. `NOQUORUM`."""

    def __init__(self, node: str, reply: str, hint: str | None = None) -> None:
        super().__init__(f"{node} answered: {reply}", hint)
        self.reply = reply
        self.code = reply.partition(" ")[0]
