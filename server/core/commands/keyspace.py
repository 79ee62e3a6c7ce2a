"""SCAN, KEYS, DBSIZE, RANDOMKEY, FLUSHDB, FLUSHALL: commands over all keys of a database or the cluster, from any node.

Theory. See server/core/commands/pages.py for cursors and quorums. FLUSHALL is a deletion of every key, by tombstones that
replicate like any write, because an owner that is down must not bring the keys back.

Both flushes take the word CONFIRM, and a setting of the same name says whether they need it. FLUSHALL does by default: it
destroys the replicated data of all applications. FLUSHDB does not: it is about one database, which the application has
chosen, and frameworks (Django, Rails) say it to clear a cache.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from protocol import resp
from protocol.databases import EVERY_SPACE, client_key
from server.core.base.errors import SYNTAX, CommandError
from server.core.base.sinks import Sink
from server.core.commands.arguments import cursor, integer
from server.core.commands.glob import Glob, glob_of
from server.core.commands.keys import delete_one
from server.core.commands.operator import layout_of
from server.core.commands.pages import END, KeyPage, count_keys, page_after, read_page
from server.core.commands.slices import Parts, in_slices, run_parts
from server.core.commands.spec import ALONE, CommandSpec
from server.core.records.kinds import type_name
from server.core.services.services import Services
from server.core.work.procedures import Procedure, Step, Steps

_SCAN_ROUNDS = 8  # of questions to the owners, for one page


def _scan(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]; the cursor is a place in the key space, so any node can
    continue from it.

    A page that would take many rounds of questions ends early, perhaps empty, with a cursor."""
    place = cursor(args[1])
    count, match, key_type = _scan_options(args[2:])
    pattern, space = glob_of(match, services.state.config), sink.space

    def steps() -> Steps:
        limit = min(count, services.state.config.scan_page_keys)
        page = yield from read_page(services, place, limit, _SCAN_ROUNDS, space=space)
        wanted = [
            client_key(key)
            for key, each in zip(page.keys, page.types, strict=True)
            if key_type in (None, type_name(each))
        ]
        keys = yield from matching(services, pattern, wanted)
        following = 0 if page.next_place >= END else page.next_place
        return resp.array([resp.bulk(b"%d" % following), resp.array([resp.bulk(key) for key in keys])])

    services.run_steps(steps(), sink, number)


def _scan_options(args: list[bytes]) -> tuple[int, bytes, str | None]:
    """COUNT, the pattern, and the wanted type, None for all. If an option is repeated, the last one counts."""
    count, match = 10, b"*"
    key_type: str | None = None
    for index in range(0, len(args), 2):
        name = args[index].upper()
        if name not in (b"MATCH", b"COUNT", b"TYPE") or index + 1 == len(args):
            raise CommandError(SYNTAX)
        value = args[index + 1]
        if name == b"MATCH":
            match = value
        elif name == b"TYPE":
            key_type = value.lower().decode("utf-8", "replace")
        else:
            count = integer(value)
            if count < 1:
                raise CommandError(SYNTAX)
    return count, match, key_type


def _keys(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """KEYS pattern. Reads the whole key space; SCAN delays other clients less."""
    pattern, space = glob_of(args[1], services.state.config), sink.space

    def steps() -> Steps:
        found: list[bytes] = []
        page = KeyPage([], 0)
        while page.next_place < END:
            page = yield from page_after(services, page, space=space)
            found += yield from matching(services, pattern, [client_key(key) for key in page.keys])
        return resp.array([resp.bulk(key) for key in found])

    services.run_steps(steps(), sink, number)


def matching(services: Services, pattern: Glob, keys: list[bytes]) -> Generator[Step, Any, list[bytes]]:
    """Those keys that match. Other clients are served after each SLICE_STEPS of work."""
    return (yield from in_slices(services, pattern.matching(keys)))


def _dbsize(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """DBSIZE: the number of live keys: the owners' counts where these agree, else by reading the keys."""

    def steps() -> Steps:
        return resp.integer((yield from count_keys(services, sink.space)))

    services.run_steps(steps(), sink, number)


def _randomkey(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """RANDOMKEY: the next live key from a random place, so about uniform; null when there is none."""
    space = sink.space

    def steps() -> Steps:
        for place in (services.state.rng.randrange(END), 0):
            page = yield from read_page(services, place, 1, space=space)
            if page.keys:
                return resp.bulk(client_key(page.keys[0]))
        return resp.null(sink.resp3)

    services.run_steps(steps(), sink, number)


def _flushall(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """FLUSHALL CONFIRM: deletes every key of the cluster; OK when each deletion met its quorum."""
    _flush(services, sink, number, args, EVERY_SPACE)


def _flushdb(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """FLUSHDB: deletes every key of the connection's database. Caches of frameworks clear themselves by it."""
    _flush(services, sink, number, args, sink.space)


def _flush(services: Services, sink: Sink, number: int, args: list[bytes], space: int) -> None:
    words = sorted(word.upper() for word in args[1:])
    if words not in ([], [b"ASYNC"], [b"SYNC"], [b"CONFIRM"], [b"ASYNC", b"CONFIRM"], [b"CONFIRM", b"SYNC"]):
        raise CommandError(SYNTAX)
    config = services.state.config
    name, what = "FLUSHALL", "every key"
    if space != EVERY_SPACE:
        name, what = "FLUSHDB", f"every key of database {services.state.numbering.numbers[space]}"
    if b"CONFIRM" not in words and not (config.flushall if space == EVERY_SPACE else config.flushdb):
        raise CommandError(
            f"ERR {name} destroys {what} on every node of the cluster: say {name} CONFIRM if you mean it"
        )
    layout_of(services)

    def steps() -> Steps:
        page = KeyPage([], 0)
        while page.next_place < END:
            page = yield from page_after(services, page, space=space)
            if page.keys:
                yield _delete_each(services, page.keys)
        services.tracking.flushed()
        return resp.OK

    services.run_steps(steps(), sink, number)


def _delete_each(services: Services, keys: list[bytes]) -> Step:
    """A step that ends when each key's deletion has its quorum; the first failure is its result."""

    def start(procedure: Procedure) -> None:
        parts = Parts(procedure, 0, len(keys), lambda parts: resp.OK)
        run_parts(services, parts, "del", delete_one, lambda index: [b"DEL", keys[index]])

    return start


COMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec(
        "scan",
        -2,
        ALONE,
        _scan,
        "Iterates over the keys of the database, on all nodes.",
        "generic",
        "readonly",
        since="2.8.0",
        tips="nondeterministic_output",
        complexity="O(COUNT)",
        arguments="cursor [MATCH pattern] [COUNT count] [TYPE type]",
    ),
    CommandSpec(
        "keys",
        2,
        ALONE,
        _keys,
        "Returns all keys of the database that match a pattern.",
        "generic",
        "readonly dangerous",
        tips="nondeterministic_output_order",
        complexity="O(N)",
        arguments="pattern",
    ),
    CommandSpec(
        "dbsize",
        1,
        ALONE,
        _dbsize,
        "Returns the number of keys in the database.",
        "server",
        "readonly",
        complexity="O(1) while owners agree and no key expires, else O(N)",
    ),
    CommandSpec(
        "randomkey",
        1,
        ALONE,
        _randomkey,
        "Returns a random key.",
        "generic",
        "readonly",
        tips="nondeterministic_output",
    ),
    CommandSpec(
        "flushall",
        -1,
        ALONE,
        _flushall,
        "Deletes all keys of the cluster; wants the word CONFIRM.",
        "server",
        "write dangerous",
        complexity="O(N)",
        arguments="[ASYNC|SYNC] [CONFIRM]",
    ),
    CommandSpec(
        "flushdb",
        -1,
        ALONE,
        _flushdb,
        "Deletes all keys of the database.",
        "server",
        "write dangerous",
        complexity="O(N)",
        arguments="[ASYNC|SYNC] [CONFIRM]",
    ),
)
