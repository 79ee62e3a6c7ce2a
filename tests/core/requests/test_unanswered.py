"""What a client is told when its command's coordinator has not answered: which node that is, and what happened to it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from server.core.base.config import Config
from server.core.base.errors import ErrorReply
from server.core.node import Node
from server.core.requests.relays import STALE
from tests.core.commands.talking import Client, finish_turn, make_node, member, reach
from tests.core.commands.transactions.test_relayed import remote_key
from tests.core.requests.test_reads import messages_in

OTHER = member(2).id
CONFIG = Config(engine="memory", request_timeout_ms=3000, relay_silence_ms=1500)
NAMED = "node n2, which coordinates this key, "
WALL_MS = 1_700_000_000_000


def _link_breaks(node: Node, relay: bytes) -> None:
    node.disconnected(OTHER, 10)


def _nothing_comes(node: Node, relay: bytes) -> None:
    _tick_until(node, 1600, lambda now_ms: None)


def _other_messages_come(node: Node, relay: bytes) -> None:
    _tick_until(node, 3600, lambda now_ms: node.receive(OTHER, [b"UNKNOWN", b"0", b"0"], now_ms))


def _it_comes_too_late(node: Node, relay: bytes) -> None:
    node.receive(OTHER, [b"RELAYED", b"0", relay, b"\0\0\0\0", STALE], 3001)


def _tick_until(node: Node, end_ms: int, at_each: Callable[[int], None]) -> None:
    for now_ms in range(0, end_ms + 1, 100):
        at_each(now_ms)
        node.tick(now_ms, WALL_MS + now_ms)


WHAT_HAPPENS = {
    "the link breaks": (
        _link_breaks,
        "the connection to node n2, which coordinates this key, broke before the answer came",
    ),
    "nothing comes": (_nothing_comes, NAMED + "has sent nothing for 1500 ms"),
    "other messages come": (_other_messages_come, NAMED + "is there but has not answered within 3500 ms"),
    "it comes too late": (_it_comes_too_late, NAMED + "read the command too late to run it"),
}


@pytest.mark.parametrize("what", WHAT_HAPPENS)
def test_the_error_says_which_node_and_what_happened_to_it(what: str) -> None:
    happens, text = WHAT_HAPPENS[what]
    node = make_node(2, CONFIG)
    reach(node, 2)
    client = Client(node)
    node.command(client.session, [b"INCR", remote_key(node)], 0)
    sent = messages_in(finish_turn(node).messages[OTHER])
    [relay] = [message[2] for message in sent if message[0] == b"RELAY"]
    happens(node, relay)
    [reply] = [data for _, data in finish_turn(node).replies]
    assert isinstance(reply, bytes)
    failure = reply.decode().removeprefix("-").removesuffix("\r\n")
    is_late = what == "it comes too late"
    assert failure == (
        f"TIMEOUT {text}: got=0 wanted=1 hinted=0 "
        + ("outcome=unwritten: nothing was written; try again" if is_late
           else "outcome=maybe-written: the write may survive on the nodes that acknowledged it; read the key before you "
           "try again")
    )  # fmt: skip
    assert not isinstance(reply, ErrorReply) or reply.failure is not None
