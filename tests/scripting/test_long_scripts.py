"""Scripts that take longer than a turn may last: they run in a thread, beside the other clients of their node."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final

import pytest

from server.core.base.config import Config
from server.core.commands.scripting import steps
from server.core.commands.transactions import snapshot
from server.core.node import Node
from server.core.services import script_workers
from server.core.services.script_workers import BEAT_MS, WAITING_MAX, WORKERS_MAX
from server.core.work.procedures import Procedure, Step
from server.scripting.runtime import Runtime
from server.scripting.workers import ScriptThread
from tests.core.commands.talking import CONFIG, Client, finish_turn, make_node
from tests.scripting.nodes import PatientClient, decoded, run_lua
from tests.scripting.running import MEMORY_BYTES, Clock

COMPUTES: Final = "local n = 0 for i = 1, 3000000 do n = n + i % 7 end "
ENDLESS: Final = "while true do end"


def _client(config: Config = CONFIG) -> PatientClient:
    node = make_node(1, config)
    return PatientClient(node, run_lua(node))


def _beside(client: PatientClient) -> PatientClient:
    """Another client of the same node."""
    return PatientClient(client.node, client.calls)


def _eval(client: PatientClient, text: str, *words: str) -> object:
    return decoded(client.raw_words([b"EVAL", text.encode(), *[word.encode() for word in words]]))


def _begin(client: PatientClient, text: str, *words: str) -> None:
    """Begins a script that does not end within the turn."""
    told = Client.raw_words(client, [b"EVAL", text.encode(), *[word.encode() for word in words]])
    assert told == b"", "it runs in a thread"


def _pass_time(node: Node, client: PatientClient, until_ms: int) -> dict[object, bytes]:
    """Lets time pass until then, whatever threads do. Returns what each session got."""
    told: dict[object, bytes] = {}
    while client.now_ms < until_ms:
        client.now_ms += BEAT_MS
        node.wake(client.now_ms)
        for session, data in finish_turn(node).replies:
            told[session] = told.get(session, b"") + bytes(data)
    return told


def _runs(client: PatientClient) -> list[int]:
    """A list of one number: how often a script has begun in a thread."""
    count, workers = [0], client.node.services.scripts.workers
    make = workers.make_worker
    assert make is not None, "the node runs Lua"

    class Counting:
        def __init__(self) -> None:
            self._worker = make()

        def begin(self, *args: object) -> object:
            count[0] += 1
            return self._worker.begin(*args)  # type: ignore[arg-type]

    workers.make_worker = Counting  # type: ignore[assignment]
    return count


def test_a_script_that_computes_for_long_ends_as_in_redis() -> None:
    client = _client()
    assert _eval(client, COMPUTES + "return n", "0") == 8999997
    text = "redis.call('SET', KEYS[1], ARGV[1]) " + COMPUTES + "redis.call('APPEND', KEYS[1], n) return n"
    assert _eval(client, text, "1", "k", "was ") == 8999997
    assert client.ask("GET k") == "was 8999997"


def test_thousands_of_commands_of_one_slot_are_one_step() -> None:
    client = _client()
    text = "for i = 1, 1900 do redis.call('RPUSH', KEYS[1], i) end return redis.call('LLEN', KEYS[1])"
    assert _eval(client, text, "1", "l") == 1900
    assert client.ask("LRANGE l 0 2") == ["1", "2", "3"]
    assert client.ask("LLEN l") == 1900, "the attempt within the turn has left nothing"


def test_a_script_in_a_thread_is_isolated() -> None:
    client = _client()
    other, third = _beside(client), _beside(client)
    _begin(client, "redis.call('INCR', KEYS[1]) " + COMPUTES + "return redis.call('INCR', KEYS[1])", "1", "k")
    assert third.ask("GET k") is None, "a part of it is not seen"
    assert Client.raw_words(other, [b"INCR", b"k"]) == b"", "it waits for the script"
    assert third.ask("INCR elsewhere") == 1
    assert decoded(client.wait()) == 2
    assert third.ask("GET k") == "3"


def test_errors_of_a_long_script_name_their_line() -> None:
    reply = str(_eval(_client(), COMPUTES + "\nerror('oops')", "0"))
    assert re.fullmatch(r"ERR user_script:2: oops script: [0-9a-f]{40}, on @user_script:2\.", reply)


def test_keys_that_a_script_names_late_are_read_where_it_stands() -> None:
    client = _client()
    runs = _runs(client)
    client.ask("MSET {t}1 10 {t}2 20 {t}150 6000")
    text = (
        "local sum = 0 for i = 1, 150 do sum = sum + (redis.call('GET', '{t}' .. i) or 0) "
        "redis.call('SET', '{t}' .. i, i) end return sum"
    )
    assert _eval(client, text, "1", "{t}1") == 6030
    assert runs == [1]
    assert client.ask("GET {t}149") == "149"


def test_late_keys_of_other_slots_with_the_same_owners_are_read_where_it_stands() -> None:
    client = _client()
    runs = _runs(client)
    text = "for i = 1, 150 do redis.call('SET', 'late' .. i, i) end return redis.call('GET', 'late7')"
    assert _eval(client, text, "1", "a") == b"7"
    assert runs == [1]
    strict = _client(replace(CONFIG, multi_slots="strict"))
    reply = _eval(strict, COMPUTES + text, "1", "a")
    assert str(reply) == "CROSSSLOT Keys in request don't hash to the same slot"
    assert strict.ask("EXISTS late1") == 0


def test_late_keys_have_the_limit_of_all_keys() -> None:
    client = _client(replace(CONFIG, transaction_keys_max=100))
    text = "for i = 1, 120 do redis.call('SET', '{t}' .. i, i) end"
    assert str(_eval(client, text, "1", "{t}1")).startswith("ERR this needs more than transaction_keys_max=100 keys")
    assert client.ask("EXISTS {t}1") == 0


def test_late_keys_of_many_slots_have_no_such_limit() -> None:
    client = _client(replace(CONFIG, transaction_keys_max=100))
    assert (
        _eval(client, "for i = 1, 120 do redis.call('SET', 'late' .. i, i) end return redis.call('GET', 'late7')", "0")
        == b"7"
    )


def test_two_scripts_that_name_each_others_keys_late_both_end() -> None:
    client = _client()
    other = _beside(client)
    text = COMPUTES + "return {redis.call('INCR', KEYS[1]), redis.call('INCR', ARGV[1])}"
    _begin(client, text, "1", "{t}a", "{t}b")
    _begin(other, text, "1", "{t}b", "{t}a")
    told: dict[object, bytes] = {}
    while len(told) < 2:
        client.now_ms += 1
        if not client.node.services.timers._slices:
            client.calls.get(timeout=60)()
        client.node.wake(client.now_ms)
        for session, data in finish_turn(client.node).replies:
            told[session] = bytes(data)
    assert sorted(map(str, map(decoded, told.values()))) == ["[1, 1]", "[2, 2]"]


def test_a_script_that_others_overtake_begins_anew() -> None:
    client = _client()
    runs = _runs(client)
    text = (
        "local was = redis.call('GET', KEYS[1]) or '' " + COMPUTES + "redis.call('SET', KEYS[1], was .. '!') return was"
    )
    _begin(client, text, "1", "k")
    assert _beside(client).ask("SET k new") == "OK"
    assert decoded(client.wait()) == b"new"
    assert runs == [2]
    assert client.ask("GET k") == "new!"


def test_a_script_over_several_slots_runs_each_command_once() -> None:
    client = _client()
    runs = _runs(client)
    text = "for i = 1, 3000 do redis.call('INCR', 'key' .. i % 1000) end return redis.call('GET', 'key7')"
    assert _eval(client, text, "2", "a", "b") == b"3"
    assert {client.ask(f"GET key{number}") for number in range(1000)} == {"3"}
    assert runs == [1]


def test_what_a_script_waits_for_its_commands_over_several_slots_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = _client(replace(CONFIG, script_ms_max=500))
    run_command = steps._run_command

    def slow(*args: Any) -> Step:
        step = run_command(*args)

        def start(procedure: Procedure) -> None:
            client.now_ms += 20
            client.node.state.at(client.now_ms)
            step(procedure)

        return start

    monkeypatch.setattr(steps, "_run_command", slow)
    text = "for i = 1, 100 do redis.call('SET', 'key' .. i, i) end "
    assert _eval(client, text + "return redis.call('GET', 'key9')", "2", "a", "b") == b"9"
    _begin(client, text + ENDLESS, "2", "a", "b")
    told: dict[object, bytes] = {}
    while client.node.services.scripts.workers.running and not told:
        client.now_ms += BEAT_MS
        while not client.calls.empty():
            client.calls.get()()
        client.node.wake(client.now_ms)
        told = {session: bytes(data) for session, data in finish_turn(client.node).replies}
    assert told[client.session].startswith(b"-ERR the script was stopped: it took longer than script_ms_max=500 ms")


def test_a_script_over_several_slots_may_compute_before_its_first_command() -> None:
    client = _client()
    assert _eval(
        client, COMPUTES + "redis.call('SET', KEYS[1], n) return redis.call('GET', KEYS[1])", "2", "a", "b"
    ) == (b"8999997")


@pytest.mark.interpreted
def test_a_command_that_goes_through_a_whole_collection_is_done_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "SCRIPT_SLICES_MAX", 0)
    client = _client()
    other = _beside(client)
    client.raw_words([b"SADD", b"s", *[b"%d" % number for number in range(9_000)]])
    _begin(client, "redis.call('SET', '{s}', 1) return #redis.call('SMEMBERS', KEYS[1])", "1", "s")
    pings = 0
    while not (told := client.step()):
        assert other.ask("PING") == "PONG"
        pings += 1
    assert decoded(told) == 9_000
    assert pings >= 4
    assert client.ask("EXISTS {s}") == 1


def test_script_kill_ends_what_has_written_nothing_that_stays() -> None:
    client = _client()
    other = _beside(client)
    assert other.error("SCRIPT KILL") == "NOTBUSY No scripts in execution right now."
    _begin(client, "redis.call('SET', KEYS[1], 1) " + ENDLESS, "1", "k")
    assert other.error("FUNCTION KILL") == (
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
    )
    outcome = _replies(other, b"SCRIPT", b"KILL")
    assert outcome[other.session] == b"+OK\r\n"
    assert outcome[client.session] == (
        b"-ERR Script killed by user with SCRIPT KILL. Nothing that it wrote was kept\r\n"
    )
    assert other.ask("EXISTS k") == 0
    assert other.error("SCRIPT KILL") == "NOTBUSY No scripts in execution right now."
    assert _eval(client, COMPUTES + "return n", "0") == 8999997, "its worker takes the next script"


def _replies(client: PatientClient, *words: bytes) -> dict[object, bytes]:
    """Sends a command; what each session got in that turn."""
    client.node.command(client.session, list(words), client.now_ms)
    return {session: bytes(data) for session, data in finish_turn(client.node).replies}


def test_a_script_that_has_written_over_several_slots_cannot_be_killed() -> None:
    client = _client()
    other = _beside(client)
    _begin(client, "redis.call('SET', KEYS[1], 1) redis.call('SET', KEYS[2], 1) " + ENDLESS, "2", "a", "b")
    assert other.error("SCRIPT KILL").startswith("UNKILLABLE Sorry the script already executed write commands")
    told = _pass_time(client.node, client, CONFIG.script_ms_max + 2 * BEAT_MS)
    assert told[client.session] == b"-ERR the script was stopped: it took longer than script_ms_max=10000 ms\r\n"
    assert other.ask("MGET a b") == ["1", "1"]


def test_functions_are_killed_and_shown_by_function_commands() -> None:
    client = _client()
    other = _beside(client)
    library = f"#!lua name=lib\nredis.register_function('spin', function() {ENDLESS} end)"
    client.raw_words([b"FUNCTION", b"LOAD", library.encode()])
    assert Client.raw_words(client, [b"FCALL", b"spin", b"1", b"k", b"arg"]) == b""
    assert other.error("SCRIPT KILL") == (
        "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE."
    )
    stats = other.ask("FUNCTION STATS")
    assert stats[1][:4] == ["name", "spin", "command", ["fcall", "spin", "1", "k", "arg"]]
    outcome = _replies(other, b"FUNCTION", b"KILL")
    assert outcome[client.session].startswith(b"-ERR Script killed by user with FUNCTION KILL")
    assert other.ask("FUNCTION STATS")[1] is None


def test_those_who_wait_for_its_keys_hear_busy_after_a_while() -> None:
    client = _client()
    others = [_beside(client) for _ in range(3)]
    _begin(client, "redis.call('SET', KEYS[1], 1) " + ENDLESS, "1", "k")
    commands = [[b"INCR", b"k"], [b"EVAL", b"return redis.call('GET', KEYS[1])", b"1", b"k"], [b"SETNX", b"k", b"v"]]
    for other, words in zip(others, commands, strict=True):
        assert Client.raw_words(other, words) == b""
    busy_ms = min(script_workers.BUSY_MS, CONFIG.request_timeout_ms)
    assert _pass_time(client.node, client, busy_ms - BEAT_MS) == {}
    told = _pass_time(client.node, client, busy_ms + BEAT_MS)
    busy = b"-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n"
    assert told == {other.session: busy for other in others}
    assert others[0].raw("INCR k") == busy, "so does one that comes now"
    assert others[0].ask("INCR elsewhere") == 1
    assert others[0].ask("GET k") is None
    _replies(others[1], b"SCRIPT", b"KILL")
    assert others[0].ask("INCR k") == 1


def test_a_script_ends_once_it_has_run_for_its_time() -> None:
    client = _client(replace(CONFIG, script_ms_max=2_000))
    _begin(client, "redis.call('SET', KEYS[1], 1) " + ENDLESS, "1", "k")
    assert _pass_time(client.node, client, 2_000 - BEAT_MS) == {}
    told = _pass_time(client.node, client, 2_000 + BEAT_MS)
    assert told[client.session] == (
        b"-ERR the script was stopped: it took longer than script_ms_max=2000 ms. Nothing that it wrote was kept\r\n"
    )
    assert client.ask("EXISTS k") == 0


def test_scripts_wait_for_a_worker_in_their_order_and_not_for_long() -> None:
    client = _client()
    clients = [_beside(client) for _ in range(WORKERS_MAX + WAITING_MAX)]
    for number, each in enumerate(clients[:WORKERS_MAX]):
        _begin(each, ENDLESS, "1", f"k{number}")
    for number, each in enumerate(clients[WORKERS_MAX:]):
        _begin(each, COMPUTES + "return n", "1", f"w{number}")
    assert str(_eval(client, ENDLESS, "0")).startswith(f"BUSY this node runs {WORKERS_MAX} long scripts")
    told = _pass_time(client.node, client, CONFIG.request_timeout_ms + BEAT_MS)
    assert {data[:30] for data in told.values()} == {b"-BUSY this node runs 2 long sc"}
    assert list(told) == [each.session for each in clients[WORKERS_MAX:]]
    _begin(clients[-1], COMPUTES + "return n", "1", "w")
    _replies(client, b"SCRIPT", b"KILL")
    assert decoded(clients[-1].wait()) == 8999997


def test_what_a_long_script_asks_besides_commands_is_answered() -> None:
    client = _client()
    text = COMPUTES + (
        "redis.log(redis.LOG_WARNING, 'so', n) redis.call('SELECT', 3) redis.call('SET', KEYS[1], 'three') "
        "return {redis.acl_check_cmd('GET', 'k'), redis.pcall('NONSENSE')['err'], redis.sha1hex('x')}"
    )
    reply = _eval(client, text, "1", "k")
    assert isinstance(reply, list)
    assert reply[0] == 1
    assert reply[1] == b"ERR Unknown Redis command called from script"
    assert reply[2] == b"11f6ad8ec52a2984abaafd7c3b516503785c2072"
    assert client.node.services.scripts.drain_lines() == [(3, "so 8999997")]
    assert client.ask("EXISTS k") == 0
    client.ask("SELECT 3")
    assert client.ask("GET k") == "three"


def test_the_memory_of_a_long_script_has_its_limit() -> None:
    client = _client()
    text = COMPUTES + "local t = {} while true do t[#t + 1] = string.rep(#t .. '-', 200) end"
    assert str(_eval(client, text, "0")).startswith(
        "ERR the script was stopped: it needed more than script_memory_bytes_max"
    )
    assert _eval(client, COMPUTES + "return n", "0") == 8999997


def test_a_function_that_cannot_be_stopped_may_take_as_long_as_the_script() -> None:
    client = _client()
    assert _eval(client, "local t = {} for i = 1, 15000 do t[i] = -i end table.sort(t) return t[1]", "0") == -15000
    text = "return string.find(string.rep('a', 40), string.rep('a*', 20) .. 'b')"
    assert str(_eval(client, text, "0")).startswith(
        "ERR the script was stopped: a single function that it called could"
    )


def test_a_worker_that_fails_ends_its_script_alone() -> None:
    client = _client()

    def fail(clock: Clock) -> Runtime:
        raise KeyError("planted")

    make_runtime = fail
    workers = client.node.services.scripts.workers
    workers.make_worker = lambda: ScriptThread(lambda clock: make_runtime(clock), client.calls.put)
    assert str(_eval(client, ENDLESS, "0")).startswith("ERR internal error")
    make_runtime = lambda clock: Runtime(MEMORY_BYTES, clock)  # noqa: E731
    assert _eval(client, COMPUTES + "return n", "0") == 8999997
