"""INFO: what it counts, side by side with what Redis counts."""

from __future__ import annotations

import pytest

from server.core.base.statistics import ERROR_CODES_MAX
from server.core.node import Node
from tests.core.commands.talking import Client, make_node


def fields(client: Client, section: str) -> dict[str, str]:
    """The lines of a section."""
    lines: str = client.ask(f"INFO {section}")
    return dict(line.split(":", 1) for line in lines.splitlines() if ":" in line)


def lookups(node: Node) -> tuple[int, int]:
    counted = node.state.statistics.shown()
    return counted["keyspace_hits"], counted["keyspace_misses"]


# What Redis 7.0 counts for each of them: keys found, keys not found. tests/wire/test_monitoring_tools.py asks it.
LOOKUPS = (
    ("GET str", 1, 0),
    ("GET none", 0, 1),
    ("GET gone", 0, 1),
    ("GET dead", 0, 1),
    ("MGET str none str", 2, 1),
    ("EXISTS str hash none", 2, 1),
    ("STRLEN str", 1, 0),
    ("HGET hash f", 1, 0),
    ("HGET hash none", 1, 0),
    ("HGET none f", 0, 1),
    ("HGETALL hash", 1, 0),
    ("LRANGE none 0 -1", 0, 1),
    ("TTL str", 1, 0),
    ("TYPE none", 0, 1),
    ("SET new v", 0, 0),
    ("INCR number", 0, 0),
    ("HSET hash g 1", 0, 0),
    ("LPUSH list a", 0, 0),
    ("DEL new", 0, 0),
    ("PING", 0, 0),
)


@pytest.mark.parametrize(("line", "hits", "misses"), LOOKUPS, ids=[each[0] for each in LOOKUPS])
def test_reads_count_the_keys_they_look_up_and_writes_none(line: str, hits: int, misses: int) -> None:
    node = make_node()
    client = Client(node)
    client.raw("SET str v", "HSET hash f v", "SET gone v", "SET dead v PX 1")
    client.raw("DEL gone")
    client.now_ms = 10
    assert lookups(node) == (0, 0)
    client.raw(line)
    assert lookups(node) == (hits, misses)


def test_keys_read_in_a_transaction_count_once() -> None:
    node = make_node()
    client = Client(node)
    client.raw("SET {t}a v")
    client.raw("MULTI", "GET {t}a", "GET {t}b", "SET {t}c v", "EXEC")
    assert lookups(node) == (1, 1)


def test_errors_are_counted_by_their_first_word_until_resetstat() -> None:
    client = Client(make_node())
    client.raw("NOSUCH", "GET", "GET a b", "EXEC", "LPUSH list a")
    client.raw("INCR list")
    assert fields(client, "errorstats") == {"errorstat_ERR": "count=4", "errorstat_WRONGTYPE": "count=1"}
    assert fields(client, "stats")["total_error_replies"] == "5"
    client.raw("SET -minus -ERR")
    client.raw("GET -minus")
    assert fields(client, "stats")["total_error_replies"] == "5"
    client.raw("CONFIG RESETSTAT")
    assert fields(client, "errorstats") == {} and fields(client, "stats")["total_error_replies"] == "0"


def test_the_codes_of_errors_are_bounded_and_fit_into_a_line() -> None:
    node = make_node()
    statistics = node.state.statistics
    for number in range(ERROR_CODES_MAX + 5):
        statistics.count_error(b"-CODE%d text\r\n" % number)
    statistics.count_error(b"-A:1,\xff=x text\r\n")
    statistics.count_error(b"-\r\n")
    counted = fields(Client(node), "errorstats")
    assert len(counted) == ERROR_CODES_MAX + 1 and counted["errorstat_OTHER"] == "count=7"
    statistics.begin_anew()
    statistics.count_error(b"-A:1,\xff=x text\r\n")
    assert fields(Client(node), "errorstats") == {"errorstat_A_1___x": "count=1"}


def test_the_keyspace_counts_live_keys_and_those_that_expire() -> None:
    client = Client(make_node())
    client.raw("SET a v", "SET b v EX 100", "SET c v")
    client.raw("DEL c", "SELECT 3", "SET a v")
    assert fields(client, "keyspace") == {
        "db0": "keys=2,expires=1,avg_ttl=0",
        "db3": "keys=1,expires=0,avg_ttl=0",
    }


def test_what_monitoring_tools_look_for_is_there() -> None:
    client = Client(make_node())
    stats, memory = fields(client, "stats"), fields(client, "memory")
    assert {"keyspace_hits", "keyspace_misses", "expired_keys", "evicted_keys", "total_error_replies"} <= set(stats)
    assert memory["deferred_patches_bytes"] == memory["number_of_cached_scripts"] == "0"
    assert fields(client, "modules") == {}
    assert "# Errorstats" in client.ask("INFO")
