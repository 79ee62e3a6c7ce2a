"""Sorted sets through a whole node: what clients ask, what several keys make together, what is refused."""

from __future__ import annotations

import random

import pytest

from server.core.records.records import storage_key_of
from server.core.records.structure import verify
from tests.core.commands.talking import Client, make_node

WRONGTYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"


@pytest.fixture
def client() -> Client:
    """A client of a node that is alone, with three members in z."""
    client = Client(make_node())
    assert client.ask("ZADD z 1 a 2 b 3 c") == 3
    return client


def test_flags_of_zadd(client: Client) -> None:
    assert client.ask("ZADD z NX 9 a 4 d") == 1
    assert client.ask("ZSCORE z a") == "1"
    assert client.ask("ZADD z XX CH 5 a 6 e") == 1
    assert client.ask("ZADD z GT CH 4 a 7 b") == 1
    assert client.ask("ZADD z LT CH 4 a 9 b") == 1
    assert client.ask("ZMSCORE z a b e") == ["4", "7", None]
    assert client.ask("ZADD z INCR 2.5 a") == "6.5"
    assert client.ask("ZADD z XX INCR 1 none") is None
    assert client.error("ZADD z NX XX 1 a") == "ERR XX and NX options at the same time are not compatible"
    assert client.error("ZADD z 1 a x b") == "ERR value is not a valid float"
    assert client.error("ZADD z 1") == "ERR wrong number of arguments for 'zadd' command"
    assert client.ask("ZCARD z") == 4


def test_what_zadd_counts(client: Client) -> None:
    assert client.ask("ZADD z CH 9 a 4 d 2 b") == 2, "what is new and what has changed"
    assert client.ask("ZADD z CH 9 a") == 0
    assert client.ask("ZADD z GT INCR 0 a") is None and client.ask("ZADD z LT INCR 0 a") is None
    for flags in ("GT LT", "GT NX", "NX LT"):
        error = "ERR GT, LT, and/or NX options at the same time are not compatible"
        assert client.error(f"ZADD z {flags} 1 a") == error


def test_infinite_scores(client: Client) -> None:
    client.raw("ZADD p inf m", "ZADD q -inf m 1 n")
    assert client.ask("ZINCRBY p 5 m") == "inf" and client.ask("ZRANGEBYSCORE p inf inf") == ["m"]
    assert client.ask("ZINCRBY q inf n") == "inf" and client.ask("ZRANGE q -1 -1 WITHSCORES") == ["n", "inf"]
    for key in (b"p", b"q"):
        assert verify(client.node.state.records.get(storage_key_of(key)) or b""), "other nodes would refuse it"
    assert client.ask("ZUNION 2 p q WITHSCORES") == ["m", "0", "n", "inf"], "a sum that is no number is 0"
    assert client.ask("ZUNION 1 p WEIGHTS 0 WITHSCORES") == ["m", "0"]
    assert client.error("ZUNION 3 p q") == "ERR syntax error"


def test_increments(client: Client) -> None:
    assert client.ask("ZINCRBY z -0 zero") == "-0" and client.ask("ZINCRBY z -0 zero") == "0", "as Redis says it"
    assert client.ask("ZREM z zero") == 1
    assert client.error("ZINCRBY z NX a") == "ERR syntax error", "a flag of ZADD INCR, and no pair after it"
    assert client.ask("ZINCRBY z 2 a") == "3"
    assert client.ask("ZINCRBY z 0.5 new") == "0.5"
    assert client.ask("ZINCRBY z inf a") == "inf"
    assert client.error("ZINCRBY z -inf a") == "ERR resulting score is not a number (NaN)"
    assert client.ask("ZADD z 1 a") == 0
    assert client.ask("ZINCRBY z 1 a") == "2"


def test_ranks_and_ranges(client: Client) -> None:
    assert client.ask("ZRANK z c") == 2
    assert client.ask("ZREVRANK z c") == 0
    assert client.ask("ZRANK z a WITHSCORE") == [0, "1"]
    assert client.ask("ZRANK z none") is None
    assert client.ask("ZRANGE z 0 1 WITHSCORES") == ["a", "1", "b", "2"]
    assert client.ask("ZRANGE z 0 0 REV") == ["c"]
    assert client.ask("ZREVRANGEBYSCORE z 3 (1 LIMIT 1 5") == ["b"]
    assert client.ask("ZRANGEBYLEX z [b +") == ["b", "c"]
    assert client.ask("ZCOUNT z (1 +inf") == 2
    assert client.ask("ZLEXCOUNT z - [b") == 2


def test_removals_by_range(client: Client) -> None:
    client.ask("ZADD z 4 d 5 e 6 f")
    assert client.ask("ZREMRANGEBYRANK z 0 0") == 1
    assert client.ask("ZREMRANGEBYSCORE z (5 +inf") == 1
    assert client.ask("ZREMRANGEBYLEX z [b (d") == 2
    assert client.ask("ZRANGE z 0 -1") == ["d", "e"]
    assert client.ask("ZREM z d e none") == 2
    assert client.ask("EXISTS z") == 0


def test_pops(client: Client) -> None:
    assert client.ask("ZPOPMIN z") == ["a", "1"]
    assert client.ask("ZPOPMAX z 5") == ["c", "3", "b", "2"]
    assert client.ask("ZPOPMIN z") == []
    client.ask("ZADD z 1 a 2 b")
    assert client.ask("ZMPOP 2 none z MAX COUNT 2") == ["z", [["b", "2"], ["a", "1"]]]
    assert client.ask("ZMPOP 1 z MIN") is None
    assert client.error("ZMPOP 0 z MIN") == "ERR numkeys should be greater than 0"
    assert client.error("ZMPOP 1 z MIN COUNT 0") == "ERR count should be greater than 0"
    assert client.error("ZMPOP 1 z MIN COUNT 0 x") == "ERR count should be greater than 0"


def test_what_sorted_sets_make_together(client: Client) -> None:
    client.raw("ZADD other 10 b 20 d", "SADD plain a d")
    assert client.ask("ZUNION 2 z other WITHSCORES") == ["a", "1", "c", "3", "b", "12", "d", "20"]
    assert client.ask("ZINTER 2 z other WEIGHTS 2 1 AGGREGATE MAX WITHSCORES") == ["b", "10"]
    assert client.ask("ZDIFF 2 z other") == ["a", "c"]
    assert client.ask("ZUNION 2 z plain WITHSCORES") == ["d", "1", "a", "2", "b", "2", "c", "3"]
    assert client.ask("ZINTERCARD 2 z other") == 1
    assert client.error("ZUNION 0 z") == "ERR at least 1 input key is needed for 'zunion' command"
    assert client.error("ZUNION 1 z WEIGHTS x") == "ERR weight value is not a float"


def test_a_result_that_is_stored_replaces_what_was_there(client: Client) -> None:
    client.raw("SET target text", "ZADD other inf b")
    assert client.ask("ZUNIONSTORE target 2 z other WEIGHTS 1 -1") == 3
    assert client.ask("ZRANGE target 0 -1 WITHSCORES") == ["b", "-inf", "a", "1", "c", "3"]
    assert client.ask("ZUNIONSTORE zero 1 z WEIGHTS -0") == 3
    assert client.ask("ZRANGE zero 0 0 WITHSCORES") == ["a", "0"], "as small sorted sets of Redis have it"
    assert client.ask("ZRANGESTORE target z 1 2") == 2
    assert client.ask("ZRANGE target 0 -1") == ["b", "c"]
    assert client.ask("ZDIFFSTORE target 2 z z") == 0
    assert client.ask("EXISTS target") == 0


def test_wrong_arguments_are_refused_before_another_type(client: Client) -> None:
    client.ask("SET k text")
    assert client.error("ZADD k CH inf") == "ERR syntax error"
    assert client.error("ZCOUNT k abc (-1") == "ERR min or max is not a float"
    assert client.error("ZPOPMIN k -5") == "ERR value is out of range, must be positive"
    assert client.error("ZADD k 1 a") == WRONGTYPE
    assert client.ask("GET k") == "text"


@pytest.mark.parametrize(
    "line", ["ZADD k 1 a", "ZSCORE k a", "ZRANGE k 0 -1", "ZUNION 2 z k", "ZMPOP 2 k z MIN", "ZSCAN k 0"]
)
def test_another_type_is_refused(client: Client, line: str) -> None:
    client.ask("SET k text")
    assert client.error(line) == WRONGTYPE
    assert client.ask("GET k") == "text"


def test_resp3_has_doubles_and_pairs(client: Client) -> None:
    client.raw("HELLO 3")
    assert client.raw("ZSCORE z a") == b",1\r\n"
    assert client.raw("ZRANGE z 0 0 WITHSCORES") == b"*1\r\n*2\r\n$1\r\na\r\n,1\r\n"
    assert client.raw("ZPOPMIN z") == b"*2\r\n$1\r\na\r\n,1\r\n"
    assert client.raw("ZPOPMIN z 1") == b"*1\r\n*2\r\n$1\r\nb\r\n,2\r\n"
    assert client.raw("ZMPOP 1 z MIN") == b"*2\r\n$1\r\nz\r\n*1\r\n*2\r\n$1\r\nc\r\n,3\r\n"


def test_a_range_after_a_change_in_one_pipeline_sees_it(client: Client) -> None:
    replies = client.raw("ZADD z 0 first", "ZRANGE z 0 0", "ZREM z first", "ZRANGE z 0 0")
    assert replies == b":1\r\n*1\r\n$5\r\nfirst\r\n:1\r\n*1\r\n$1\r\na\r\n"


@pytest.mark.parametrize("seed", range(3))
def test_sums_are_rounded_as_those_of_doubles(seed: int) -> None:
    rng = random.Random(seed)
    client = Client(make_node())
    client.ask("ZADD z 0.1 m")
    score = 0.1
    for _ in range(60):
        increment = rng.choice((0.1, 0.2, -0.3, 1e23, -1e23, 1e-7, 6.0, 1 / 3, rng.uniform(-9, 9)))
        score += increment
        assert float(client.ask(f"ZINCRBY z {increment!r} m")) == float(client.ask("ZSCORE z m")) == score
