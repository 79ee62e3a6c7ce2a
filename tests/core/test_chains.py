"""A chain travels whole to a coordinator that knows its commands, and one command at a time to a node of the version
before, which would refuse the message with a command that it does not know."""

from __future__ import annotations

import pytest

from protocol.peer_versions import CAPABILITIES, ENTRIES, ORDERLY
from protocol.slots import key_slot
from server.core import chains
from server.core.requests.relay_rows import RelayItem
from tests.core.commands.talking import Client, finish_turn, make_node, member, reach
from tests.core.requests.test_reads import messages_in


@pytest.mark.parametrize(("capabilities", "count"), [(CAPABILITIES, 3), ((ORDERLY,), 1), ((ENTRIES,), 1)])
def test_a_chain_travels_whole_to_those_who_know_its_commands(capabilities: tuple[bytes, ...], count: int) -> None:
    node = make_node(2)
    reach(node, 2)
    other = member(2).id
    node.state.note_capabilities(other, capabilities)
    route = node.state.routes
    key = next(
        b"k%d" % n for n in range(99) if route[key_slot(b"k%d" % n) >> node.state.route_shift].coordinator == other
    )
    client = Client(node)
    first = [b"SET", key, b"x", b"NX"]
    node.commands(client.session, [first, [b"APPEND", key, b"a"], [b"GET", key], [b"APPEND", key, b"b"]], 0)
    relay = _relay_in(finish_turn(node).messages[other])
    assert relay[5:] == [first], "the others wait in their lane"
    node.receive(other, [b"RELAYED", b"0", relay[2], b"\0\0\0\0", b"+OK\r\n"], 0)
    relay = _relay_in(finish_turn(node).messages[other])
    assert len(relay[5:]) == count


def _relay_in(data: bytes) -> list[object]:
    return next(list(each) for each in messages_in(data) if each[0] == b"RELAY")


@pytest.mark.interpreted
def test_a_chain_of_a_large_record_runs_in_several_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that its copies do not hold up other clients: each step begins with a quorum read of its own."""
    steps: list[int] = []
    run = chains.Chains.run

    def counted(self: chains.Chains, key: bytes, chain: list[RelayItem]) -> None:
        steps.append(len(chain))
        run(self, key, chain)

    monkeypatch.setattr(chains.Chains, "run", counted)
    monkeypatch.setattr(chains, "STEP_BYTES_MAX", 250)
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
    assert len(steps) > 1, "the first record was too large for all of them in one step"
    assert sum(steps) > 7
