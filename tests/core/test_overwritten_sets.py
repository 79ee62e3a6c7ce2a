"""SETs of one key that wait behind each other: only the last one runs, and all get its reply (base/lanes.py)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocol.peer_versions import CAPABILITIES
from protocol.slots import key_slot
from server.core.node import Node
from tests.core.commands.talking import CONFIG, Client, finish_turn, make_node, member, reach
from tests.core.requests.test_reads import messages_in

OTHER = member(2).id


class Pipeline:
    """A client of a node that relays all commands of one key, and whose first command is under way."""

    def __init__(self, **settings: int) -> None:
        self.node: Node = make_node(2, replace(CONFIG, **settings))
        reach(self.node, 2)
        state = self.node.state
        keys = (b"k%d" % number for number in range(99))
        self.key = next(key for key in keys if state.routes[key_slot(key) >> state.route_shift].coordinator == OTHER)
        self.client = Client(self.node)
        self.session = self.client.session
        self.send([b"SET", self.key, b"first"])
        self.relay = self.sent()

    def send(self, *commands: list[bytes]) -> None:
        """The client sends commands."""
        self.node.commands(self.session, list(commands), 0)

    def sent(self) -> list[list[bytes]]:
        """Ends the turn, and returns the commands that are relayed."""
        outbox = finish_turn(self.node)
        self.replies = b"".join([bytes(data) for _, data in outbox.replies if isinstance(data, bytes)])
        relays = [list(each) for each in messages_in(outbox.messages.get(OTHER, b"")) if each[0] == b"RELAY"]
        if not relays:
            return []
        self.number = relays[0][2]
        return [list(args) for args in relays[0][5:]]

    def answered(self, *replies: bytes) -> list[list[bytes]]:
        """The coordinator answers the last relay: returns what is relayed next."""
        indexes = b"".join([index.to_bytes(4, "big") for index in range(len(replies))])
        self.node.receive(OTHER, [b"RELAYED", b"0", self.number, indexes, *replies], 0)
        return self.sent()


def test_of_several_that_wait_only_the_last_one_runs_and_all_get_its_reply() -> None:
    pipeline = Pipeline()
    key = pipeline.key
    pipeline.send(*[[b"SET", key, b"%d" % number] for number in range(5)])
    assert pipeline.sent() == [] and pipeline.node.state.commands_waiting == 1
    assert pipeline.answered(b"+OK\r\n") == [[b"SET", key, b"4"]]
    assert pipeline.replies == b"+OK\r\n" and pipeline.session.in_flight == 5
    assert pipeline.answered(b"+OK\r\n") == []
    assert pipeline.replies == b"+OK\r\n" * 5
    assert not pipeline.session.in_flight and pipeline.session.lanes is None and not pipeline.session.held_bytes
    assert not pipeline.node.state.commands_waiting


def test_an_error_is_the_reply_to_all_of_them() -> None:
    """None of them was written."""
    pipeline = Pipeline()
    pipeline.send(*[[b"SET", pipeline.key, b"%d" % number] for number in range(3)])
    pipeline.sent()
    pipeline.answered(b"+OK\r\n")
    pipeline.answered(b"-NOQUORUM\r\n")
    assert pipeline.replies == b"-NOQUORUM\r\n" * 3


@pytest.mark.parametrize(
    "between",
    [[b"STRLEN"], [b"SET", b"v", b"NX"], [b"SET", b"v", b"EX", b"9"], [b"APPEND", b"v"], [b"SET", b"v" * 101]],
)
def test_whatever_else_stands_between_them_is_passed_over_by_none(between: list[bytes]) -> None:
    """A command that reads, one with other arguments, and one that will be refused: SETs before it and behind it run."""
    pipeline = Pipeline(value_bytes_max=100)
    key = pipeline.key
    other = [between[0], key, *between[1:]]
    commands = [[b"SET", key, b"1"], [b"SET", key, b"2"], other, [b"SET", key, b"3"], [b"SET", key, b"4"]]
    pipeline.node.state.note_capabilities(OTHER, CAPABILITIES)
    pipeline.send(*commands)
    pipeline.sent()
    run, sent = [], pipeline.answered(b"+OK\r\n")
    while sent:
        run += sent
        sent = pipeline.answered(*[b"+OK\r\n"] * len(sent))
    assert run == [commands[1], other, commands[4]]
    assert not pipeline.session.in_flight


def test_gets_behind_them_travel_with_none_and_read_the_set_before_them() -> None:
    pipeline = Pipeline()
    key = pipeline.key
    pipeline.send([b"GET", key], *[args for n in (b"1", b"2") for args in ([b"SET", key, n], [b"GET", key])])
    pipeline.node.state.note_capabilities(OTHER, CAPABILITIES)
    pipeline.sent()
    assert pipeline.answered(b"+OK\r\n") == [[b"GET", key], [b"SET", key, b"2"]]
    assert pipeline.answered(b"$5\r\nfirst\r\n", b"+OK\r\n") == []
    assert pipeline.replies == b"$5\r\nfirst\r\n+OK\r\n$1\r\n1\r\n+OK\r\n$1\r\n2\r\n"
    assert not pipeline.session.in_flight and pipeline.session.lanes is None


def test_the_values_of_those_that_do_not_run_are_not_held() -> None:
    pipeline = Pipeline()
    pipeline.send(*[[b"SET", pipeline.key, b"%d" % number] for number in range(3)])
    assert [args[2:] for args in pipeline.session.slots if isinstance(args, list)] == [[b"first"], [], [], [b"2"]]


def test_of_different_keys_each_runs() -> None:
    pipeline = Pipeline()
    key = pipeline.key
    route = pipeline.node.services.route
    second = next(name for n in range(999) if (name := b"x%d" % n) and route(name).coordinator == OTHER)
    pipeline.send([b"SET", second, b"first"])
    assert pipeline.sent() == [[b"SET", second, b"first"]]
    pipeline.node.receive(OTHER, [b"RELAYED", b"0", pipeline.number, b"\0\0\0\0", b"+OK\r\n"], 0)
    pipeline.send([b"SET", key, b"1"], [b"SET", second, b"2"], [b"SET", key, b"3"])
    assert pipeline.sent() == [[b"SET", second, b"2"]]
