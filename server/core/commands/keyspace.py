"""SCAN, KEYS, DBSIZE, RANDOMKEY, FLUSHALL: all keys of the whole cluster, each once, from any node.

Theory. See server/core/commands/pages.py for cursors and quorums. FLUSHALL is a deletion of every key, by tombstones that
replicate like any write, because an owner that is away must not bring the keys back; it destroys replicated data, so it
wants to be meant: `FLUSHALL CONFIRM`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol import resp
from server.core.base.errors import SYNTAX, CommandError
from server.core.base.sinks import Gather, Sink
from server.core.commands.arguments import integer, options
from server.core.commands.glob import compile_glob
from server.core.commands.operator import layout_of
from server.core.commands.pages import END, Page, read_page
from server.core.commands.spec import ALONE, CommandSpec
from server.core.work.procedures import Procedure, Step, Steps

if TYPE_CHECKING:
    from server.core.node import Node


def _scan(node: Node, sink: Sink, number: int, args: list[bytes]) -> None:
    """SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]; the cursor is a place, so any node goes on from it."""
    place = integer(args[1], "ERR invalid cursor")
    if not 0 <= place < END:
        raise CommandError("ERR invalid cursor")
    found = options(args[2:], (), (b"MATCH", b"COUNT", b"TYPE"))
    count = integer(found.get(b"COUNT", b"10"))
    if count < 1:
        raise CommandError(SYNTAX)
    pattern = compile_glob(found.get(b"MATCH", b"*"))
    wanted_type = found.get(b"TYPE", b"string").lower() == b"string"

    def steps() -> Steps:
        page = yield from read_page(node, place, min(count, node.state.config.scan_page_keys))
        keys = [resp.bulk(key) for key in page.keys if wanted_type and pattern.fullmatch(key)]
        cursor = 0 if page.next_place == END else page.next_place
        return resp.array([resp.bulk(b"%d" % cursor), resp.array(keys)])

    node.run_steps(steps(), sink, number)


def _keys(node: Node, sink: Sink, number: int, args: list[bytes]) -> None:
    """KEYS pattern. Reads the whole key space: SCAN is kinder to everybody else."""
    pattern = compile_glob(args[1])

    def steps() -> Steps:
        matching: list[bytes] = []
        page = Page([], 0)
        while page.next_place < END:
            page = yield from read_page(node, page.next_place, node.state.config.scan_page_keys)
            matching += [resp.bulk(key) for key in page.keys if pattern.fullmatch(key)]
        return resp.array(matching)

    node.run_steps(steps(), sink, number)


def _dbsize(node: Node, sink: Sink, number: int, args: list[bytes]) -> None:
    """DBSIZE: the number of live keys, by reading them all; O(keys), unlike Redis'."""

    def steps() -> Steps:
        size = 0
        page = Page([], 0)
        while page.next_place < END:
            page = yield from read_page(node, page.next_place, node.state.config.scan_page_keys)
            size += len(page.keys)
        return resp.integer(size)

    node.run_steps(steps(), sink, number)


def _randomkey(node: Node, sink: Sink, number: int, args: list[bytes]) -> None:
    """RANDOMKEY: the next live key from a random place, so about uniform; null when there is none."""

    def steps() -> Steps:
        for place in (node.state.rng.randrange(END), 0):
            page = yield from read_page(node, place, 1)
            if page.keys:
                return resp.bulk(page.keys[0])
        return resp.null(sink.resp3)

    node.run_steps(steps(), sink, number)


def _flushall(node: Node, sink: Sink, number: int, args: list[bytes]) -> None:
    """FLUSHALL CONFIRM: deletes every key of the cluster; OK when each deletion met its quorum."""
    words = [word.upper() for word in args[1:]]
    if any(word not in (b"ASYNC", b"SYNC", b"CONFIRM") for word in words):
        raise CommandError(SYNTAX)
    if b"CONFIRM" not in words and not node.state.config.flushall:
        raise CommandError(
            "ERR FLUSHALL destroys every key on every node of the cluster: say FLUSHALL CONFIRM if you mean it"
        )
    layout_of(node)

    def steps() -> Steps:
        page = Page([], 0)
        while page.next_place < END:
            page = yield from read_page(node, page.next_place, node.state.config.scan_page_keys)
            if page.keys:
                yield _delete_each(node, page.keys)
        return resp.OK

    node.run_steps(steps(), sink, number)


def _delete_each(node: Node, keys: list[bytes]) -> Step:
    """A step that ends when each key's deletion has its quorum; the first failure is its result."""

    def start(procedure: Procedure) -> None:
        gather = Gather(procedure, 0, len(keys), lambda replies, resp3: resp.OK)
        for index, key in enumerate(keys):
            node.dispatcher.run(gather, index, [b"DEL", key])

    return start


COMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec(
        "scan",
        -2,
        ALONE,
        _scan,
        "Iterates over the keys of the whole cluster.",
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
        "Returns all keys of the cluster that match a pattern.",
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
        "Returns the number of keys in the cluster.",
        "server",
        "readonly",
        complexity="O(N)",
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
        arguments="[ASYNC|SYNC] CONFIRM",
    ),
    CommandSpec(
        "flushdb",
        -1,
        ALONE,
        _flushall,
        "Deletes all keys of the cluster; wants the word CONFIRM.",
        "server",
        "write dangerous",
        complexity="O(N)",
        arguments="[ASYNC|SYNC] CONFIRM",
    ),
)
