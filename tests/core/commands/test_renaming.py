"""Keys of all types are renamed and copied, and nothing that was written meanwhile is lost."""

from __future__ import annotations

import pytest

from server.core.commands import renaming, typed_steps
from server.core.commands.renaming import _copy_options
from server.core.records.views import View
from server.core.services.services import Services
from server.core.work.procedures import Step
from tests.core.commands.talking import Client, make_node


def test_a_string_and_a_hash_keep_content_type_and_expiry() -> None:
    client = Client(make_node())
    client.ask("SET s v EX 100")
    client.ask("HSET h a 1 b 2")
    client.ask("EXPIRE h 200")
    assert client.ask("RENAME s t") == "OK"
    assert client.ask("COPY h i") == 1
    assert client.ask("RENAMENX h j") == 1
    assert (client.ask("GET t"), client.ask("TTL t")) == ("v", 100)
    for name in ("i", "j"):
        assert (client.ask(f"HGET {name} b"), client.ask(f"HLEN {name}"), client.ask(f"TTL {name}")) == ("2", 2, 200)
    assert client.ask("EXISTS s h") == 0
    assert client.ask("RENAME j t") == "OK", "the target may be of another type"
    assert client.ask("TYPE t") == "hash"


def test_a_counter_goes_on_counting_under_its_new_name() -> None:
    client = Client(make_node())
    client.ask("INCR k")
    client.ask("INCRBY k 4")
    assert client.ask("RENAME k l") == "OK"
    assert client.ask("INCR l") == 6
    assert client.ask("INCR k") == 1


def test_names_that_are_in_use_and_names_that_are_not() -> None:
    client = Client(make_node())
    assert client.error("RENAME k l") == "ERR no such key"
    assert client.error("RENAMENX k k") == "ERR no such key"
    client.ask("SET k 1")
    client.ask("SET l 2")
    assert client.ask("RENAMENX k l") == 0
    assert client.ask("COPY k l") == 0
    assert client.ask("COPY none m") == 0
    assert client.ask("RENAME k k") == "OK"
    assert client.ask("RENAMENX k k") == 0
    assert client.ask("MGET k l") == ["1", "2"]
    assert client.ask("COPY k l REPLACE") == 1
    assert client.ask("MGET k l") == ["1", "1"]
    assert client.error("COPY k k") == "ERR source and destination objects are the same"


def test_what_is_written_to_the_source_meanwhile_stays_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another client's SET comes after RENAME has read the key and before it removes it."""
    node = make_node()
    client, other = Client(node), Client(node)
    client.ask("SET k old")

    def replace(services: Services, key: bytes, view: View, only_if_absent: bool) -> Step:
        node.command(other.session, [b"SET", b"k", b"new"], 0)
        return typed_steps.replace(services, key, view, only_if_absent)

    monkeypatch.setattr(renaming, "replace", replace)
    assert client.ask("RENAME k l") == "OK"
    assert client.ask("MGET k l") == ["new", "old"]


def test_of_a_collection_what_is_added_meanwhile_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    node = make_node()
    client, other = Client(node), Client(node)
    client.ask("HSET k a 1 b 2")

    def replace(services: Services, key: bytes, view: View, only_if_absent: bool) -> Step:
        node.command(other.session, b"HSET k c 3 b 4".split(), 0)
        return typed_steps.replace(services, key, view, only_if_absent)

    monkeypatch.setattr(renaming, "replace", replace)
    assert client.ask("RENAME k l") == "OK"
    monkeypatch.undo()
    assert [client.ask(f"HGET {key} {field}") for key in "kl" for field in "abc"] == [None, "4", "3", "1", "2", None]


@pytest.mark.parametrize(("words", "error"), [
    ("DB 16", "ERR DB index is out of range"), ("DB -1", "ERR DB index is out of range"), ("DB", "ERR syntax error"),
    ("DB x", "ERR value is not an integer or out of range"), ("NOSUCH", "ERR syntax error"),
    ("DB 99999999999", "ERR value is out of range, value must between -2147483648 and 2147483647"),
])  # fmt: skip
def test_copy_refuses_what_redis_refuses(words: str, error: str) -> None:
    assert Client(make_node()).error(f"COPY k l {words}") == error


def test_options_of_copy_may_be_repeated() -> None:
    node = make_node()
    services, sink = node.services, Client(node).session
    assert _copy_options(services, sink, b"COPY k l db 3 REPLACE DB 0 replace".split(), 0) == (True, 0)
    assert _copy_options(services, sink, b"COPY k l DB 0".split(), 1) == (False, 0)
    assert _copy_options(services, sink, b"COPY k l".split(), 1) == (False, 1)
