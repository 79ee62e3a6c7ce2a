"""PFADD, PFCOUNT and PFMERGE at one node, and what of them merges when two sides of a partition meet."""

from __future__ import annotations

from protocol import resp
from server.core.formats import hyperloglog
from server.core.records import versions
from server.core.records.draft import Draft
from server.core.records.kinds import STRING
from server.core.records.views import View
from tests.core.commands.talking import Client, make_node

INVALID = "WRONGTYPE Key is not a valid HyperLogLog string value."


def _value(client: Client, key: str) -> bytes:
    reply = client.raw(f"GET {key}")
    return reply[reply.index(b"\r\n") + 2 : -2]


def test_elements_are_counted() -> None:
    client = Client(make_node())
    assert client.ask("PFCOUNT k") == 0
    assert client.ask("PFADD k a b c") == 1
    assert client.ask("PFADD k a b c") == 0
    assert client.ask("PFCOUNT k") == 3
    assert client.ask("PFCOUNT k none other") == 3
    assert client.ask("PFADD other c d") == 1
    assert client.ask("PFCOUNT k other") == 4
    assert (client.ask("TYPE k"), client.ask("STRLEN k")) == ("string", 27)
    assert _value(client, "k") == hyperloglog.add(hyperloglog.empty(), [b"a", b"b", b"c"])


def test_an_empty_one_exists() -> None:
    client = Client(make_node())
    assert client.ask("PFADD k") == 1
    assert client.ask("PFADD k") == 0
    assert (client.ask("EXISTS k"), client.ask("PFCOUNT k")) == (1, 0)
    assert _value(client, "k") == hyperloglog.new()
    assert client.ask("PFMERGE m") == "OK"
    assert _value(client, "m") == hyperloglog.new()


def test_several_merge_into_one() -> None:
    client = Client(make_node())
    client.ask("PFADD a 1 2 3")
    client.ask("PFADD b 3 4")
    client.ask("PFADD m 9")
    assert client.ask("PFMERGE m a b none") == "OK"
    assert client.ask("PFCOUNT m") == 5
    assert client.ask("PFCOUNT a") == 3
    assert client.ask("PFMERGE new m") == "OK"
    assert client.ask("PFCOUNT new") == 5


def test_a_string_of_the_same_bytes_is_one() -> None:
    node = make_node()
    client = Client(node)
    client.ask("PFADD k a b")
    node.command(client.session, [b"SET", b"copy", _value(client, "k")], 0)
    assert client.raw().endswith(resp.OK)
    assert client.ask("PFCOUNT copy") == 2
    assert client.ask("PFADD copy b") == 0
    assert client.ask("PFADD copy c") == 1
    assert client.ask("PFCOUNT copy") == 3


def test_a_count_that_is_kept_is_taken_of_a_single_key_only() -> None:
    client = Client(make_node())
    client.ask("PFADD k a b")
    sketch = _value(client, "k")
    cached = sketch[:8] + (77).to_bytes(8, "little") + sketch[16:]
    client.node.command(client.session, [b"SET", b"cached", cached], 0)
    client.raw()
    assert client.ask("PFCOUNT cached") == 77
    assert client.ask("PFCOUNT cached none") == 2


def test_the_expiry_is_kept() -> None:
    client = Client(make_node())
    client.ask("PFADD k a")
    client.ask("EXPIRE k 100")
    client.ask("PFADD k b")
    assert client.ask("TTL k") == 100
    client.ask("PFMERGE k other")
    assert client.ask("TTL k") == 100


def test_what_is_no_sketch_is_told() -> None:
    client = Client(make_node())
    client.ask("SET s x")
    client.ask("SET n 17")
    client.ask("HSET h f v")
    client.ask("PFADD k a")
    for key in ("s", "n"):
        for line in (f"PFADD {key} a", f"PFCOUNT {key}", f"PFCOUNT k {key}", f"PFMERGE k {key}", f"PFMERGE {key} k"):
            assert client.error(line) == INVALID
    for line in ("PFADD h a", "PFCOUNT h", "PFCOUNT k h", "PFMERGE k h", "PFMERGE h k"):
        assert client.error(line) == "WRONGTYPE Operation against a key holding the wrong kind of value"
    assert client.ask("PFCOUNT k") == 1
    assert client.error("PFCOUNT") == "ERR wrong number of arguments for 'pfcount' command"
    client.ask("RENAME k r")
    assert client.ask("PFCOUNT r") == 1
    client.ask("COPY r c")
    assert client.ask("PFCOUNT c") == 1


def _added(record: bytes | None, actor: bytes, counter: int, *elements: bytes) -> bytes:
    draft = Draft(record, 1_000, STRING)
    sketch = hyperloglog.add(draft.string() or hyperloglog.empty(), elements)
    assert sketch is not None
    draft.set_sketch(sketch)
    return draft.record(actor, counter)


def test_elements_of_both_sides_of_a_partition_count() -> None:
    both = _added(None, b"actor--1", 1 << 20, b"both")
    one = _added(both, b"actor--1", 2 << 20, *[b"%d" % number for number in range(700)])
    other = _added(both, b"actor--2", 3 << 20, *[b"%d" % number for number in range(500, 5_000)])
    record = versions.merge(one, other)
    assert record == versions.merge(other, one)
    view = View(record, 2_000)
    everything = hyperloglog.add(hyperloglog.empty(), [b"both", *[b"%d" % number for number in range(5_000)]])
    assert everything is not None
    assert hyperloglog.count([view.string() or b""]) == hyperloglog.count([everything])
    assert len(view.sketches()) == 2
    after = View(_added(record, b"actor--2", 4 << 20, b"x"), 2_000)
    assert len(after.sketches()) == 1
    assert hyperloglog.count([after.string() or b""]) == hyperloglog.count(
        [hyperloglog.add(everything, [b"x"]) or everything]
    )


def test_a_sketch_and_a_string_of_the_other_side() -> None:
    """A string that is a sketch counts; another one is the key's value, as the newest of the strings."""
    sketch = hyperloglog.add(hyperloglog.empty(), [b"a", b"b"])
    assert sketch is not None
    added = _added(None, b"actor--1", 2 << 20, b"c")
    for counter in (1 << 20, 3 << 20):
        record = versions.merge(added, versions.supersede(None, b"actor--2", counter, sketch))
        assert hyperloglog.count([View(record, 2_000).string() or b""]) == 3
        record = versions.merge(added, versions.supersede(None, b"actor--2", counter, b"text"))
        assert View(record, 2_000).string() == b"text"
