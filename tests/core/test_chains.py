"""A chain travels whole to a coordinator that knows its commands, and one command at a time to a node of the version
before, which would refuse the message with a command that it does not know."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocol.peer_versions import CAPABILITIES, ENTRIES, ORDERLY
from protocol.slots import key_slot
from server.core import chains
from server.core.base.errors import CommandError
from server.core.base.lanes import Lanes, Parked
from server.core.base.routing import Plan
from server.core.base.sinks import Sink
from server.core.records.pending import Pending
from server.core.requests.relay_rows import RelayItem
from server.core.requests.write_groups import WriteGroup
from server.core.requests.writes import Writes
from tests.core.commands.talking import CONFIG, Client, finish_turn, make_node, member, reach
from tests.core.requests.test_reads import messages_in


@pytest.mark.parametrize(("capabilities", "count"), [(CAPABILITIES, 3), ((ORDERLY,), 1), ((ENTRIES,), 1)])
def test_a_chain_travels_whole_to_those_who_know_its_commands(capabilities: tuple[bytes, ...], count: int) -> None:
    client, other, key = _client_beside_a_coordinator(capabilities)
    node = client.node
    first = [b"SET", key, b"x", b"NX"]
    node.commands(client.session, [first, [b"APPEND", key, b"a"], [b"GET", key], [b"APPEND", key, b"b"]], 0)
    relay = _relay_in(finish_turn(node).messages[other])
    assert relay[5:] == [first], "the others wait in their lane"
    node.receive(other, [b"RELAYED", b"0", relay[2], b"\0\0\0\0", b"+OK\r\n"], 0)
    relay = _relay_in(finish_turn(node).messages[other])
    assert len(relay[5:]) == count


@pytest.mark.parametrize("line", [b"OBJECT ENCODING %s", b"MEMORY USAGE %s", b"LMPOP 1 %s LEFT"])
def test_no_command_of_a_key_overtakes_a_large_one_on_its_way_to_the_coordinator(line: bytes) -> None:
    """A large row is split by its commands' first arguments (`by_size`), which must be their keys."""
    client, other, key = _client_beside_a_coordinator(CAPABILITIES)
    node = client.node
    large = [b"APPEND", key, b"x" * 300_000]
    node.commands(client.session, [[b"SET", key, b"x", b"NX"], large, (line % key).split()], 0)
    relay = _relay_in(finish_turn(node).messages[other])
    node.receive(other, [b"RELAYED", b"0", relay[2], b"\0\0\0\0", b"+OK\r\n"], 0)
    outbox = finish_turn(node)
    assert other not in outbox.messages, "the last command waits behind the large one"
    (message,) = outbox.large[other]
    assert large[2] in message


def _client_beside_a_coordinator(capabilities: tuple[bytes, ...]) -> tuple[Client, str, bytes]:
    """A client of member 1, the id of member 2, which has these capabilities, and a key that member 2 coordinates."""
    node = make_node(2)
    reach(node, 2)
    other = member(2).id
    node.state.note_capabilities(other, capabilities)
    route = node.state.routes
    key = next(
        b"k%d" % n for n in range(99) if route[key_slot(b"k%d" % n) >> node.state.route_shift].coordinator == other
    )
    return Client(node), other, key


def _relay_in(data: bytes) -> list[object]:
    return next(list(each) for each in messages_in(data) if each[0] == b"RELAY")


@pytest.mark.interpreted
def test_a_chain_of_a_large_record_runs_with_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that its copies do not hold up other clients: each step begins with a quorum read of its own."""
    steps: list[int] = []
    run = chains.Chains.run

    def counted(self: chains.Chains, key: bytes, chain: list[RelayItem]) -> None:
        steps.append(len(chain))
        run(self, key, chain)

    monkeypatch.setattr(chains.Chains, "run", counted)
    monkeypatch.setattr(chains, "COPIED_BYTES_MAX", 250)
    node = make_node(1)
    client = Client(node)
    client.ask("SET k " + "x" * 100)
    lines = [[b"SET", b"k", b"y", b"GET"], *[[b"APPEND", b"k", b"%d" % number] for number in range(5)], [b"GET", b"k"]]
    node.commands(client.session, [[b"SET", b"k", b"x" * 100, b"XX"], *lines], 0)
    replies = b""
    while replies.count(b"\r\n") < 10:
        outbox = finish_turn(node)
        assert outbox.replies or steps, "the chain goes on"
        replies += b"".join([data for _, data in outbox.replies])
    assert replies.endswith(b":2\r\n:3\r\n:4\r\n:5\r\n:6\r\n$6\r\ny01234\r\n")
    assert steps[0] == 7
    assert len(steps) > 1, "the first record was too large for all of them without a pause"
    assert sum(steps) > 7


@pytest.mark.interpreted
def test_a_chain_counts_its_copies_by_the_record_that_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """If others change the key in the same turn, that may be longer than what the chain has read."""
    monkeypatch.setattr(chains, "COPIED_BYTES_MAX", 250)
    node = make_node(1)
    client = Client(node)
    rest: list[int] = []

    class Copying(chains.Chains):
        def __init__(self) -> None:
            pass

        def run_one(self, sink: Sink, number: int, args: list[bytes]) -> None:
            node.state.records.pending.made += 1

        def run(self, key: bytes, chain: list[RelayItem]) -> None:
            rest.append(len(chain))

    items = [RelayItem(client.session, number, [b"LRANGE", b"q", b"0", b"0"]) for number in range(5)]
    chain = chains._LocalChain(node.services, b"q", items, Copying())
    node.state.records.pending.by_key[chain.storage_key] = Pending(b"x" * 300)
    chain._run(None)
    assert rest == [4]


class _Chain:
    """A client of one node whose commands on key `k`, behind the first one, are a chain."""

    def __init__(self) -> None:
        self.node = make_node(1, replace(CONFIG, value_bytes_max=100))
        self.client = Client(self.node)
        self.client.ask("SET k old")
        self._changes = self.node.state.records.changes

    @property
    def writes(self) -> int:
        """How often the key was written since then."""
        return self.node.state.records.changes - self._changes

    def replies(self, *lines: str) -> list[bytes]:
        """The replies to the chain of these commands."""
        chain = [[b"SET", b"k", b"x", b"NX"], *[line.encode().split() for line in lines]]
        self.node.commands(self.client.session, chain, 0)
        replies = b""
        for _ in range(9):
            replies += b"".join([bytes(data) for _, data in finish_turn(self.node).replies])  # type: ignore[arg-type]
        assert not self.client.session.in_flight and not self.node.state.in_flight
        return replies.split(b"\r\n")[1:-1]


def test_of_sets_with_nothing_but_gets_between_only_the_last_one_runs() -> None:
    chain = _Chain()
    lines = [
        "get k",
        "SET k 1",
        "GET k",
        "GET k",
        "set k 2",
        "SET k 3",
        "get k",
        "SET k 4",
        "GET k",
        "APPEND k 5",
        "SET k 6",
    ]
    replies = chain.replies(*lines, "GET k", "SET k 7", "GET k")
    assert b" ".join(replies) == b"$3 old +OK $1 1 $1 1 +OK +OK $1 3 +OK $1 4 :2 +OK $1 6 +OK $1 7"
    assert chain.writes == 3, "SET k 4, APPEND k 5 and SET k 7"


def test_a_set_that_is_too_large_changes_nothing_for_the_gets_behind_it() -> None:
    chain = _Chain()
    replies = chain.replies("SET k 1", "SET k " + "x" * 101, "GET k", "SET k 2", "GET k")
    assert [reply[:4] for reply in replies] == [b"$3", b"old", b"+OK", b"-ERR", b"$1", b"1", b"+OK", b"$1", b"2"][2:]


@pytest.mark.parametrize("reason", ["events", "quarantine", "R > W"])
def test_sets_of_a_chain_run_one_by_one_if_somebody_could_tell(reason: str) -> None:
    chain = _Chain()
    if reason == "events":
        chain.client.ask("CONFIG SET notify-keyspace-events KA")
    elif reason == "quarantine":
        chain.node.state.quarantine.commands["held"] = None
    else:
        chain.client.session.read_quorum = 2
    replies = chain.replies("GET k", "SET k 1", "GET k", "SET k 2", "GET k")
    assert b" ".join(replies) == b"$3 old +OK $1 1 +OK $1 2"
    assert chain.writes == 2


@pytest.mark.interpreted
@pytest.mark.parametrize(
    ("error", "read"),
    [
        ("DISKFULL", b"$3 old"),
        ("NOQUORUM write: got=1 wanted=2 hinted=0 outcome=maybe-written: x", b"-NOQUORUM write: got=1"),
    ],
)
def test_gets_of_a_set_that_fails_read_only_if_nothing_was_written(
    error: str, read: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    group_for = Writes.group_for

    def refuse(self: Writes, plan: Plan, sink: Sink, quorum: int = 0) -> WriteGroup:
        if isinstance(sink, chains._LastSet):
            raise CommandError(error)
        return group_for(self, plan, sink, quorum)

    monkeypatch.setattr(Writes, "group_for", refuse)
    replies = b" ".join(_Chain().replies("GET k", "SET k 1", "GET k", "SET k 2", "GET k"))
    told = b"-" + error.encode()
    assert replies.startswith(b"$3 old " + told + b" " + read)
    assert replies.count(told) == 2 and replies.count(read) == (3 if error == "DISKFULL" else 4)
    assert replies.count(b"outcome=unread") == (0 if error == "DISKFULL" else 2)


@pytest.mark.parametrize(("line", "length"), [("GET k", 1024), ("get k", 1024), ("STRLEN k", 409)])
def test_a_wave_has_more_plain_commands_than_others(line: str, length: int) -> None:
    """Of SETs and GETs in turn 1,024; of SETs and other commands in turn as many as cost that."""
    lanes = Lanes()
    (lane,) = own = lanes.of_keys([b"k"])
    for number in range(1200):
        words = line.split() if number % 2 else ["SET", "k", "v"]
        lanes.park(Parked(number, [word.encode() for word in words], number % 2, own, number % 2 == 0, True))
    assert len(chains.next_wave(lane)) == length


def test_a_fault_in_a_chain_is_the_reply_to_each_of_its_commands() -> None:
    chain = _Chain()
    chain.node.state.unexpected.plant("chain")
    replies = chain.replies("GET k", "APPEND k 1", "GET k", "SET k 2")
    assert [reply.split()[0] for reply in replies] == [b"-ERR", b"-ERR", b"-ERR", b"+OK"], "a plain write needs no read"
    assert chain.client.ask("GET k") == "2"
