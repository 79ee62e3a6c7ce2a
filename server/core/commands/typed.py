"""How commands of types are written: a function that reads a view, or changes a draft, of one key.

Theory. `reading` routes like GET: any owner answers, with a quorum. `updating` runs at the key's coordinator, reads with a
quorum first, and writes in the same turn as it decides. So of two such commands at the same coordinator the later one
sees what the earlier one wrote. If the key has another type, the answer is WRONGTYPE, unless the arguments are wrong: like
Redis, which reads the arguments before it looks up the key. To find that out the function is called with an empty key.

The function of `updating` raises CommandError for errors before it has changed the draft. If it has changed nothing, its
reply is answered and nothing is written. Else the reply is answered when W replicas have the new record.

A function may be a generator that pauses after each slice of long work (records/slicing.py): then its reply comes some
turns later. What it reads is the record of its first turn, which nobody changes. One that changes its key, or changes
very many fields of it, holds the key meanwhile (base/holds.py). If something was stored under the key all the same, it
begins anew; after some attempts it is refused, and nothing is written.

Not done: to read only here while this node has coordinated the partition without a break since it was last compared whole.
It would save two of the six messages and a third of the CPU of an INCR (410 instead of 620 us, all three nodes in one
uncompiled process). But a node cannot know alone that there was no break. A peer whose link to it fails for a moment sends
a write to the next owner, who acknowledges it together with the third one. This node hears of it only with the hint, and
would answer a second INCR with the same number. That needs a lease from every member, as a stable coordinator of
conditional commands will have one.

New kinds of entries are written only once every member of the layout has announced that it reads them
(protocol/peer_versions.py): an older node would take such a record for damaged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from protocol import resp
from protocol.resp import LargeReply, Reply
from server.core.base.errors import WRONGTYPE, CommandError
from server.core.base.sinks import Sink
from server.core.base.state import State
from server.core.commands.draft_writes import takes_turns, write_draft, write_in_slices
from server.core.commands.shared_drafts import SharedDraft, shared_draft
from server.core.commands.slices import in_slices, next_turn
from server.core.commands.spec import Handler
from server.core.commands.steps import at_coordinator, read_here
from server.core.commands.strings import reader
from server.core.records.draft import Draft
from server.core.records.kinds import NONE, type_name
from server.core.records.slicing import Slices, run_through
from server.core.records.views import View
from server.core.requests.draft_table import DraftTable
from server.core.services.services import Services
from server.core.work.procedures import Steps

ANY = NONE  # a command of all types
ATTEMPTS_MAX: Final = 3  # of a change that takes several turns
Read = Callable[[View, list[bytes], Sink], Reply | Slices[Reply]]
Change = Callable[[Draft, list[bytes], Sink], Reply | Slices[Reply]]
OVERTAKEN: Final = (
    f"BUSY the key was written by other clients while this command ran, {ATTEMPTS_MAX} times: nothing was written. Try it "
    "again, with fewer elements at once"
)


def with_state(
    kind: Callable[[int, Callable[[Any, list[bytes], Sink], Reply | Slices[Reply]]], Handler],
    key_type: int,
    function: Callable[[Any, list[bytes], Sink, State], Reply | Slices[Reply]],
    check: Callable[[list[bytes]], object] = lambda args: None,
) -> Handler:
    """Returns the handler of a command whose function also needs the node's state: chance, the config, or kept orders.

    `kind` is `reading` or `updating`. `check` is called first, as theirs is.
    """

    def handle(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes | None:
        check(args)
        state = services.state
        return kind(key_type, lambda view, args, sink: function(view, args, sink, state))(services, sink, number, args)

    return handle


def is_other_type(view: View, key_type: int) -> bool:
    """Whether the key exists and has another type; `key_type` may be ANY."""
    return view.key_type not in (NONE, key_type) and key_type != ANY


def check_type(view: View, key_type: int) -> None:
    """Raises WRONGTYPE if the key exists and has another type; `key_type` may be ANY."""
    if is_other_type(view, key_type):
        raise CommandError(WRONGTYPE)


def reading(
    key_type: int,
    function: Read,
    place: int = 1,
    check: Callable[[list[bytes]], object] = lambda args: None,
    sees_changes: Callable[[list[bytes]], bool] = lambda args: False,
) -> Handler:
    """Returns the handler of a command that reads the key at `place` among its arguments. `check` raises CommandError for
    arguments that are wrong whatever the key holds. `sees_changes` says of its arguments whether it can read a draft that
    earlier commands of the same atomic run have changed (transactions/kept_drafts.py), and asks it for little."""

    def handle(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
        check(args)

        def finish(record: bytes | None, sink: Sink, now_ms: int) -> Reply | None:
            return of_view(View(record, now_ms), sink, now_ms)

        def of_view(view: View, sink: Sink, now_ms: int) -> Reply | None:
            try:
                if is_other_type(view, key_type):
                    reply_now(function(View(None, now_ms), args, sink))
                    raise CommandError(WRONGTYPE)
                result = function(view, args, sink)
                if isinstance(result, bytes | LargeReply):
                    return result
                next(result)
            except StopIteration as stop:
                reply: Reply = stop.value
                return reply
            except CommandError as error:
                return error.reply
            services.run_steps(_rest(services, result), sink, number)
            return None

        reader(finish, place, of_view if sees_changes(args) else None)(services, sink, number, args)

    return handle


def always(args: list[bytes]) -> bool:
    """Whatever the arguments are."""
    return True


def reply_now(result: Reply | Slices[Reply]) -> Reply:
    """The reply of a function that may have slices, all of which are done at once."""
    return result if isinstance(result, bytes | LargeReply) else run_through(result)


def begun(result: Reply | Slices[Reply]) -> Reply | Slices[Reply]:
    """The result of a function after its first slice: the reply, if there is no other."""
    if isinstance(result, bytes | LargeReply):
        return result
    try:
        next(result)
    except StopIteration as stop:
        reply: Reply = stop.value
        return reply
    return _after_pause(result)


def _after_pause(slices: Slices[Reply]) -> Slices[Reply]:
    yield
    return (yield from slices)


def _rest(services: Services, slices: Slices[Reply]) -> Steps:
    """What follows the first slice of a command that reads."""
    yield next_turn(services)
    return (yield from in_slices(services, slices))


def type_reply(record: bytes | None, sink: Sink, now_ms: int) -> bytes:
    """The type of a key, in Redis' words."""
    return type_of_view(View(record, now_ms), sink, now_ms)


def type_of_view(view: View, sink: Sink, now_ms: int) -> bytes:
    """The same of a view."""
    return resp.simple(type_name(view.key_type))


def updating(
    key_type: int,
    function: Change,
    check: Callable[[list[bytes]], object] = lambda args: None,
    deletes: bool = False,
    checks_type_first: bool = False,
    waits: bool = True,
    shares: Callable[[list[bytes]], bool] = lambda args: False,
    amends: bool = False,
) -> Handler:
    """Returns the handler of a command that changes the key in its first argument.

    `check` raises CommandError for arguments that are wrong whatever the key holds. `deletes`: the command only removes,
    so it also runs where there is room for nothing else. `checks_type_first`: WRONGTYPE comes before other errors. Without
    `waits` it does not wait for a command that holds the key (base/holds.py), and does all its work at once: it is small.
    `shares` says of its arguments whether it may share a draft with others of the turn (shared_drafts.py): it changes few
    fields, and uses nothing of a draft that needs one without changes, as chunks or kept orders do. So it changes what
    earlier commands of a transaction or a script have left as a draft, too (transactions/kept_drafts.py); `amends` says
    that it does only this.
    """

    update = _Update(key_type, function, deletes, checks_type_first, waits, shares, amends)
    return at_coordinator(update.steps, check, lambda services, args: deletes)


class _Update:
    """A command that changes one key; see `updating`."""

    def __init__(
        self,
        key_type: int,
        function: Change,
        deletes: bool,
        checks_type_first: bool,
        waits: bool,
        shares: Callable[[list[bytes]], bool],
        amends: bool,
    ) -> None:
        self._key_type = key_type
        self._function = function
        self._deletes = deletes
        self._checks_type_first = checks_type_first
        self._waits = waits
        self._shares = shares
        self._amends = amends

    def steps(self, services: Services, sink: Sink, number: int, args: list[bytes]) -> Steps:
        """Runs the command."""
        table = services.writes.draft_table
        if table is None and services.state.noted is None and self._shares(args):
            record = yield read_here(services, args[1], shares=True)
            shared = shared_draft(services, sink, args, self._key_type, record)
            return self._change_shared(shared, sink, number, args)
        if table is not None and (self._shares(args) or self._amends):
            kept = table.draft_for(sink, args)
            if kept is not None:
                return self._change_kept(table, kept, sink, args)
        for _ in range(ATTEMPTS_MAX):
            record = yield read_here(services, args[1], self._waits)
            draft = Draft(record, services.state.time_ms, self._key_type)
            self._check_type(draft, args, sink)
            result = self._function(draft, args, sink)
            result = begun(result) if self._waits else reply_now(result)
            if isinstance(result, bytes | LargeReply) and not (self._waits and takes_turns(services, draft)):
                if draft.changed:
                    write_draft(services, sink, number, args[1], draft, result, self._deletes)
                return None if draft.changed else result
            told = yield from write_in_slices(services, sink, number, args[1], draft, result, self._deletes)
            if told is not None:
                return told or None
        raise CommandError(OVERTAKEN)

    def _change_shared(self, shared: SharedDraft, sink: Sink, number: int, args: list[bytes]) -> Reply | None:
        """Changes a draft that other commands may have changed, and will."""
        draft = shared.draft
        try:
            self._check_type(draft, args, sink)
            reply = reply_now(self._function(draft, args, sink))
        except CommandError:
            raise
        except Exception as error:
            shared.abandon(error)
            raise
        if not draft.changed:
            return reply
        shared.add(sink, number, reply, args, self._deletes)
        return None

    def _change_kept(self, table: DraftTable, draft: Draft, sink: Sink, args: list[bytes]) -> Reply:
        """Changes a draft that earlier commands of the same atomic run have changed."""
        try:
            self._check_type(draft, args, sink)
            reply = reply_now(self._function(draft, args, sink))
        except CommandError:
            raise
        except Exception:
            table.fail()
            raise
        table.changed(args, self._deletes)
        return reply

    def _check_type(self, draft: Draft, args: list[bytes], sink: Sink) -> None:
        if is_other_type(draft, self._key_type):
            if not self._checks_type_first:
                reply_now(self._function(Draft(None, draft.now_ms, self._key_type), args, sink))
            raise CommandError(WRONGTYPE)
