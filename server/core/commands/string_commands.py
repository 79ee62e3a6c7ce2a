"""Runs commands on strings that are plain functions of a value: the one place where these meet views and drafts.

Theory. What APPEND or SETBIT does to a value is a pure function of the value and the arguments: `(value before, arguments)
-> (answer, value after)`. It runs as typed.py says, at the key's coordinator, and what was added to the string by INCR is
part of the value before. While nodes disagree about who is alive a key may have two coordinators for a moment; then both
write, and the newer dot is read, as with two SETs.

A command that only reads runs where GET runs.

Commands over several keys of any slots read each by a quorum of its own, at any node (typed_steps.py).
"""

from __future__ import annotations

from collections.abc import Callable

from protocol import resp
from protocol.resp import Value
from server.core.base.errors import CommandError
from server.core.base.sinks import Sink
from server.core.commands.spec import Handler
from server.core.commands.typed import always, reading, updating
from server.core.records.draft import Draft
from server.core.records.kinds import STRING
from server.core.records.views import View
from server.core.services.services import Services

# Makes the answer of a reading command: (value or None, arguments).
Read = Callable[[bytes | None, list[bytes]], Value]
# Makes the answer and the value after: (value before or None, arguments, the most bytes that a value may have). A value
# after of None: nothing is written. It raises CommandError for arguments that are not valid.
Edit = Callable[[bytes | None, list[bytes], int], tuple[Value, bytes | None]]

# Raises CommandError for arguments that are refused whatever the key holds, even if that is no string: (arguments, the
# most bytes that a value may have).
Check = Callable[[list[bytes], int], object]


def _unchecked(args: list[bytes], bytes_max: int) -> None:
    """The check of a command that looks at its arguments once it has the value."""


def check_growth(size_bytes: int, bytes_max: int) -> None:
    """Refuses a value over the limit before it is made; Redis calls the limit proto-max-bulk-len. Raises CommandError."""
    if size_bytes > bytes_max:
        raise CommandError("ERR string exceeds maximum allowed size (proto-max-bulk-len)")


def reading_string(read: Read, check: Check = _unchecked) -> Handler:
    """The handler of a command that reads the string in its first argument."""

    def of_view(view: View, args: list[bytes], sink: Sink) -> bytes:
        return resp.encode(read(view.string(), args), sink.resp3)

    read_key = reading(STRING, of_view, sees_changes=always)

    def handle(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
        check(args, services.state.config.value_bytes_max)
        read_key(services, sink, number, args)

    return handle


def editing(edit: Edit, check: Check = _unchecked) -> Handler:
    """The handler of a command that reads the string in its first argument and writes it again, with the same expiry."""

    def handle(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
        bytes_max = services.state.config.value_bytes_max
        check(args, bytes_max)

        def change(draft: Draft, args: list[bytes], sink: Sink) -> bytes:
            answer, after = edit(draft.string(), args, bytes_max)
            if after is not None:
                check_growth(len(after), bytes_max)
                draft.set_string(after, keeps_expiry=True)
            return resp.encode(answer, sink.resp3)

        updating(STRING, change, amends=True, checks_type_first=True)(services, sink, number, args)

    return handle
