"""DYN.GET, DYN.SET, DYN.DEL, DYN.QUORUM: siblings and causal contexts from any Redis client (Dynamo, section 4.4).

Theory. A reader gets all siblings and one context token, which covers them. A writer hands the token back, and the write
supersedes exactly what the token covers. A writer without a token has seen nothing, so its value becomes a sibling of all
that is stored. So no race loses a write: at worst there is one more sibling.
"""

from __future__ import annotations

from protocol import resp
from protocol.bounds import COUNTER_MAX
from protocol.tokens import BadContext, decode_context, encode_context
from server.core.base.errors import SYNTAX, WRONG_TYPE, CommandError
from server.core.base.quorum import Tally
from server.core.base.sinks import Session, Sink
from server.core.commands.arguments import EXPIRIES, check_sizes, expiry_ms, options, quorum
from server.core.commands.shapes import session_of
from server.core.commands.spec import ALONE, READ, WRITE, CommandSpec
from server.core.records import versions
from server.core.records.records import storage_key_of
from server.core.records.versions import Clock, ForeignDot
from server.core.services.services import Services

_RESOLVE = "read them with DYN.GET and write with the CONTEXT that it answers, or SET the key"


def _replicas(services: Services) -> int:
    layout = services.state.layout
    return max(layout.effective_n, layout.serving_n) if layout is not None else 1


def dyn_get(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes | None:
    """DYN.GET key [R n]: [context, [value, …]]; the context is null if nothing was ever stored."""
    found = options(args[2:], (), (b"R",))
    wanted = quorum(found[b"R"], "R", _replicas(services)) if b"R" in found else 0
    key = args[1]

    def finish(record: bytes | None, sink: Sink, now_ms: int) -> bytes:
        if record is None:
            return resp.array([resp.null(sink.resp3), resp.array([])])
        if versions.is_of_other_type(record, now_ms):
            return WRONG_TYPE
        values = [resp.bulk(value) for value in versions.values_of(record, now_ms)]
        return resp.array([resp.bulk(encode_context(key, versions.clock_of(record))), resp.array(values)])

    storage_key, quorum_records = storage_key_of(key), services.reads.quorum_records
    if storage_key in quorum_records:  # on a snapshot: a quorum was read before
        stored = services.state.records.get(storage_key)
        return finish(versions.merge(stored, quorum_records[storage_key]), sink, services.state.time_ms)
    route = services.route(key)
    reader = route.reader_for(sink.relayed)
    if reader is not None:
        services.relays.forward(sink, number, args, reader)
    else:
        services.reads.start(route.read_plan, storage_key, finish, sink, number, wanted)
    return None


def _context(services: Services, key: bytes, token: bytes) -> Clock:
    try:
        context = decode_context(key, token)
    except BadContext as error:
        raise CommandError(f"BADCONTEXT {error}") from error
    clock = services.state.clock
    for actor, counter in context:
        if counter > COUNTER_MAX or (
            counter > clock.last and actor in (services.state.actor, services.state.guest_actor)
        ):
            raise CommandError("BADCONTEXT the token speaks of writes that were never made")
        # Our clock passes what the writer has seen, so that the write that follows gets the greater counter. Dots from far
        # in the future, made by a clock that was wrong, are superseded all the same, and no clock follows them.
        clock.follow(counter)
    return context


def _dyn_write(
    services: Services, sink: Sink, number: int, args: list[bytes], value: bytes, kind: int, rest: int
) -> None:
    key = args[1]
    found = options(args[rest:], (), (b"CONTEXT", b"W", *(EXPIRIES if kind == versions.VALUE else ())))
    if sum(unit in found for unit in EXPIRIES) > 1:
        raise CommandError(SYNTAX)
    check_sizes(key, value, services.state.config)
    wanted = quorum(found[b"W"], "W", _replicas(services)) if b"W" in found else 0
    if wanted and isinstance(sink, Session):
        sink.client().note_write_quorum(wanted)
    context = _context(services, key, found[b"CONTEXT"]) if b"CONTEXT" in found else ()
    expires_at_ms = 0
    for unit in EXPIRIES:
        if unit in found:
            expires_at_ms = expiry_ms(unit, found[unit], services.state.time_ms, args[0].decode().lower())
    coordinator = services.route(key, kind == versions.TOMBSTONE).coordinator_for(sink.relayed)
    if coordinator is not None:
        services.relays.forward(sink, number, args, coordinator)
        return
    _write_beside(services, sink, number, key, versions.Sibling(b"", 0, expires_at_ms, kind, value), context, wanted)


def _write_beside(
    services: Services, sink: Sink, number: int, key: bytes, sibling: versions.Sibling, context: Clock, wanted: int
) -> None:
    state = services.state
    plan = services.route(key, sibling.kind == versions.TOMBSTONE).plan
    group = services.writes.group_for(plan, sink, wanted)
    storage_key = storage_key_of(key)
    old = state.records.get(storage_key)
    _, _, expires_at_ms, kind, value = sibling
    actor, counter = state.actor_for(plan.owned), state.clock.next()
    try:
        record = versions.write(old, actor, counter, value, expires_at_ms, kind, context)
    except ForeignDot:
        state.renew_actor()
        actor = state.actor_for(plan.owned)
        record = versions.write(old, actor, counter, value, expires_at_ms, kind, context)
    _check_room(services, old, record, kind)
    seen = versions.context_after(record, context, actor, counter)
    token = resp.bulk(encode_context(key, seen))

    def finish(tally: Tally, sink: Sink) -> bytes:
        return resp.array([token, resp.integer(len(tally.acked)), resp.integer(tally.hinted)])

    services.writes.add(group, storage_key, record, old, finish, sink, number)
    if kind == versions.TOMBSTONE or expires_at_ms or versions.clock_entries(record) > state.config.clock_entries_max:
        services.collection.add_candidate(storage_key, expires_at_ms)


def _check_room(services: Services, old: bytes | None, record: bytes, kind: int) -> None:
    """Refuses a write that would leave more siblings, or more bytes of siblings, than one key may have. A write that leaves
    fewer bytes than before, or deletes, is never refused."""
    config = services.state.config
    count = versions.sibling_count(record)
    if count > config.siblings_max:
        raise CommandError(
            f"TOOMANYSIBLINGS the key would have {count} siblings and siblings_max is {config.siblings_max}: {_RESOLVE}"
        )
    size = len(record)
    if size > config.record_bytes_max and kind == versions.VALUE and size > len(old or b""):
        raise CommandError(
            f"TOOMANYSIBLINGS the {count} siblings of the key would have {size} bytes and record_bytes_max is "
            f"{config.record_bytes_max}: {_RESOLVE}"
        )


def dyn_set(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """DYN.SET key value [CONTEXT token] [W n] [EX s|PX ms|EXAT s|PXAT ms]: [context, acks, hinted]."""
    _dyn_write(services, sink, number, args, args[2], versions.VALUE, 3)


def dyn_del(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """DYN.DEL key [CONTEXT token] [W n]: [context, acks, hinted]. Deletes exactly what the context covers."""
    _dyn_write(services, sink, number, args, b"", versions.TOMBSTONE, 2)


def dyn_quorum(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """DYN.QUORUM [R n] [W n]: sets this connection's quorums; always answers [n, r, w]."""
    replicas = _replicas(services)
    found = options(args[1:], (), (b"R", b"W"))
    read = quorum(found[b"R"], "R", replicas) if b"R" in found else sink.read_quorum
    write = quorum(found[b"W"], "W", replicas) if b"W" in found else sink.write_quorum
    state, session = services.state, session_of(sink)
    session.note_write_quorum(session.write_quorum or state.write_quorum)
    session.read_quorum, session.write_quorum = read, write
    return resp.array([resp.integer(n) for n in (replicas, read or state.read_quorum, write or state.write_quorum)])


COMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec(
        "dyn.get",
        -2,
        READ,
        dyn_get,
        "Returns all siblings of a key and their causal context.",
        "dyn",
        "readonly data",
        (1, 1, 1),
        arguments="key [R n]",
    ),
    CommandSpec(
        "dyn.set",
        -3,
        WRITE,
        dyn_set,
        "Writes a value over exactly what a causal context covers.",
        "dyn",
        "write denyoom data",
        (1, 1, 1),
        arguments="key value [CONTEXT token] [W n] [EX s|PX ms|EXAT s|PXAT ms]",
    ),
    CommandSpec(
        "dyn.del",
        -2,
        WRITE,
        dyn_del,
        "Deletes exactly what a causal context covers.",
        "dyn",
        "write data",
        (1, 1, 1),
        arguments="key [CONTEXT token] [W n]",
    ),
    CommandSpec(
        "dyn.quorum",
        -1,
        ALONE,
        dyn_quorum,
        "Sets the connection's R and W; answers [n, r, w].",
        "dyn",
        "loading stale fast data",
        arguments="[R n] [W n]",
    ),
)
