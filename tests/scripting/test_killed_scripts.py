"""SCRIPT KILL, FUNCTION KILL and the end of a node: what becomes of long scripts."""

from __future__ import annotations

import pytest

from server.core.commands.slices import Slices
from server.core.commands.transactions import snapshot
from server.core.services.script_workers import BEAT_MS, TOO_MANY
from tests.core.commands.talking import CONFIG, Client, finish_turn
from tests.scripting.long_running import (
    COMPUTES,
    ENDLESS,
    begin_script,
    client_beside,
    client_of,
    eval_script,
    pass_time,
    replies_to,
)
from tests.scripting.nodes import decoded


def test_script_kill_ends_what_has_written_nothing_that_stays() -> None:
    client = client_of()
    other = client_beside(client)
    assert other.error("SCRIPT KILL") == "NOTBUSY No scripts in execution right now."
    begin_script(client, "redis.call('SET', KEYS[1], 1) " + ENDLESS, "1", "k")
    assert other.error("FUNCTION KILL") == (
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
    )
    outcome = replies_to(other, b"SCRIPT", b"KILL")
    assert outcome[other.session] == b"+OK\r\n"
    assert outcome[client.session] == (
        b"-ERR Script killed by user with SCRIPT KILL. Nothing that it wrote was kept\r\n"
    )
    assert other.ask("EXISTS k") == 0
    assert other.error("SCRIPT KILL") == "NOTBUSY No scripts in execution right now."
    assert eval_script(client, COMPUTES + "return n", "0") == 8999997, "its worker takes the next script"


def test_a_script_that_has_written_over_several_slots_cannot_be_killed() -> None:
    client = client_of()
    other = client_beside(client)
    begin_script(client, "redis.call('SET', KEYS[1], 1) redis.call('SET', KEYS[2], 1) " + ENDLESS, "2", "a", "b")
    assert other.error("SCRIPT KILL").startswith("UNKILLABLE Sorry the script already executed write commands")
    told = pass_time(client.node, client, CONFIG.script_ms_max + 2 * BEAT_MS)
    assert told[client.session] == b"-ERR the script was stopped: it took longer than script_ms_max=10000 ms\r\n"
    assert other.ask("MGET a b") == ["1", "1"]


def test_a_script_whose_writes_are_being_stored_cannot_be_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = 0
    settle = snapshot.Snapshot.settle

    def settle_in_slices(self: snapshot.Snapshot) -> Slices[None]:
        nonlocal pauses
        pauses += 1
        yield
        yield from settle(self)

    monkeypatch.setattr(snapshot.Snapshot, "settle", settle_in_slices)
    client = client_of()
    other = client_beside(client)
    begin_script(client, "redis.call('SET', KEYS[1], 1) " + COMPUTES + "return n", "1", "k")
    while not pauses:
        assert client.step() == b"", "it runs"
    assert other.error("SCRIPT KILL").startswith("UNKILLABLE Sorry the script already executed write commands")
    assert decoded(client.wait()) == 8999997
    assert other.ask("GET k") == "1"
    assert other.error("SCRIPT KILL") == "NOTBUSY No scripts in execution right now."


def test_a_node_that_stops_ends_scripts_of_which_nothing_stays() -> None:
    client = client_of()
    several, waiting = client_beside(client), client_beside(client)
    begin_script(client, "redis.call('SET', KEYS[1], 1) " + ENDLESS, "1", "k")
    both = "redis.call('SET', KEYS[1], 1) redis.call('SET', KEYS[2], 1) " + COMPUTES + "return n"
    begin_script(several, both, "2", "a", "b")
    begin_script(waiting, ENDLESS, "1", "w")
    client.node.services.shutdown.begin()
    told = {session: bytes(data) for session, data in finish_turn(client.node).replies}
    assert told == {
        client.session: b"-ERR the script was stopped: its node is about to stop. Nothing that it wrote was kept\r\n",
        waiting.session: b"-%b\r\n" % TOO_MANY.encode(),
    }
    assert not client.node.services.shutdown.over
    assert decoded(several.wait()) == 8999997, "what it has written stays, so it may end"
    assert pass_time(client.node, client, client.now_ms + 2 * BEAT_MS) == {}
    assert client.node.services.shutdown.over, "long before a request's time is over"


def test_functions_are_killed_and_shown_by_function_commands() -> None:
    client = client_of()
    other = client_beside(client)
    library = f"#!lua name=lib\nredis.register_function('spin', function() {ENDLESS} end)"
    client.raw_words([b"FUNCTION", b"LOAD", library.encode()])
    assert Client.raw_words(client, [b"FCALL", b"spin", b"1", b"k", b"arg"]) == b""
    assert other.error("SCRIPT KILL") == (
        "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE."
    )
    stats = other.ask("FUNCTION STATS")
    assert stats[1][:4] == ["name", "spin", "command", ["fcall", "spin", "1", "k", "arg"]]
    outcome = replies_to(other, b"FUNCTION", b"KILL")
    assert outcome[client.session].startswith(b"-ERR Script killed by user with FUNCTION KILL")
    assert other.ask("FUNCTION STATS")[1] is None
