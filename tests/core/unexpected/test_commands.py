"""No query of death: whatever a command's own code raises before it has stored anything is answered, in order, once.

Each command of the table runs between two others on one connection, beside those of another client, and an exception is
raised at each call that the core makes for it (places.py). Then either the command has an error, and everybody else the
right answer, and the node goes on; or the node ends, which it must not do for a command that has stored nothing.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import hiredis
import pytest

from server.core.base.config import Config
from server.core.base.unexpected import Fatal, PlantedFault, is_planted
from server.core.commands.command_docs import specs_of
from server.core.commands.spec import ALONE, CommandSpec
from server.core.commands.table import commands_by_name
from server.core.node import Node
from tests.core.commands.talking import Client, finish_turn, make_node
from tests.core.unexpected.places import Fault, Place
from tests.faults import commands

CONFIG = Config(engine="memory", tree_leaf_bits=14)
WAKE_MS, TICK_MS, ANSWERED_MS = 2, 100, 5000
# What follows the name, where words that are made up would be refused before anything is done.
EXAMPLES: dict[str, str] = {
    "fcall": "f 1 k",
    "fcall_ro": "f 1 k",
    "set": "k new",
    "mset": "k new l new",
    "setex": "k 100 new",
    "psetex": "k 100000 new",
    "expire": "k 100",
    "pexpire": "k 100000",
    "expireat": "k 2000000000",
    "pexpireat": "k 2000000000000",
    "del": "k l",
    "unlink": "k l",
    "exists": "k l",
    "touch": "k l",
    "mget": "k l",
    "msetnx": "m 1 n 2",
    "rename": "k m",
    "renamenx": "k m",
    "copy": "k m",
    "sort": "m GET w_*",
    "sort_ro": "m BY w_*",
    "wait": "1 0",
    "object|encoding": "k",
    "object|freq": "k",
    "object|idletime": "k",
    "object|refcount": "k",
    "memory|usage": "k",
    "getex": "k EX 100",
    "lcs": "k l",
    "pfmerge": "k l",
    "bitop": "AND m k l",
    "bitfield": "k SET u8 0 1",
    "hello": "3",
    "select": "0",
    "scan": "0 COUNT 5",
    "flushall": "CONFIRM",
    "flushdb": "CONFIRM",
    "dyn.get": "k R 1",
    "dyn.set": "k new W 1",
    "dyn.del": "k W 1",
    "dyn.quorum": "R 1 W 1",
    "dyn.cluster|weight": "n1 2",
    "dyn.cluster|zone": "n1 z",
    "dyn.cluster|commit": "8",
    "dyn.repair|start": "KEY k",
    "client|kill": "ID 77",
    "client|reply": "ON",
    "client|no-evict": "ON",
    "client|no-touch": "ON",
    "client|setinfo": "LIB-NAME it",
    "cluster|getkeysinslot": "1 1",
    "config|get": "maxmemory",
    "sunsubscribe": "channel",
    "eval": "return(redis.call('get',KEYS[1])) 1 k",
    "eval_ro": "return(redis.call('get',KEYS[1])) 1 k",
    "evalsha": f"{'0' * 40} 1 k",
    "evalsha_ro": f"{'0' * 40} 1 k",
    "command|getkeys": "GET k",
    "command|getkeysandflags": "GET k",
    "command|docs": "get",
}
COMMON = "ECHO x"  # what the core does for any command is broken for these alone, or the test would take minutes
WITH_ALL_PLACES = ("get", "set", "mset")
_SUBSCRIBED = "ERR Can't execute 'echo': only (P|S)SUBSCRIBE"  # the answer after SUBSCRIBE, as in Redis
ENDING = ("quit", "multi")  # it ends the connection by itself, or queues what follows


def line_of(spec: CommandSpec) -> str:
    """A call of the command that its arity allows."""
    name = spec.name.replace("|", " ")
    if spec.name in EXAMPLES:
        return f"{name} {EXAMPLES[spec.name]}"
    words = name.split()
    words += ["1"] * (abs(spec.arity) - len(words))
    for key_spec in specs_of(spec):
        if key_spec.start and not key_spec.keyword:
            words[key_spec.start + key_spec.counted] = "k"
    return " ".join(words)


class Table:
    """A node with a few keys, and what happens when a command is called at it."""

    def __init__(self) -> None:
        self.node: Node = make_node(config=CONFIG)
        self.now_ms = 0
        self._tick()
        self.client, self.other = Client(self.node), Client(self.node)
        for key in ("k", "l"):
            assert self.client.ask(f"SET {key} value") == "OK"
            self.client.ask(f"EXPIRE {key} 1000000")
        self.client.ask("SET other value")

    def _tick(self) -> None:
        self.ticked_ms = self.now_ms
        self.node.tick(self.now_ms, 1_700_000_000_000 + self.now_ms)

    def call(self, line: str, fault: Fault) -> tuple[list[Any], list[Any]]:
        """The replies to ECHO, the command, ECHO; and those that another client has at the same time."""
        sent = [b"ECHO before", line.encode(), b"ECHO after"]
        replies = {self.client.session.id: b"", self.other.session.id: b""}

        def turn() -> None:
            for session, data in finish_turn(self.node).replies:
                replies[session.id] += data if isinstance(data, bytes) else b"".join(data)

        def work() -> None:
            self.node.command(self.other.session, [b"GET", b"other"], self.now_ms)
            self.node.commands(self.client.session, [words.split() for words in sent], self.now_ms)
            self.node.command(self.other.session, [b"STRLEN", b"other"], self.now_ms)
            turn()
            end_ms = self.now_ms + ANSWERED_MS
            while self.now_ms < end_ms and len(self._decoded(replies[self.client.session.id])) < len(sent):
                self.now_ms = max(self.now_ms + WAKE_MS, self.node.next_deadline_ms() or 0)
                self.node.wake(self.now_ms)
                if self.now_ms >= self.ticked_ms + TICK_MS:
                    self._tick()
                turn()

        fault.watch(work)
        return self._decoded(replies[self.client.session.id]), self._decoded(replies[self.other.session.id])

    def _decoded(self, data: bytes) -> list[Any]:
        reader = hiredis.Reader(encoding="utf-8", errors="replace")
        reader.feed(data)
        found = []
        while (reply := reader.gets()) is not False:
            found.append(reply)
        return found


@cache
def places(line: str) -> dict[Place, None]:
    """Where the core comes by while the command is served."""
    table = Table()
    fault = Fault(table.node)
    table.call(line, fault)
    return fault.places


# One command for each handler: UNLINK is DEL, and all refused subcommands of CLUSTER are one.
TESTED = list({spec.handler: spec for spec in reversed(commands()) if spec.name not in ENDING}.values())


def check(table: Table, line: str, place: Place) -> tuple[str, bool]:
    """Raises at a place. What came of it (answered, ended, cut, passed), and whether the table can be used again."""
    fault = Fault(table.node, place)
    unexpected = table.node.state.unexpected
    unexpected.drain_incidents()
    where = f"{place[1].co_name} -> {place[0].co_name}"
    try:
        replies, others = table.call(line, fault)
    except (Fatal, PlantedFault, AssertionError) as error:
        assert is_planted(error) or "answered twice" in str(error), where
        assert not fault.is_commands or fault.has_stored, f"{where}: a command that stored nothing ended the node"
        return "ended", False
    errors = [str(reply) for reply in replies + others if "ERR internal error " in str(reply)]
    contained = sum(incident.doing != "a group of reads" for incident in unexpected.drain_incidents())
    closing = [each.session.closing for each in (table.client, table.other)]
    if contained and any(closing) and not fault.is_commands:
        assert closing.count(True) == 1, where
        return "cut", False  # the order of its commands was lost, and so its connection
    assert len(replies) == 3 and len(others) == 2, where
    for reply, right in zip([replies[0], replies[2], *others], ["before", "after", "value", 5], strict=True):
        assert reply == right or str(reply) in errors or str(reply).startswith(_SUBSCRIBED), where
    assert len(errors) == contained, where
    assert all("PlantedFault" in error and "the log of node n1" in error for error in errors), where
    assert contained == 1 if fault.is_commands else contained <= 1, where
    return ("answered" if contained else "passed"), True


@pytest.mark.parametrize("spec", TESTED, ids=lambda spec: spec.name)
def test_a_fault_anywhere_in_a_command_is_answered_or_ends_the_node(spec: CommandSpec) -> None:
    line = line_of(spec)
    assert spec.accepts(len(line.split())), line
    outcomes: list[str] = []
    table = Table()
    common = places(COMMON) if spec.name not in WITH_ALL_PLACES else {}
    for place in places(line):
        own = "/core/commands/" in place[0].co_filename
        if not own and (place in common or spec.overlap == ALONE or spec.group == "generic"):
            continue
        outcome, goes_on = check(table, line, place)
        outcomes.append(outcome)
        if not goes_on or (spec.overlap and "write" in spec.flags):
            table = Table()
    assert "answered" in outcomes, "no place of this command was met"
    assert spec.name not in WITH_ALL_PLACES or {"ended", "passed"} <= {*outcomes}


def test_the_other_commands_are_those_that_end_the_connection() -> None:
    assert [spec.name for spec in commands() if spec.name in ENDING] == ["quit", "multi"]
    assert {"get", "set", "dyn.cluster|status"} <= {spec.name for spec in TESTED}
    assert not set(EXAMPLES) - {spec.name for spec in commands()}, "an example for no command"
    assert {spec.handler for spec in commands()} - {spec.handler for spec in TESTED} == {
        commands_by_name()[b"quit"].handler,
        commands_by_name()[b"multi"].handler,
    }
