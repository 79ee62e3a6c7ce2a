"""Atomic runs: commands on a snapshot of some keys, whose writes are one batch or nothing."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from protocol.peer_versions import CAPABILITIES
from protocol.resp import Reply
from server.core.base.sinks import Sink
from server.core.commands.slices import next_turn
from server.core.commands.transactions.atomic_run import (
    _TOO_MANY_ROUNDS,
    CROSSSLOT,
    OVERTAKEN,
    ROUNDS_MAX,
    run_atomically,
)
from server.core.commands.transactions.snapshot import KeysMissing, Snapshot, encoded
from server.core.node import Node
from server.core.work.procedures import Step
from tests.core.commands.talking import Client, finish_turn, make_node, member, reach
from tests.core.requests.test_reads import messages_in


class Caught(Sink):
    """A sink that keeps its reply."""

    def __init__(self) -> None:
        super().__init__()
        self.replies: list[bytes] = []

    def answer(self, number: int, reply: Reply) -> None:
        self.replies.append(encoded(reply))


def lines_of(*lines: str) -> list[list[bytes]]:
    return [[word.encode() for word in line.split()] for line in lines]


def begin(node: Node, keys: list[bytes], *lines: str, pauses: bool = False) -> tuple[Caught, list[Snapshot]]:
    """Begins an atomic run of these commands, with a turn between them if it `pauses`."""
    snapshots: list[Snapshot] = []

    def body(snapshot: Snapshot) -> Generator[Step, Any, Reply]:
        snapshots.append(snapshot)
        replies = []
        for args in lines_of(*lines):
            replies.append(encoded(snapshot.run(args)))
            if pauses:
                yield next_turn(node.services)
        return b"".join(replies)

    sink = Caught()
    node.services.run_steps(run_atomically(node.services, sink, 0, keys, body), sink, 0)
    return sink, snapshots


def run(node: Node, keys: list[bytes], *lines: str) -> bytes:
    sink, _ = begin(node, keys, *lines)
    finish_turn(node)
    (reply,) = sink.replies
    return reply


def pass_turns(node: Node, count: int, now_ms: int) -> int:
    for _ in range(count):
        now_ms += 2
        node.wake(now_ms)
        finish_turn(node)
    return now_ms


def test_each_command_sees_what_those_before_it_wrote() -> None:
    node = make_node()
    client = Client(node)
    client.ask("SET a 1")
    told = run(
        node, [b"a", b"{a}b"], "INCR a", "GET a", "RPUSH {a}b x y", "LRANGE {a}b 0 -1", "DEL a", "EXISTS a", "SET a 7"
    )
    assert told == b":2\r\n$1\r\n2\r\n:2\r\n*2\r\n$1\r\nx\r\n$1\r\ny\r\n:1\r\n:0\r\n+OK\r\n"
    assert client.ask("GET a") == "7"
    assert client.ask("LRANGE {a}b 0 -1") == ["x", "y"]


def test_nobody_sees_the_writes_of_a_run_before_its_end_and_then_all_of_them() -> None:
    node = make_node()
    client = Client(node)
    client.ask("SET a 1")
    sink, _ = begin(node, [b"a", b"{a}b"], "SET a 2", "SET {a}b 2", pauses=True)
    finish_turn(node)
    assert client.ask("MGET a {a}b") == ["1", None]
    pass_turns(node, 1, 0)
    assert client.ask("MGET a {a}b") == ["1", None]
    pass_turns(node, 2, 2)
    assert sink.replies == [b"+OK\r\n+OK\r\n"]
    assert client.ask("MGET a {a}b") == ["2", "2"]


def test_the_writes_of_a_run_are_one_message_with_one_record_for_each_key() -> None:
    node = make_node(2)
    reach(node, 2)
    other = member(2).id
    node.state.note_capabilities(other, CAPABILITIES)
    key = next(b"k%d" % n for n in range(99) if node.services.route(b"k%d" % n).coordinator is None)
    keys = [b"{%b}%d" % (key, n) for n in range(3)]
    sink, _ = begin(node, keys, *[f"INCR {key.decode()}" for key in keys], *[f"INCR {key.decode()}" for key in keys])
    asked = next(each for each in messages_in(finish_turn(node).messages[other]) if each[0] == b"COMPARE")
    node.receive(other, [b"SAME", b"0", asked[2]], 0)
    sent = [each for each in messages_in(finish_turn(node).messages[other]) if each[0] == b"STORE"]
    assert [len(each) for each in sent] == [3 + 2 * len(keys)]
    assert not sink.replies, "one of two replicas has it"
    node.receive(other, [b"STORED", b"0", sent[0][2]], 0)
    assert sink.replies == [b":1\r\n" * 3 + b":2\r\n" * 3]


def test_a_run_that_a_plain_write_overtakes_begins_anew_and_is_refused_after_some_attempts() -> None:
    node = make_node()
    client = Client(node)
    sink, snapshots = begin(node, [b"a"], "APPEND a x", pauses=True)
    finish_turn(node)
    client.ask("SET a 1")
    now_ms = pass_turns(node, 3, 0)
    assert sink.replies == [b":2\r\n"]
    assert client.ask("GET a") == "1x"
    assert len(snapshots) == 2
    sink, snapshots = begin(node, [b"a"], "APPEND a x", pauses=True)
    for number in range(5):
        finish_turn(node)
        client.ask(f"SET a {number}")
        now_ms = pass_turns(node, 1, now_ms)
    assert sink.replies == [b"-%b\r\n" % OVERTAKEN.encode()]
    assert client.ask("GET a") == "4"
    assert len(snapshots) == 5


@pytest.mark.parametrize(("pause_ms", "attempts"), [(1000, 1), (1001, 2)])
def test_a_run_begins_anew_if_its_node_has_stood_still_meanwhile(pause_ms: int, attempts: int) -> None:
    """Another owner may have written the keys, and this node not have heard of it yet."""
    node = make_node()
    client = Client(node)
    client.ask("SET a 1")
    sink, snapshots = begin(node, [b"a"], "APPEND a x", pauses=True)
    finish_turn(node)
    pass_turns(node, 3, pause_ms - 2)
    assert sink.replies == [b":2\r\n"]
    assert client.ask("GET a") == "1x"
    assert len(snapshots) == attempts


def test_a_command_that_reads_and_writes_waits_for_a_run_that_holds_its_key() -> None:
    node = make_node()
    client = Client(node)
    sink, _ = begin(node, [b"a"], "INCR a", "INCR a", pauses=True)
    finish_turn(node)
    assert client.raw("INCR a") == b""
    pass_turns(node, 1, 0)
    assert not sink.replies
    node.wake(10)
    replies = finish_turn(node).replies
    assert sink.replies == [b":1\r\n:2\r\n"]
    assert [data for _, data in replies] == [b":3\r\n"]


def test_a_command_of_a_run_may_hold_its_key_itself() -> None:
    node = make_node()
    client = Client(node)
    elements = " ".join(str(number) for number in range(600))
    sink, _ = begin(node, [b"s"], f"SADD s {elements}", "SCARD s", pauses=True)
    finish_turn(node)
    pass_turns(node, 2, 0)
    assert sink.replies == [b":600\r\n:600\r\n"]
    assert client.ask("SCARD s") == 600


def test_a_key_that_is_missing_is_read_and_the_body_runs_again() -> None:
    node = make_node()
    client = Client(node)
    client.ask("SET {a}b 5")
    sink, snapshots = begin(node, [b"a"], "INCR a", "INCR {a}b", "GET a")
    finish_turn(node)
    assert sink.replies == [b":1\r\n:6\r\n$1\r\n1\r\n"], "the first attempt has left nothing"
    assert len(snapshots) == 2


def test_keys_that_no_argument_shows_are_read_as_well() -> None:
    node = make_node()
    client = Client(node)
    client.ask("RPUSH {a}l 1 2")
    client.ask("SET {a}w1 9")
    client.ask("SET {a}w2 3")
    sink, _ = begin(node, [b"{a}l"], "SORT {a}l BY {a}w*", "SET {a}w2 10", "SORT {a}l BY {a}w*")
    finish_turn(node)
    finish_turn(node)
    assert sink.replies == [b"*2\r\n$1\r\n2\r\n$1\r\n1\r\n+OK\r\n*2\r\n$1\r\n1\r\n$1\r\n2\r\n"]


def test_keys_with_other_owners_are_refused_before_anything_was_written() -> None:
    node = make_node(4)
    for number in (2, 3, 4):
        reach(node, number)
    mine = next(b"k%d" % n for n in range(999) if node.services.route(b"k%d" % n).coordinator is None)
    other = next(
        b"k%d" % n for n in range(999)
        if node.services.route(b"k%d" % n).plan is not node.services.route(mine).plan
    )  # fmt: skip
    sink, _ = begin(node, [mine, other], "SET k 1")
    for asked in _reads_in(node):
        node.receive(asked[0], [b"SAME", b"0", asked[1]], 0)
    assert sink.replies == [b"-%b\r\n" % CROSSSLOT.encode()]


def _reads_in(node: Node) -> list[tuple[str, bytes]]:
    sent = finish_turn(node).messages
    return [(peer, each[2]) for peer, data in sent.items() for each in messages_in(data) if each[0] == b"READ"]


def test_an_error_of_one_command_is_its_reply_and_the_others_run() -> None:
    node = make_node()
    told = run(node, [b"a"], "SET a x", "INCR a", "LPUSH a 1", "NOSUCH", "GET", "APPEND a y")
    errors = told.split(b"\r\n")
    assert [line[:4] for line in errors[:-1]] == [b"+OK", b"-ERR", b"-WRO", b"-ERR", b"-ERR", b":2"]


@pytest.mark.parametrize("line", ["CLIENT ID", "DBSIZE", "KEYS *", "SELECT 0", "WAIT 1 0", "WATCH a", "MULTI", "EXEC"])
def test_what_is_about_no_key_of_the_snapshot_does_not_run(line: str) -> None:
    assert b"does not run in a transaction" in run(make_node(), [b"a"], line)


def test_what_is_about_its_arguments_only_runs() -> None:
    assert run(make_node(), [b"a"], "PING x", "ECHO y") == b"$1\r\nx\r\n$1\r\ny\r\n"


def test_the_body_knows_which_keys_are_missing() -> None:
    seen: list[list[bytes]] = []
    node = make_node()

    def body(snapshot: Snapshot) -> Generator[Step, Any, Reply]:
        try:
            snapshot.run([b"MGET", b"a", b"{a}b", b"{a}c"])
        except KeysMissing as missing:
            seen.append(missing.keys)
        return b"+OK\r\n"
        yield next_turn(node.services)

    sink = Caught()
    node.services.run_steps(run_atomically(node.services, sink, 0, [b"a"], body), sink, 0)
    finish_turn(node)
    assert seen == [[b"{a}b", b"{a}c"]]
    assert sink.replies == [b"+OK\r\n"]


def test_keys_that_are_found_one_by_one_are_bounded() -> None:
    """Each round reads all keys again."""
    node = make_node()
    rounds = 0

    def body(snapshot: Snapshot) -> Generator[Step, Any, Reply]:
        nonlocal rounds
        rounds += 1
        yield next_turn(node.services)
        raise KeysMissing([b"{a}%d" % rounds], False)

    sink = Caught()
    node.services.run_steps(run_atomically(node.services, sink, 0, [b"a"], body), sink, 0)
    for now_ms in range(1, 2000):
        node.wake(now_ms)
        finish_turn(node)
    assert rounds == ROUNDS_MAX + 1
    assert sink.replies == [b"-" + _TOO_MANY_ROUNDS.encode() + b"\r\n"]
