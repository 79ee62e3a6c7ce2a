"""Commands of a key of any type that read it, and change it if it is there: DEL, EXPIRE, PERSIST.

Theory. They read with a quorum, and decide and write in the same turn. An expiry is part of what a string's record says, so
EXPIRE writes the whole value again. If that is large, it is staged in several turns (draft_writes.py), and EXPIRE begins
anew if somebody else has written meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable

from protocol import resp
from server.core.base.errors import CommandError
from server.core.base.sinks import Sink
from server.core.commands.draft_writes import takes_turns, write_draft, write_in_slices
from server.core.commands.steps import at_coordinator, read_here
from server.core.commands.typed import ATTEMPTS_MAX, OVERTAKEN
from server.core.records import versions
from server.core.records.draft import Draft
from server.core.records.versions import Sibling
from server.core.services.services import Services
from server.core.work.procedures import Steps

Change = Callable[[Services, Sink, int, list[bytes], Sibling, bytes], bytes | Draft | None]
Amend = Callable[[Services, list[bytes], Draft], bytes | None]


def changer(
    absent: Callable[[Sink], bytes],
    change: Change,
    deletes: Callable[[Services, list[bytes]], bool] = lambda node, args: False,
    amend: Amend = lambda services, args, draft: None,
) -> Callable[[Services, Sink, int, list[bytes]], None]:
    """The handler of a command that reads one key and, if it is there, changes it.

    `absent` makes the reply if the key does not exist. `change` gets the newest sibling and its record; it answers the
    reply, or starts a write that will, or returns a draft whose write takes several turns and is answered with 1.
    `deletes` tells whether that write is a deletion. `amend` does the same with what earlier commands of the same atomic
    run have left as a draft (transactions/kept_drafts.py), and returns None if it cannot.
    """

    def steps(services: Services, sink: Sink, number: int, args: list[bytes]) -> Steps:
        table = services.writes.draft_table
        kept = None if table is None else table.draft_for(sink, args)
        if table is not None and kept is not None and (reply := amend(services, args, kept)) is not None:
            table.changed(args, False)
            return reply
        for _ in range(ATTEMPTS_MAX):
            record = yield read_here(services, args[1])
            sibling = versions.visible(record, services.state.time_ms)
            if sibling is None:
                return absent(sink)
            result = change(services, sink, number, args, sibling, record)
            if not isinstance(result, Draft):
                return result
            told = yield from write_in_slices(services, sink, number, args[1], result, resp.integer(1))
            if told is not None:
                return told or None
        raise CommandError(OVERTAKEN)

    return at_coordinator(steps, deletes=deletes)


def write_expiry(services: Services, sink: Sink, number: int, key: bytes, record: bytes, at_ms: int) -> Draft | None:
    """Gives a key that exists an expiry, 0 for none. Returns the draft if its write takes several turns, else writes it."""
    draft = Draft(record, services.state.time_ms)
    draft.expire(at_ms)
    if takes_turns(services, draft):
        return draft
    write_draft(services, sink, number, key, draft, resp.integer(1))
    return None
