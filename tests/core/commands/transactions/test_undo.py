"""A command of a transaction that answers an error has written nothing, wherever it was when it failed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from server.core.base.errors import CommandError
from server.core.base.sinks import Sink
from server.core.commands import registry
from server.core.node import Node
from server.core.records.draft import Draft
from server.core.records.slicing import Slices
from server.core.services.services import Services
from tests.core.commands.talking import Client, finish_turn, make_node
from tests.core.commands.transactions.test_atomic_run import Caught


@pytest.fixture
def node() -> Node:
    """A node that serves all keys alone, and tells all changes."""
    node = make_node()
    Client(node).ask("CONFIG SET notify-keyspace-events KEA")
    return node


@pytest.mark.interpreted
@pytest.mark.parametrize("error", [ValueError("planted"), CommandError("ERR planted")])
def test_what_a_command_has_written_before_it_fails_is_undone(
    node: Node, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = registry.find_command([b"SET", b"k", b"v"])
    assert spec is not None

    def write_and_fail(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes | None:
        reply = spec.handler(services, sink, number, args)
        if args[2] != b"bad":
            return reply
        raise error

    monkeypatch.setitem(registry.commands_by_name(), b"SET", replace(spec, handler=write_and_fail))
    client, listener = Client(node), Client(node)
    listener.raw("PSUBSCRIBE __keyevent*")
    client.raw("MULTI", "SET {t}a good", "SET {t}a bad", "SET {t}b bad", "APPEND {t}a !", "EXISTS {t}b")
    replies = client.ask("EXEC")
    assert [str(reply)[:3] for reply in replies] == ["OK", "ERR", "ERR", "5", "0"]
    told = client.pushed[listener.session]
    assert (told.count(b"keyevent@0__:set"), told.count(b"keyevent@0__:append")) == (1, 1)
    assert client.ask("MGET {t}a {t}b") == ["good!", None]


def _fail(self: Draft, actor: bytes, counter: int) -> Slices[bytes]:
    yield
    raise ValueError("planted")


def _pass(node: Node, begin_ms: int) -> bytes:
    """Some turns pass: what is said in them."""
    told = b""
    for now_ms in range(begin_ms, begin_ms + 50, 2):
        node.wake(now_ms)
        told += b"".join([data for _, data in finish_turn(node).replies])
    return told


@pytest.mark.interpreted
@pytest.mark.parametrize("elements", [3, 3000])
def test_a_pop_whose_record_cannot_be_made_has_changed_nothing(
    node: Node, elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(node)
    client.raw_words([b"RPUSH", b"l", *[b"%d" % number for number in range(elements)]])
    _pass(node, 2)

    with monkeypatch.context() as patch:
        patch.setattr(Draft, "record_in_slices", _fail)
        told = client.raw(f"BLMPOP 0 1 l LEFT COUNT {elements}") + _pass(node, 100)
    assert told.startswith(b"-ERR internal error"), "and the node goes on"
    assert node.services.waiting.deliveries.unsettled() == 0
    assert client.ask("LLEN l") == elements


@pytest.mark.interpreted
def test_what_could_not_be_put_back_is_put_back_by_the_next_attempt(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    Client(node).ask("RPUSH other x")  # the first write of a type stores who reads it, too
    words = [b"DYN.PUTBACK", b"l", b"node:1", b"LEFT", b"x"]
    replies = []
    for fails in (True, False, False):
        sink = Caught()
        with monkeypatch.context() as patch:
            if fails:
                patch.setattr(Draft, "record_in_slices", _fail)
            node.services.relays.begin(sink, 0, words)
            _pass(node, 2)
        replies += sink.replies
    assert [reply[:4] for reply in replies] == [b"-ERR", b":1\r\n", b":0\r\n"]
    assert Client(node).ask("LRANGE l 0 -1") == ["x"]
