"""DYN.SIBLINGS: lists the keys that concurrent writes have left a conflict under, shows one, and decides it.

Theory. records/conflicts.py says what a conflict is. LIST goes over the key space as SCAN does, with the same cursor and
the same bounded pages (pages.py): owners send skeletons, no values. A range that no read quorum answers for is no error:
its partitions are named in the document, and the list goes on behind it. A page ends behind such a range, because its
owners may have taken their time.

RESOLVE runs at the key's coordinator like any command that reads and then writes. With CONTEXT, the token that SHOW gave,
it is refused if anything was written to the key since: so an operator decides only about what he has seen.
"""

from __future__ import annotations

import base64
from collections.abc import Generator
from typing import Any

from protocol import resp
from protocol.databases import client_key
from protocol.slots import key_slot
from protocol.tokens import BadContext, decode_context, encode_context
from server.core.base.errors import SYNTAX, CommandError
from server.core.base.quorum import Tally
from server.core.base.sinks import Sink
from server.core.commands.arguments import cursor, integer, options
from server.core.commands.containers import container
from server.core.commands.glob import Glob, glob_of
from server.core.commands.keyspace import matching
from server.core.commands.operator import layout_of
from server.core.commands.pages import END, HASH_BITS, Range, UnreadRange, read_heads
from server.core.commands.spec import ALONE, EXCLUSIVE, READ, CommandSpec
from server.core.commands.steps import read_here
from server.core.commands.strings import reader
from server.core.operators import documents
from server.core.records import versions
from server.core.records.conflicts import Conflict, conflict_in, decided, types_in
from server.core.records.kinds import TYPE_NAMES, type_name
from server.core.records.records import storage_key_of
from server.core.records.versions import ForeignDot
from server.core.ring.layout import Layout
from server.core.services.services import Services
from server.core.work.procedures import Step, Steps

_ROUNDS = 8  # of questions to the owners, for one page


def _list(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """DYN.SIBLINGS LIST [cursor] [COUNT n] [MATCH pattern]: {"cursor", "examined", "keys", "unlisted"}. The cursor is 0
    behind the last page. COUNT is about how many keys are looked at."""
    has_cursor = len(args) % 2 == 1
    place = cursor(args[2]) if has_cursor else 0
    found = options(args[2 + has_cursor :], (), (b"COUNT", b"MATCH"))
    keys_max = services.state.config.scan_page_keys
    count = integer(found[b"COUNT"]) if b"COUNT" in found else keys_max
    if count < 1:
        raise CommandError(SYNTAX)
    pattern = glob_of(found.get(b"MATCH", b"*"), services.state.config)
    services.run_steps(_page(services, sink.space, place, min(count, keys_max), pattern), sink, number)


def _page(services: Services, space: int, place: int, count: int, pattern: Glob) -> Steps:
    rounds = examined = 0
    conflicts: dict[bytes, Conflict] = {}
    unlisted: list[int] = []
    while place < END and examined < count and rounds < _ROUNDS and not unlisted:
        rounds += 1
        try:
            heads = yield from read_heads(services, place, count - examined, space=space)
        except UnreadRange as error:
            unlisted = _partitions_in(layout_of(services), place, error.part)
            place = error.part.end_slot << HASH_BITS
            continue
        place = heads.next_place
        examined += len(heads.records)
        for key, record in heads.records:
            conflict = conflict_in(record, services.state.time_ms)
            if conflict is not None:
                conflicts[key] = conflict
    keys = yield from _described(services, pattern, conflicts)
    document = {"cursor": 0 if place >= END else place, "examined": examined, "keys": keys, "unlisted": unlisted}
    return resp.bulk(documents.encode(document))


def _described(
    services: Services, pattern: Glob, conflicts: dict[bytes, Conflict]
) -> Generator[Step, Any, list[documents.Document]]:
    inner = {client_key(key): key for key in conflicts}
    wanted = yield from matching(services, pattern, [*inner])
    layout = layout_of(services)
    return [_document(layout, inner[key], conflicts[inner[key]]) for key in wanted]


def _partitions_in(layout: Layout, place: int, part: Range) -> list[int]:
    first, last = layout.partition_of(place >> HASH_BITS), layout.partition_of(part.end_slot - 1)
    return list(range(first, last + 1))


def _document(layout: Layout, key: bytes, conflict: Conflict) -> documents.Document:
    return {
        "key": _text(client_key(key)),
        "type": type_name(conflict.key_type),
        "siblings": conflict.values,
        "deletions": conflict.deletions,
        "hidden": {type_name(each): count for each, count in conflict.hidden.items()},
        "partition": layout.partition_of(key_slot(key)),
    }


def _text(data: bytes) -> str | documents.Document:
    """Bytes in a document: text if they are UTF-8, else {"base64": …}."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _show(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """DYN.SIBLINGS SHOW key: what LIST says of the key, its context, and the types of which one can be kept."""
    layout = layout_of(services)

    def finish(record: bytes | None, sink: Sink, now_ms: int) -> bytes:
        conflict = None if record is None else conflict_in(record, now_ms)
        if record is None or conflict is None:
            shown = Conflict(0 if record is None else versions.type_of(record, now_ms), 0, 0, {})
            values = 0 if record is None else len(versions.values_of(record, now_ms))
            document = _document(layout, args[2], shown._replace(values=values)) | {"conflict": False, "choices": []}
        else:
            choices = [type_name(each) for each in types_in(conflict)]
            document = _document(layout, args[2], conflict) | {"conflict": True, "choices": choices}
        token = None if record is None else encode_context(args[2], versions.clock_of(record)).decode()
        return resp.bulk(documents.encode(document | {"context": token}))

    reader(finish, 2)(services, sink, number, args)


def _resolve(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """DYN.SIBLINGS RESOLVE key [KEEP type] [CONTEXT token]: what SHOW said before, what is kept, the new context."""
    found = options(args[3:], (), (b"KEEP", b"CONTEXT"))
    kept = _type_of(found[b"KEEP"]) if b"KEEP" in found else None
    if b"CONTEXT" in found:
        try:
            decode_context(args[2], found[b"CONTEXT"])
        except BadContext as error:
            raise CommandError(f"BADCONTEXT {error}") from error
    coordinator = services.route(args[2]).coordinator_for(sink.relayed)
    if coordinator is not None:
        services.relays.forward(sink, number, args, coordinator)
    else:
        services.run_steps(_decide(services, sink, number, args[2], kept, found.get(b"CONTEXT")), sink, number)


def _type_of(word: bytes) -> int:
    name = word.lower().decode("utf-8", "replace")
    if name not in TYPE_NAMES[:-1]:
        raise CommandError(f"ERR KEEP takes {', '.join(TYPE_NAMES[1:-1])}, or none for the deletion")
    return TYPE_NAMES.index(name)


def _decide(services: Services, sink: Sink, number: int, key: bytes, kept: int | None, context: bytes | None) -> Steps:
    record = yield read_here(services, key)
    state = services.state
    conflict = None if not record else conflict_in(record, state.time_ms)
    if not record or conflict is None:
        raise CommandError("ERR there is nothing to decide: the key has one type and one value, or does not exist")
    if context is not None and encode_context(key, versions.clock_of(record)) != context:
        raise CommandError(
            "ERR the key was written after this context was read: look at it again with DYN.SIBLINGS SHOW"
        )
    choice = conflict.key_type if kept is None else kept
    if choice not in types_in(conflict) and not (choice == 0 and conflict.deletions):
        choices = ", ".join(type_name(each) for each in types_in(conflict))
        raise CommandError(f"ERR nothing of type {type_name(choice)} is stored under the key: KEEP one of {choices}")
    _write(services, sink, number, key, record, choice, conflict)
    return None


def _write(
    services: Services, sink: Sink, number: int, key: bytes, seen: bytes, choice: int, conflict: Conflict
) -> None:
    state = services.state
    route = services.route(key)
    group = services.writes.group_for(route.plan, sink)
    storage_key = storage_key_of(key)
    old = state.records.get(storage_key)
    try:
        record = decided(seen, choice, state.time_ms, state.actor_for(route.owned), state.clock.next())
    except ForeignDot:
        state.renew_actor()
        record = decided(seen, choice, state.time_ms, state.actor_for(route.owned), state.clock.next())
    document = _document(layout_of(services), key, conflict) | {
        "kept": type_name(choice), "context": encode_context(key, versions.clock_of(record)).decode(),
    }  # fmt: skip
    reply = resp.bulk(documents.encode(document))

    def finish(tally: Tally, sink: Sink) -> bytes:
        return reply

    services.writes.add(group, storage_key, record, old, finish, sink, number)
    if versions.expiry_class(record) != versions.PERSISTENT:
        services.collection.add_candidate(storage_key, versions.last_expiry(record))


_SUBCOMMANDS = (
    CommandSpec(
        "dyn.siblings|list",
        -2,
        ALONE,
        _list,
        "Lists a page of the keys with several values, or with entries of a hidden type.",
        "dyn",
        "readonly",
        complexity="O(COUNT)",
        arguments="[cursor] [COUNT count] [MATCH pattern]",
    ),
    CommandSpec(
        "dyn.siblings|show",
        3,
        READ,
        _show,
        "Shows what concurrent writes have left under a key.",
        "dyn",
        "readonly",
        (2, 2, 1),
        access="RO",
        arguments="key",
    ),
    CommandSpec(
        "dyn.siblings|resolve",
        -3,
        EXCLUSIVE,
        _resolve,
        "Keeps one type of a key and its newest value, and removes the rest.",
        "dyn",
        "write",
        (2, 2, 1),
        access="RW access update",
        once=lambda args: True,
        arguments="key [KEEP type] [CONTEXT token]",
    ),
)

COMMANDS: tuple[CommandSpec, ...] = (
    container("dyn.siblings", "What concurrent writes have left for somebody to decide.", "dyn", _SUBCOMMANDS),
)
