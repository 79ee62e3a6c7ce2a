"""Sets through a whole node: what clients ask, what several keys make together, what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from server.core.commands import typed_steps
from tests.core.commands.talking import Client, make_node

WRONGTYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"


@pytest.fixture
def client() -> Client:
    """A client of a node that is alone."""
    return Client(make_node())


def test_elements(client: Client) -> None:
    assert client.ask("SADD s a b c a") == 3
    assert client.ask("SADD s c d") == 1
    assert client.ask("SCARD s") == 4
    assert client.ask("SISMEMBER s a") == 1
    assert client.ask("SMISMEMBER s a x d") == [1, 0, 1]
    assert client.ask("SREM s a x") == 1
    assert sorted(client.ask("SMEMBERS s")) == ["b", "c", "d"]
    assert client.ask("TYPE s") == "set"


def test_a_set_without_elements_does_not_exist(client: Client) -> None:
    client.ask("SADD s a b")
    assert client.ask("SREM s a b") == 2
    assert client.ask("EXISTS s") == 0
    assert client.ask("TYPE s") == "none"
    assert client.ask("SADD s c") == 1
    assert client.ask("SMEMBERS s") == ["c"]


def test_random_elements(client: Client) -> None:
    client.ask("SADD s a b c d")
    assert len(set(client.ask("SRANDMEMBER s 3"))) == 3
    assert len(client.ask("SRANDMEMBER s -9")) == 9
    popped = client.ask("SPOP s 2")
    assert len(popped) == 2
    assert sorted([*popped, *client.ask("SMEMBERS s")]) == ["a", "b", "c", "d"]
    assert client.ask("SPOP s") in ("a", "b", "c", "d")
    assert client.ask("SCARD s") == 1
    assert client.error("SPOP s -1") == "ERR value is out of range, must be positive"


def test_what_sets_have_in_common_and_not(client: Client) -> None:
    client.raw("SADD one a b c", "SADD two b c d", "SADD three c")
    assert sorted(client.ask("SUNION one two none")) == ["a", "b", "c", "d"]
    assert client.ask("SINTER one two three") == ["c"]
    assert client.ask("SINTER one none") == []
    assert client.ask("SDIFF one two") == ["a"]
    assert client.ask("SINTERCARD 2 one two") == 2
    assert client.ask("SINTERCARD 2 one two LIMIT 1") == 1


def test_an_intersection_is_that_of_all_sets(client: Client) -> None:
    client.raw("SADD small a b", "SADD left a x y", "SADD right b x y")
    assert client.ask("SINTER small left right") == []
    assert client.ask("SINTERCARD 3 small left right") == 0


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("0 one", "ERR numkeys should be greater than 0"),
        ("x one", "ERR numkeys should be greater than 0"),
        ("2 one", "ERR Number of keys can't be greater than number of args"),
        ("1 one LIMIT -1", "ERR LIMIT can't be negative"),
        ("1 one LIMIT x", "ERR LIMIT can't be negative"),
        ("1 one LIMIT", "ERR syntax error"),
        ("1 one two", "ERR syntax error"),
    ],
)
def test_the_arguments_of_sintercard(client: Client, words: str, error: str) -> None:
    client.raw("SADD one a b c")
    assert client.error(f"SINTERCARD {words}") == error
    assert client.ask("SINTERCARD 1 one LIMIT 0") == 3


def test_a_result_that_is_stored_replaces_what_was_there(client: Client) -> None:
    client.raw("SADD one a b c", "SADD two b c d", "SET target text")
    assert client.ask("SUNIONSTORE target one two") == 4
    assert sorted(client.ask("SMEMBERS target")) == ["a", "b", "c", "d"]
    assert client.ask("SDIFFSTORE one one two") == 1
    assert client.ask("SMEMBERS one") == ["a"]
    assert client.ask("SINTERSTORE target one two") == 0
    assert client.ask("EXISTS target") == 0


def test_smove(client: Client) -> None:
    client.raw("SADD one a b", "SADD two c", "SET text t")
    assert client.ask("SMOVE one two a") == 1
    assert client.ask("SMEMBERS one") == ["b"]
    assert sorted(client.ask("SMEMBERS two")) == ["a", "c"]
    assert client.ask("SMOVE one two x") == 0
    assert client.ask("SMOVE two two a") == 1
    assert sorted(client.ask("SMEMBERS two")) == ["a", "c"]
    assert client.ask("SMOVE none text a") == 0
    assert client.error("SMOVE one text b") == WRONGTYPE
    assert client.ask("SMEMBERS one") == ["b"]


@pytest.mark.parametrize(
    "line", ["SADD k a", "SREM k a", "SMEMBERS k", "SCARD k", "SINTER k", "SUNION s k", "SDIFFSTORE t s k", "SSCAN k 0"]
)
def test_another_type_is_refused(client: Client, line: str) -> None:
    client.raw("SET k text", "SADD s a")
    assert client.error(line) == WRONGTYPE
    assert client.ask("GET k") == "text"
    client.ask("DEL k")
    client.ask("ZADD k 1 a")
    assert client.error(line) == WRONGTYPE


def test_an_expiry_ends_the_whole_set(client: Client) -> None:
    client.raw("SADD s a b", "PEXPIRE s 100")
    client.now_ms = 50
    assert client.ask("SADD s c") == 1
    assert client.ask("PTTL s") == 50
    client.now_ms = 101
    assert client.ask("SCARD s") == 0
    assert client.ask("SADD s d") == 1
    assert client.ask("SMEMBERS s") == ["d"]
    assert client.ask("PTTL s") == -1


def test_resp3_has_sets(client: Client) -> None:
    client.raw("HELLO 3")
    client.ask("SADD s a")
    assert client.raw("SMEMBERS s") == b"~1\r\n$1\r\na\r\n"
    assert client.raw("SPOP s 5") == b"~1\r\n$1\r\na\r\n"
    assert client.raw("SRANDMEMBER s") == b"_\r\n"


def test_a_key_that_is_named_again_is_read_once(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    run_parts = typed_steps.run_parts

    def counting(services: Any, parts: Any, *rest: Any) -> None:
        read.append(parts.missing)
        run_parts(services, parts, *rest)

    monkeypatch.setattr(typed_steps, "run_parts", counting)
    client.ask("SADD s a b")
    client.ask("SADD other c")
    assert client.ask("SUNION s other s none s other") == ["a", "b", "c"]
    assert client.ask("SDIFF s none other s") == []
    assert read == [3, 3]
