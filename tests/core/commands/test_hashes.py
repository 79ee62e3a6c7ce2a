"""Hashes: what the differential test cannot ask redis-server 7.0 (expiries of fields), and shapes of replies."""

from __future__ import annotations

import pytest

from tests.core.commands.talking import WALL_MS, Client, make_node


@pytest.fixture
def client() -> Client:
    made = Client(make_node())
    made.ask("HSET h a 1 b 2 c 3")
    return made


def test_shapes_in_both_protocols(client: Client) -> None:
    client.ask("DEL h")
    client.ask("HSET h a 1")
    assert client.raw("HGETALL h") == b"*2\r\n$1\r\na\r\n$1\r\n1\r\n"
    assert client.raw("HRANDFIELD h 1 WITHVALUES") == b"*2\r\n$1\r\na\r\n$1\r\n1\r\n"
    assert client.raw("HINCRBYFLOAT h a 0.5") == b"$3\r\n1.5\r\n"
    client.raw("HELLO 3")
    assert client.raw("HGETALL h") == b"%1\r\n$1\r\na\r\n$3\r\n1.5\r\n"
    assert client.raw("HGETALL none") == b"%0\r\n"
    assert client.raw("HRANDFIELD h 1 WITHVALUES") == b"*1\r\n*2\r\n$1\r\na\r\n$3\r\n1.5\r\n"
    assert client.raw("HGET h x") == b"_\r\n"
    assert client.raw("HMGET h x a") == b"*2\r\n_\r\n$3\r\n1.5\r\n"


def test_fields_expire(client: Client) -> None:
    assert client.ask("HEXPIRE h 100 FIELDS 2 a x") == [1, -2]
    assert client.ask("HTTL h FIELDS 3 a b x") == [100, -1, -2]
    assert client.ask("HPTTL h FIELDS 1 a") == [100_000]
    assert client.ask("HEXPIRETIME h FIELDS 1 a") == [WALL_MS // 1000 + 100]
    assert client.ask("HPEXPIRETIME h FIELDS 1 a") == [WALL_MS + 100_000]
    assert client.ask("HINCRBY h a 4") == 5
    assert client.ask("HTTL h FIELDS 1 a") == [100], "an increment keeps the expiry"
    client.now_ms += 99_001
    assert (client.ask("HTTL h FIELDS 1 a"), client.ask("HLEN h")) == ([1], 3)
    client.now_ms += 1000
    assert (client.ask("HGET h a"), client.ask("HLEN h"), client.ask("HEXISTS h a")) == (None, 2, 0)
    assert client.ask("HTTL h FIELDS 1 a") == [-2]
    assert client.ask("HINCRBY h a 4") == 4
    assert client.ask("HTTL h FIELDS 1 a") == [-1]


def test_a_set_field_loses_its_expiry_and_persist_removes_it(client: Client) -> None:
    client.ask("HPEXPIRE h 5000 FIELDS 2 a b")
    assert client.ask("HSET h a 9") == 0
    assert client.ask("HPERSIST h FIELDS 3 a b x") == [-1, 1, -2]
    assert client.ask("HTTL h FIELDS 2 a b") == [-1, -1]


def test_a_hash_whose_last_field_has_expired_does_not_exist(client: Client) -> None:
    client.ask("HEXPIRE h 10 FIELDS 3 a b c")
    client.now_ms += 10_000
    assert (client.ask("EXISTS h"), client.ask("TYPE h"), client.ask("HGETALL h")) == (0, "none", [])
    assert client.ask("SET h v NX") == "OK"


def test_an_expiry_in_the_past_removes_the_field(client: Client) -> None:
    assert client.ask("HEXPIREAT h 1 FIELDS 1 a") == [2]
    assert client.ask("HPEXPIRE h 0 FIELDS 2 b c") == [2, 2]
    assert client.ask("EXISTS h") == 0
    assert client.ask("HEXPIRE h 10 FIELDS 1 a") == [-2]


@pytest.mark.parametrize(
    ("condition", "without", "later", "earlier"),
    [("NX", 1, 0, 0), ("XX", 0, 1, 1), ("GT", 0, 1, 0), ("LT", 1, 0, 1)],
)
def test_conditions_of_expiry(client: Client, condition: str, without: int, later: int, earlier: int) -> None:
    assert client.ask(f"HEXPIRE h 50 {condition} FIELDS 1 a") == [without]
    for seconds, wanted in ((90, later), (10, earlier)):
        client.ask("HEXPIRE h 50 FIELDS 1 b")
        assert client.ask(f"HEXPIRE h {seconds} {condition} FIELDS 1 b") == [wanted]


def test_hgetdel_and_hgetex(client: Client) -> None:
    assert client.ask("HGETEX h EX 100 FIELDS 2 a x") == ["1", None]
    assert client.ask("HTTL h FIELDS 2 a b") == [100, -1]
    assert client.ask("HGETEX h PERSIST FIELDS 1 a") == ["1"]
    assert client.ask("HTTL h FIELDS 1 a") == [-1]
    assert client.ask("HGETEX h FIELDS 1 b") == ["2"]
    assert client.ask("HGETEX h PXAT 1 FIELDS 1 b") == ["2"]
    assert client.ask("HEXISTS h b") == 0
    assert client.ask("HGETDEL h FIELDS 3 a c x") == ["1", "3", None]
    assert client.ask("EXISTS h") == 0
    assert client.ask("HGETDEL h FIELDS 1 a") == [None]


def test_hsetex(client: Client) -> None:
    assert client.ask("HSETEX h FNX FIELDS 1 a 9") == 0
    assert client.ask("HSETEX h FXX FIELDS 2 a 9 x 9") == 0
    assert client.ask("HSETEX h FXX EX 100 FIELDS 2 a 8 b 9") == 1
    assert client.ask("HMGET h a b x") == ["8", "9", None]
    assert client.ask("HTTL h FIELDS 2 a b") == [100, 100]
    assert client.ask("HSETEX h KEEPTTL FIELDS 1 a 7") == 1
    assert client.ask("HSETEX h FIELDS 1 b 7") == 1
    assert client.ask("HTTL h FIELDS 2 a b") == [100, -1]


FIELDS_MISSING = "ERR Mandatory argument FIELDS is missing or not at the right position"
MISMATCH = "ERR The `numfields` parameter must match the number of arguments"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("HEXPIRE h 1 a b c", FIELDS_MISSING),
        ("HEXPIRE h 1 FIELDS 2 a", MISMATCH),
        ("HEXPIRE h 1 FIELDS 0 a", "ERR Parameter `numFields` should be greater than 0"),
        ("HEXPIRE h x FIELDS 1 a", "ERR value is not an integer or out of range"),
        ("HEXPIRE h -1 FIELDS 1 a", "ERR invalid expire time, must be >= 0"),
        ("HEXPIRE h 9999999999999 FIELDS 1 a", "ERR invalid expire time in 'hexpire' command"),
        ("HTTL h FIELD 1 a", FIELDS_MISSING),
        ("HTTL h FIELDS 1 a b", MISMATCH),
        ("HTTL h FIELDS 0 a", "ERR Number of fields must be a positive integer"),
        ("HPERSIST h FIELDS -1 a", "ERR Number of fields must be a positive integer"),
        ("HGETDEL h FIELDS x a", "ERR Number of fields must be a positive integer"),
        ("HSETEX h FNX FXX FIELDS 1 a 1", "ERR Only one of FXX or FNX arguments can be specified"),
        (
            "HGETEX h EX 1 PERSIST FIELDS 1 a",
            "ERR Only one of EX, PX, EXAT, PXAT or PERSIST arguments can be specified",
        ),
        ("HSETEX h EX 0 FIELDS 1 a 1", "ERR invalid expire time in 'hsetex' command"),
        ("HEXPIRE h 1 FIELDS 1", "ERR wrong number of arguments for 'hexpire' command"),
    ],
)
def test_errors(client: Client, line: str, told: str) -> None:
    assert client.error(line) == told
    assert client.ask("HGETALL h") == ["a", "1", "b", "2", "c", "3"]


def test_floats_add_up_as_in_redis(client: Client) -> None:
    assert client.ask("INCRBYFLOAT n 3.0e3") == "3000"
    assert client.ask("INCRBYFLOAT n 0.1") == "3000.10000000000000009"
    assert client.ask("INCRBYFLOAT n -3000") == "0.10000000000000009"
    assert client.ask("GET n") == "0.10000000000000009"
    client.ask("SET n 5.0e3")
    assert client.ask("INCRBYFLOAT n 2.0e2") == "5200"
    client.ask("SET n .5")
    assert client.ask("EXPIRE n 100") == 1
    assert (client.ask("INCRBYFLOAT n 1"), client.ask("TTL n")) == ("1.5", 100)
    assert client.error("INCRBYFLOAT n inf") == "ERR increment would produce NaN or Infinity"
    assert client.error("HINCRBYFLOAT h a inf") == "ERR value is NaN or Infinity"


@pytest.mark.parametrize("line", ["HEXPIRE s x FIELDS 1 a", "HTTL s FIELDS x a", "HPERSIST s FIELDS 0 a"])
def test_expiries_of_fields_look_at_the_type_first(client: Client, line: str) -> None:
    client.ask("SET s text")
    assert client.error(line).startswith("WRONGTYPE")
