"""How scripts in threads are stopped: by SCRIPT KILL while their writes are being stored, and by a node that stops."""

from __future__ import annotations

from typing import Final

import pytest

from server.core.commands.slices import Slices
from server.core.commands.transactions import snapshot
from server.core.services.script_workers import BEAT_MS, TOO_MANY
from tests.core.commands.talking import Client, finish_turn, make_node
from tests.scripting.nodes import PatientClient, decoded, run_lua

COMPUTES: Final = "local n = 0 for i = 1, 3000000 do n = n + i % 7 end "
ENDLESS: Final = "while true do end"


def _client() -> PatientClient:
    node = make_node(1)
    return PatientClient(node, run_lua(node))


def _beside(client: PatientClient) -> PatientClient:
    """Another client of the same node."""
    return PatientClient(client.node, client.calls)


def _begin(client: PatientClient, text: str, *words: str) -> None:
    """Begins a script that does not end within the turn."""
    told = Client.raw_words(client, [b"EVAL", text.encode(), *[word.encode() for word in words]])
    assert told == b"", "it runs in a thread"


def test_a_script_whose_writes_are_being_stored_cannot_be_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = 0
    settle = snapshot.Snapshot.settle

    def settle_in_slices(self: snapshot.Snapshot) -> Slices[None]:
        nonlocal pauses
        pauses += 1
        yield
        yield from settle(self)

    monkeypatch.setattr(snapshot.Snapshot, "settle", settle_in_slices)
    client = _client()
    other = _beside(client)
    _begin(client, "redis.call('SET', KEYS[1], 1) " + COMPUTES + "return n", "1", "k")
    while not pauses:
        assert client.step() == b"", "it runs"
    assert other.error("SCRIPT KILL").startswith("UNKILLABLE Sorry the script already executed write commands")
    assert decoded(client.wait()) == 8999997
    assert other.ask("GET k") == "1"
    assert other.error("SCRIPT KILL") == "NOTBUSY No scripts in execution right now."


def test_a_node_that_stops_ends_scripts_of_which_nothing_stays() -> None:
    client = _client()
    several, waiting = _beside(client), _beside(client)
    _begin(client, "redis.call('SET', KEYS[1], 1) " + ENDLESS, "1", "k")
    both = "redis.call('SET', KEYS[1], 1) redis.call('SET', KEYS[2], 1) " + COMPUTES + "return n"
    _begin(several, both, "2", "a", "b")
    _begin(waiting, ENDLESS, "1", "w")
    client.node.services.shutdown.begin()
    told = {session: bytes(data) for session, data in finish_turn(client.node).replies}
    assert told == {
        client.session: b"-ERR the script was stopped: its node is about to stop. Nothing that it wrote was kept\r\n",
        waiting.session: b"-%b\r\n" % TOO_MANY.encode(),
    }
    assert not client.node.services.shutdown.over
    assert decoded(several.wait()) == 8999997, "what it has written stays, so it may end"
    for _ in range(2):
        client.now_ms += BEAT_MS
        client.node.wake(client.now_ms)
        assert not list(finish_turn(client.node).replies)
    assert client.node.services.shutdown.over, "long before a request's time is over"
