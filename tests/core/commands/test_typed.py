"""Commands of types at one node: replies, type rules, expiries, and the steps of commands over several keys."""

from __future__ import annotations

from dataclasses import replace as replace_config
from typing import Any

import pytest

from protocol import resp
from server.core.commands.typed_steps import content_of, gather, remove_seen, replace
from server.core.records.records import storage_key_of
from server.core.records.slicing import run_through
from server.core.records.versions import verify
from server.core.work.procedures import Steps
from tests.core.commands.talking import CONFIG, Client, finish_turn, make_node, member, reach

WRONGTYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"


def test_a_hash_is_written_and_read() -> None:
    client = Client(make_node())
    assert client.ask("HSET h a 1 b 2 a 3") == 2
    assert client.ask("HGET h a") == "3"
    assert client.ask("HLEN h") == 2
    assert client.ask("HGET h c") is None
    assert client.ask("HDEL h a c a") == 1
    assert client.ask("TYPE h") == "hash"
    assert client.ask("HDEL h b") == 1
    assert (client.ask("TYPE h"), client.ask("EXISTS h"), client.ask("HLEN h")) == ("none", 0, 0)
    assert client.error("HSET h a") == "ERR wrong number of arguments for 'hset' command"
    assert client.error("HSET h a 1 b") == "ERR wrong number of arguments for 'hset' command"


def test_a_counter_is_a_string() -> None:
    client = Client(make_node())
    assert client.ask("INCR c") == 1
    assert client.ask("INCRBY c 10") == 11
    assert client.ask("DECR c") == 10
    assert client.ask("DECRBY c -5") == 15
    assert (client.ask("GET c"), client.ask("TYPE c"), client.ask("STRLEN c")) == ("15", "string", 2)
    assert client.ask("DYN.GET c")[1] == ["15"]
    assert client.ask("MGET c h") == ["15", None]
    assert client.ask("SET c 7") == "OK"
    assert client.ask("INCR c") == 8
    assert client.ask("SET c x GET") == "8"
    assert client.error("INCR c") == "ERR value is not an integer or out of range"
    assert client.error("INCRBY c 1.5") == "ERR value is not an integer or out of range"


def test_counters_do_not_overflow() -> None:
    client = Client(make_node())
    client.ask(f"SET c {(1 << 63) - 2}")
    assert client.ask("INCR c") == (1 << 63) - 1
    assert client.error("INCR c") == "ERR increment or decrement would overflow"
    assert client.error(f"DECRBY c {-(1 << 63)}") == "ERR decrement would overflow"
    assert client.ask("GET c") == str((1 << 63) - 1)


OTHERS = "GET h|INCR h|STRLEN h|SET h x GET|GETDEL h|DYN.GET h|HGET s f|HSET s f v|HDEL s f|HLEN s"


@pytest.mark.parametrize("line", OTHERS.split("|"))
def test_a_command_of_another_type_is_refused(line: str) -> None:
    client = Client(make_node())
    client.ask("HSET h f v")
    client.ask("SET s v")
    assert client.error(line) == WRONGTYPE
    assert (client.ask("HGET h f"), client.ask("GET s")) == ("v", "v")


def test_a_string_may_be_set_over_anything() -> None:
    client = Client(make_node())
    client.ask("HSET h f v")
    assert client.ask("MGET h s") == [None, None]
    assert client.ask("SET h v NX") is None
    assert client.ask("SET h v XX") == "OK"
    assert client.ask("GET h") == "v"
    assert client.ask("DEL h") == 1
    assert client.ask("HSET h f w") == 1


@pytest.mark.parametrize("write", ["HSET k f v", "INCRBY k 5", "SET k 5"])
def test_keys_of_all_types_expire(write: str) -> None:
    node = make_node()
    client = Client(node)
    client.ask(write)
    assert client.ask("TTL k") == -1
    assert client.ask("EXPIRE k 100") == 1
    assert client.ask("TTL k") == 100
    assert client.ask("PERSIST k") == 1
    assert client.ask("TTL k") == -1
    assert client.ask("EXPIRE k 100") == 1
    client.ask("HSET k g w" if write.startswith("H") else "INCR k")
    assert client.ask("TTL k") == 100, "a change of the value keeps the expiry"
    client.now_ms += 100_001
    assert (client.ask("EXISTS k"), client.ask("TTL k"), client.ask("TYPE k")) == (0, -2, "none")
    client.ask(write)
    assert client.ask("TTL k") == -1, "the key begins anew"
    assert client.ask("EXPIRE k -1") == 1
    assert client.ask("EXISTS k") == 0


def test_an_expired_counter_begins_anew() -> None:
    client = Client(make_node())
    client.ask("SET c 5 PX 10")
    assert client.ask("INCR c") == 6
    client.now_ms += 11
    assert client.ask("INCR c") == 1
    assert client.ask("TTL c") == -1


def test_a_record_has_a_size_limit_and_may_always_become_smaller() -> None:
    client = Client(make_node(config=replace_config(CONFIG, value_bytes_max=500, record_bytes_max=1000)))
    for number in range(10):
        client.ask(f"HSET h {number} {'v' * 40}")
    told = client.error(f"HSET h more {'v' * 300}")
    assert told.startswith("ERR the key would have ")
    assert told.endswith(" bytes with all its fields and record_bytes_max is 1000: nothing was written")
    assert (client.ask("HLEN h"), client.ask("HGET h more")) == (10, None)
    assert client.ask("HDEL h 1") == 1
    assert client.ask(f"HSET h 2 {'w' * 40}") == 0


def test_of_commands_on_one_key_in_one_turn_the_last_record_is_sent() -> None:
    node = make_node(3)
    client = Client(node)
    for number in (2, 3):
        reach(node, number)
        node.greeted(member(number).id, 0, (b"entries",))
    client.raw("DYN.QUORUM R 1 W 1")
    key = next(key for key in map(str, range(100)) if node.services.route(key.encode()).coordinator is None)
    other = next(
        other for other in map(str, range(100, 200)) if node.services.route(other.encode()).coordinator is None
    )
    for line in (f"INCR {key}", f"INCR {key}", f"INCR {other}", f"INCR {key}", f"INCR {key}"):
        client.node.command(client.session, [word.encode() for word in line.split()], 0)
    sent = b"".join([finish_turn(node).messages.get(member(2).id, b"") for _ in range(4)])
    record = node.state.records.get(storage_key_of(key.encode())) or b""
    assert record in sent
    assert sent.count(storage_key_of(key.encode())) == 2, "one for the first command, one for the chain of the others"
    assert client.ask(f"GET {key}") == "4"


def run(client: Client, steps: Steps) -> Any:
    """Runs a procedure at the client's node, and answers its reply."""
    number = client.session.open([b"TEST"])
    client.node.services.run_steps(steps, client.session, number)
    return client.raw().decode()


def test_several_keys_are_read_and_written_by_steps() -> None:
    node = make_node()
    client = Client(node)
    client.ask("HSET h a 1 b 2")
    client.ask("EXPIRE h 100")
    client.ask("INCRBY c 5")
    client.ask("SET s text")
    services = node.services

    def copy() -> Steps:
        views = yield gather(services, [b"h", b"c", b"s", b"none"])
        assert [view.key_type for view in views] == [2, 1, 1, 0]
        for view, target in zip(views, (b"h2", b"c2", b"s2", b"s"), strict=True):
            assert (yield replace(services, target, run_through(content_of(view)))) == b":1\r\n"
        assert (yield replace(services, b"h2", run_through(content_of(views[2])), True)) == b":0\r\n"
        assert (yield replace(services, b"h3", run_through(content_of(views[0])), True)) == b":1\r\n"
        client_too = Client(node)
        client_too.ask("HSET h c 3")
        yield remove_seen(services, b"h", views[0])
        return resp.OK

    assert run(client, copy()) == "+OK\r\n"
    assert [client.ask(f"HGET h2 {field}") for field in "abc"] == ["1", "2", None]
    assert (client.ask("TTL h2"), client.ask("HLEN h3")) == (100, 2)
    assert (client.ask("GET c2"), client.ask("INCR c2"), client.ask("GET s2"), client.ask("GET s")) == (
        "5",
        6,
        "text",
        None,
    )
    assert [client.ask(f"HGET h {field}") for field in "abc"] == [None, None, "3"], "what was written meanwhile stays"


def test_a_step_that_fails_ends_the_command() -> None:
    node = make_node()
    client = Client(node)
    client.ask("SET s v")

    def steps() -> Steps:
        yield replace(node.services, b"s" * 70_000, b"")
        yield replace(node.services, b"s", None)
        return resp.OK

    def damaged() -> Steps:
        yield replace(node.services, b"s", b"no record")
        return resp.OK

    assert run(client, damaged()) == "-ERR not a record\r\n"
    assert client.ask("GET s") == "v"
    assert run(client, steps()) == "+OK\r\n", "to delete a key that cannot exist is no error"
    assert client.ask("GET s") is None


def test_new_kinds_wait_for_every_member() -> None:
    node = make_node(3)
    client = Client(node)
    reach(node, 2)
    assert client.raw("DYN.QUORUM R 1 W 1")
    key = next(key for key in map(str, range(100)) if node.services.route(key.encode()).coordinator is None)
    told = (
        "ERR this command needs a version that knows Redis' types on every node, and these nodes have not announced one"
    )
    assert client.error(f"INCR {key}") == f"{told}: n2, n3"
    assert client.ask(f"SET {key} 5") == "OK"
    node.greeted(member(2).id, 0, (b"entries",))
    node.greeted(member(3).id, 0, (b"entries", b"more"))
    assert client.ask(f"INCR {key}") == 6
    assert verify(node.state.records.get(storage_key_of(key.encode())) or b"")
    node.greeted(member(3).id, 0, (b"more",))
    assert client.error(f"INCR {key}") == f"{told}: n3"
