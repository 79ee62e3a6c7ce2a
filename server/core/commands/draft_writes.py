"""Writes what a draft (records/draft.py) makes of a key: stores the record, and sends it to the other owners."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Final

from protocol.resp import LargeReply, Reply
from protocol.slots import key_slot
from server.core.base.errors import CommandError
from server.core.base.quorum import Tally
from server.core.base.sinks import Sink
from server.core.commands.arguments import check_sizes
from server.core.commands.slices import in_slices
from server.core.records import versions
from server.core.records.draft import Draft
from server.core.records.records import storage_key_in
from server.core.records.slicing import SLICE_CHANGES, Slices, run_through
from server.core.records.versions import ForeignDot
from server.core.services.services import Services
from server.core.work.procedures import Step

_EDITED: Final = 4  # times `staged_bytes_min`: 8 ms of RocksDB's


def write_draft(
    services: Services, sink: Sink, number: int, key: bytes, draft: Draft, reply: Reply, deletes: bool = False
) -> None:
    """Writes what a draft makes of a key. The sink gets `reply` once W replicas have it; in an atomic run at once, and
    what is written may stay a draft."""
    state, table = services.state, services.writes.draft_table
    if table is not None and table.keep(key, draft, deletes):
        sink.answer(number, reply)
        return
    old = state.records.get(storage_key_in(key_slot(key), key))
    record = run_through(record_of(services, key, draft, deletes))
    write_record(services, sink, number, key, record, old, reply, deletes)


def takes_turns(services: Services, draft: Draft) -> bool:
    """Whether a draft is much work to write: it changes many fields, or a value so large that it has to be staged.

    A value of some megabytes is written in the turn that changes it: clients that set bits of one value share a commit.
    """
    large_bytes = _EDITED * services.state.staged_bytes_min
    return draft.change_count() > SLICE_CHANGES or (
        services.writes.draft_table is None and draft.value_bytes() >= large_bytes
    )


def write_in_slices(
    services: Services,
    sink: Sink,
    number: int,
    key: bytes,
    draft: Draft,
    result: Reply | Slices[Reply],
    deletes: bool = False,
    sealed: Callable[[Reply], Reply] = lambda reply: reply,
) -> Generator[Step, Any, Reply | None]:
    """As `write_draft`, for a change of much work, whose function may not have ended: a slice of it a turn.

    Returns None if something was stored under the key meanwhile, or if this node has stood still, so that another owner may
    have written it (base/pauses.py): then nothing is written, and it must begin anew. Else
    returns the reply if nothing was changed, or b"" if the sink gets it once W replicas have the new record. `sealed` is
    called with the reply right before that is written, and returns what the sink gets.
    """
    state, storage_key = services.state, storage_key_in(key_slot(key), key)
    old = state.records.get(storage_key)
    actor, begun_ms = state.actor, state.now_ms
    work = _worked_out(services, key, draft, result, deletes)
    state.holds.hold(storage_key)
    try:
        reply, record = yield from in_slices(services, work)
        if record is None:
            return reply
        if state.records.get(storage_key) != old or state.actor != actor or state.pauses.is_outdated(begun_ms):
            return None
        write_record(services, sink, number, key, record, old, sealed(reply), deletes)
        return b""
    finally:
        state.holds.release(storage_key)


def _worked_out(
    services: Services, key: bytes, draft: Draft, result: Reply | Slices[Reply], deletes: bool
) -> Slices[tuple[Reply, bytes | None]]:
    """Returns the reply, and the new record if there is one, which is staged if it is large."""
    reply = result if isinstance(result, bytes | LargeReply) else (yield from result)
    record: bytes | None = None
    if draft.changed:
        record = yield from record_of(services, key, draft, deletes)
        records, storage_key = services.state.records, storage_key_in(key_slot(key), key)
        if len(record) >= services.state.staged_bytes_min:
            yield  # what has made the record was a turn's work
            if records.deferred.is_written_whole(records.patches, storage_key, records.get(storage_key), record):
                yield from services.writes.stage([record])
    return reply, record


def record_of(services: Services, key: bytes, draft: Draft, deletes: bool) -> Slices[bytes]:
    """Returns the record of a draft. Raises CommandError if it must not be written."""
    state = services.state
    check_writable(services, key, draft)
    owned = services.route(key, deletes).owned
    try:
        record = yield from draft.record_in_slices(state.actor_for(owned), state.clock.next())
    except ForeignDot:
        state.renew_actor()
        record = yield from draft.record_in_slices(state.actor_for(owned), state.clock.next())
    _check_room(services, draft, record)
    return record


def check_writable(services: Services, key: bytes, draft: Draft) -> None:
    """Raises CommandError if the record of a draft must not be written, whatever size it has."""
    if not draft.is_plain():
        _check_capability(services)
    check_sizes(key, b"", services.state.config)


def write_record(
    services: Services,
    sink: Sink,
    number: int,
    key: bytes,
    record: bytes,
    old: bytes | None,
    reply: Reply,
    deletes: bool,
) -> None:
    """Stores a record in place of `old`, and sends it. The sink gets `reply` once W replicas have it."""
    state = services.state
    group = services.writes.group_for(services.route(key, deletes).plan, sink)
    storage_key = storage_key_in(key_slot(key), key)
    answer = encoded(reply)

    def finish(tally: Tally, sink: Sink) -> bytes:
        return answer

    # Commands that are pipelined on one key run in one turn (chains.py): the other owners need the last record only.
    if old is None or not services.writes.amend(group, storage_key, record, old, finish, sink, number):
        services.writes.add(group, storage_key, record, old, finish, sink, number)
    expiry_class = versions.expiry_class(record)
    if expiry_class != versions.PERSISTENT:
        services.collection.add_candidate(storage_key, versions.last_expiry(record))
    elif versions.clock_entries(record) > state.config.clock_entries_max:
        services.collection.add_candidate(storage_key, 0)


def encoded(reply: Reply) -> bytes:
    """A reply as bytes: what it shows of a record is not kept until the write is acknowledged."""
    return reply if isinstance(reply, bytes) else reply.joined()


def _check_room(services: Services, draft: Draft, record: bytes) -> None:
    """Refuses a write that would make the record longer than `record_bytes_max`. One that makes it shorter is never
    refused."""
    limit = services.state.config.record_bytes_max
    if len(record) > limit and len(record) > len(draft.base or b""):
        raise CommandError(
            f"ERR the key would have {len(record)} bytes with all its fields and record_bytes_max is {limit}: nothing was "
            "written"
        )


def _check_capability(services: Services) -> None:
    """Raises CommandError if some member of the layout has not announced that it reads records of entries."""
    state = services.state
    unable = state.readers.missing(state.layout)
    if unable:
        names = ", ".join(state.layout_name(node) for node in unable)
        raise CommandError(
            "ERR this command needs a version that knows Redis' types on every node, and these nodes have not "
            f"announced one: {names}"
        )
