"""RENAME, RENAMENX and COPY (https://redis.io/docs/latest/commands/?group=generic), for keys of every type and any slots.

Theory. The source is read by a quorum, then the target is written by its own coordinator, and only then is the source
removed. So nothing is lost if the command ends in between: the key is there twice then. What is removed is exactly what
was read. If somebody has written to the source meanwhile, a string stays there as it is then, under the old name, and of a
collection stays what was written since. Another client may see both names, or both contents, for a moment.

A deletion by context alone (DYN.DEL) would not do for strings: its tombstone has the newest dot, so it would hide the value
that it must leave. So the source's coordinator first deletes it if nothing was written since; DYN.REMOVE does that.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from protocol import resp
from protocol.databases import client_key, inner_key, space_of
from protocol.tokens import BadContext, decode_context, encode_context
from server.core.base.errors import SYNTAX, CommandError
from server.core.base.sinks import Sink
from server.core.commands.arguments import check_sizes
from server.core.commands.databases import check_databases, space_in
from server.core.commands.internal import internal
from server.core.commands.key_specs import KeySpec
from server.core.commands.slices import in_slices
from server.core.commands.spec import EXCLUSIVE, CommandSpec
from server.core.commands.typed import ANY, updating
from server.core.commands.typed_steps import content_of, gather, remove_seen, replace, run_command
from server.core.records import versions
from server.core.records.draft import Draft
from server.core.records.kinds import COLLECTIONS, NONE
from server.core.records.views import View
from server.core.services.services import Services
from server.core.work.procedures import Step, Steps

_MISSING = "ERR no such key"


def _rename(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """RENAME key newkey: OK."""
    services.run_steps(_renamed(services, args, only_if_absent=False), sink, number)


def _renamenx(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """RENAMENX key newkey: 1, or 0 if the new name is in use."""
    services.run_steps(_renamed(services, args, only_if_absent=True), sink, number)


def _renamed(services: Services, args: list[bytes], only_if_absent: bool) -> Steps:
    key, new_key = args[1], args[2]
    check_sizes(new_key, b"", services.state.config)
    (view,) = yield gather(services, [key])
    if view.key_type == NONE:
        raise CommandError(_MISSING)
    is_done = True
    if key != new_key:
        is_done = yield from _carried(services, key, new_key, view, only_if_absent)
    elif only_if_absent:
        is_done = False
    return resp.integer(is_done) if only_if_absent else resp.OK


def moved(services: Services, key: bytes, new_key: bytes) -> Steps:
    """The steps of MOVE: the key gets another name unless that is in use. 1, or 0 if it is, or if there is no key."""
    check_sizes(new_key, b"", services.state.config)
    (view,) = yield gather(services, [key])
    if view.key_type == NONE:
        return resp.integer(0)
    return resp.integer((yield from _carried(services, key, new_key, view, True)))


def _carried(
    services: Services, key: bytes, new_key: bytes, view: View, only_if_absent: bool
) -> Generator[Step, Any, bool]:
    """Writes what was read under another name, and then removes it. False if the new name was to be absent and is not."""
    record = yield from in_slices(services, content_of(view))
    written = yield replace(services, new_key, record, only_if_absent)
    if not int(written[1:-2]):
        return False
    token = encode_context(key, versions.clock_of(view.base or b""))
    removed = yield run_command(services, [b"DYN.REMOVE", key, token])
    if removed == resp.integer(0) and view.key_type in COLLECTIONS:
        yield remove_seen(services, key, view)
    return True


def _remove(draft: Draft, args: list[bytes], sink: Sink) -> bytes:
    """DYN.REMOVE key context: deletes a key and answers 1, unless something was written to it that `context` lacks."""
    try:
        seen = dict(decode_context(args[1], args[2]))
    except BadContext as error:
        raise CommandError(f"BADCONTEXT {error}") from error
    if draft.base is None or any(counter > seen.get(actor, 0) for actor, counter in versions.clock_of(draft.base)):
        return resp.integer(0)
    draft.clear()
    return resp.integer(1)


def _copy_options(services: Services, sink: Sink, args: list[bytes], space: int) -> tuple[bool, int]:
    """Whether COPY may replace the target, and the target's space, `space` by default. Raises CommandError."""
    replaces = False
    place = 3
    while place < len(args):
        name = args[place].upper()
        if name == b"REPLACE":
            replaces = True
        elif name == b"DB" and place + 1 < len(args):
            place += 1
            space = space_in(services.state, sink, args[place])
        else:
            raise CommandError(SYNTAX)
        place += 1
    return replaces, space


def _copy(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """COPY source destination [DB index] [REPLACE]: 1, or 0 if there is no source or the target is in use."""
    replaces, space = _copy_options(services, sink, args, space_of(args[2]))
    if space != space_of(args[2]):
        check_databases(services.state)
    if space != services.state.numbering.spaces[0] and services.state.config.cluster_mode:
        raise CommandError("ERR Copying to another database is not allowed in cluster mode")
    target = inner_key(space, client_key(args[2]))
    if args[1] == target:
        raise CommandError("ERR source and destination objects are the same")
    check_sizes(target, b"", services.state.config)

    def steps() -> Steps:
        (view,) = yield gather(services, [args[1]])
        if view.key_type == NONE:
            return resp.integer(0)
        record = yield from in_slices(services, content_of(view))
        written: bytes = yield replace(services, target, record, not replaces)
        return written

    services.run_steps(steps(), sink, number)


UNLISTED: tuple[CommandSpec, ...] = (
    CommandSpec(
        "dyn.remove",
        3,
        EXCLUSIVE,
        internal(updating(ANY, _remove, deletes=True)),
        "Deletes a key if nothing was written to it since.",
        "dyn",
        "write",
        (1, 1, 1),
        once=lambda args: True,
    ),
)
COMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec(
        "rename",
        3,
        EXCLUSIVE,
        _rename,
        "Gives a key another name, of any slot; writes the new one first.",
        "generic",
        "write",
        (1, 2, 1),
        complexity="O(N)",
        key_specs=(KeySpec("RW access delete", 1), KeySpec("OW update", 2)),
        arguments="key newkey",
    ),
    CommandSpec(
        "renamenx",
        3,
        EXCLUSIVE,
        _renamenx,
        "Gives a key another name, of any slot, that is not in use.",
        "generic",
        "write fast",
        (1, 2, 1),
        complexity="O(N)",
        key_specs=(KeySpec("RW access delete", 1), KeySpec("OW insert", 2)),
        arguments="key newkey",
    ),
    CommandSpec(
        "copy",
        -3,
        EXCLUSIVE,
        _copy,
        "Copies a key to another one, of any slot.",
        "generic",
        "write denyoom",
        (1, 2, 1),
        since="6.2.0",
        complexity="O(N)",
        key_specs=(KeySpec("RO access", 1), KeySpec("OW update", 2)),
        arguments="source destination [DB destination-db] [REPLACE]",
    ),
)
