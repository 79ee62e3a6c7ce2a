"""What commands do with a key at its coordinator: read it with a quorum, and write it."""

from __future__ import annotations

from server.core.base.errors import damaged_here
from server.core.base.sinks import Sink
from server.core.base.state import State
from server.core.records import versions
from server.core.records.records import storage_key_of
from server.core.records.versions import DamagedRecord, ForeignDot
from server.core.requests.writes import Finish
from server.core.services.services import Services
from server.core.work.procedures import Procedure, Step


def read_here(services: Services, key: bytes) -> Step:
    """A step whose result is the key's record, or None: the join of what a quorum holds and what this node holds by then.

    A command that decides and writes in the same turn as it gets this result therefore sees every write that this
    coordinator has taken. A damaged record here is mended first. A command of a chain uses what the chain has read.
    """
    storage_key = storage_key_of(key)
    agreed = services.reads.agreed

    def finish(record: bytes | None, sink: Sink, now_ms: int) -> bytes:
        try:
            return versions.merge(services.state.records.get(storage_key), record) or b""
        except DamagedRecord as error:
            return damaged_here(services.state.member.name, error)

    def start(procedure: Procedure) -> None:
        if storage_key in agreed:
            procedure.resume(versions.merge(services.state.records.get(storage_key), agreed[storage_key]))
            return
        try:
            services.state.records.get(storage_key)
        except DamagedRecord as error:
            refusal = damaged_here(services.state.member.name, error)
            if not services.mending.park(
                error.storage_key, lambda: start(procedure), lambda: procedure.resume(refusal)
            ):
                procedure.resume(refusal)
            return
        services.reads.start(services.route(key).read_plan, storage_key, finish, procedure, 0)

    return start


def supersede_anew(
    state: State, owned: bool, old: bytes | None, value: bytes, expires_at_ms: int = 0, kind: int = versions.VALUE
) -> bytes:
    """The record of a write under a new actor: `old` has dots of our actor that this node never issued."""
    state.renew_actor()
    return versions.supersede(old, state.actor_for(owned), state.clock.next(), value, expires_at_ms, kind)


def write_plain(
    services: Services,
    sink: Sink,
    number: int,
    key: bytes,
    value: bytes,
    expires_at_ms: int = 0,
    kind: int = versions.VALUE,
    finish: Finish = None,
    seen: bytes | None = None,
) -> None:
    """Writes as Redis does: supersedes all that is stored here and all of `seen`. The sink gets the reply at W."""
    state = services.state
    route = services.route(key, kind == versions.TOMBSTONE)
    group = services.writes.group_for(route.plan, sink)
    storage_key = storage_key_of(key)
    old = state.records.get(storage_key)
    base = versions.merge(old, seen)
    try:
        record = versions.supersede(base, state.actor_for(route.owned), state.clock.next(), value, expires_at_ms, kind)
    except ForeignDot:
        record = supersede_anew(state, route.owned, base, value, expires_at_ms, kind)
    services.writes.add(group, storage_key, record, old, finish, sink, number)
    if kind == versions.TOMBSTONE or expires_at_ms:
        services.collection.add_candidate(storage_key, expires_at_ms)
