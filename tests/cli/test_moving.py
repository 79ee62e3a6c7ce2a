"""The parts of dyn import: how fast keys are written, and which values are found to differ, between two redis-servers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis

from dynamo_cli.addresses import Address
from dynamo_cli.client import Client
from dynamo_cli.failures import NotReached, Refused
from dynamo_cli.moving import comparison as comparing
from dynamo_cli.moving import page_size, sender
from dynamo_cli.moving.comparison import Comparison, differing
from dynamo_cli.moving.sender import BATCH_KEYS, Sender, write_of
from dynamo_cli.moving.source import Source
from tests.wire.cluster import dyn
from tests.wire.differential.servers import redis_server, redis_version


class Time:
    """A clock that only sleeping moves. It stands for the module `time`."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, pause_s: float) -> None:
        self.now_s += pause_s


class Accepting:
    """A node that accepts whatever comes, and notes when how much of it came."""

    def __init__(self, clock: Time) -> None:
        self._clock = clock
        self.came: list[tuple[float, int]] = []

    def of_database(self, database: int) -> Accepting:
        return self

    def connect(self) -> Accepting:
        return self

    def call(self, *words: Any) -> bytes:
        return b"PONG"

    def begin(self, commands: Sequence[Any]) -> Callable[[], list[bytes]]:
        self.came.append((self._clock.now_s, len(commands)))
        return lambda: [b"OK"] * len(commands)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    clock = Time()
    monkeypatch.setattr(sender, "time", clock)
    return clock


def _sent(clock: Time, rate: int, count: int, pause_at: int = -1, pause_s: float = 0.0) -> list[tuple[float, int]]:
    node: Any = Accepting(clock)
    sending = Sender(node, rate)
    for number in range(count):
        if number == pause_at:
            clock.sleep(pause_s)
        sending.add(write_of(0, b"key %d" % number, b"", b"v", 0))
    sending.flush()
    assert sending.sent == count
    return node.came


@pytest.mark.parametrize("rate", [5, 100, 3000, 100_000])
@pytest.mark.parametrize("pause_s", [0.0, 60.0])
def test_no_second_has_more_keys_than_the_rate(clock: Time, rate: int, pause_s: float) -> None:
    """Also after a pause: a server that was slow, a checksum that took long, nothing to follow for an hour."""
    count = min(4 * rate, 6000)
    came = _sent(clock, rate, count, count // 2, pause_s)
    for start_s, _ in came:
        keys = sum(keys for at_s, keys in came if start_s <= at_s < start_s + 1 - 1e-6)
        assert keys <= rate + BATCH_KEYS * (rate > 10 * BATCH_KEYS)
    assert came[-1][0] - came[0][0] <= count / rate + pause_s


def test_without_a_rate_batches_are_as_large_as_may_be(clock: Time) -> None:
    assert _sent(clock, 0, 2 * BATCH_KEYS + 1) == [(1000.0, BATCH_KEYS), (1000.0, BATCH_KEYS), (1000.0, 1)]


class Overfull(Accepting):
    """A node to which every key is too large."""

    def begin(self, commands: Sequence[Any]) -> Callable[[], list[Any]]:
        return lambda: [Refused("node", "ERR above record_bytes_max")] * len(commands)


def test_a_refused_key_that_is_written_again_is_counted_and_listed_once(clock: Time) -> None:
    """As a hot list that is followed is. In another database a key is another one."""
    node: Any = Overfull(clock)
    sending = Sender(node, 0)
    for _ in range(3 * BATCH_KEYS):
        sending.add(write_of(0, b"hot", b"", b"v", 0))
    sending.add(write_of(0, b"other", b"", b"v", 0))
    sending.add(write_of(1, b"hot", b"", b"v", 0))
    sending.flush()
    assert [each[:2] for each in sending.refusals] == [(0, b"hot"), (0, b"other"), (1, b"hot")]
    assert sending.refused == 3


def test_the_refused_keys_that_are_kept_are_bounded(clock: Time) -> None:
    node: Any = Overfull(clock)
    sending = Sender(node, 0)
    for number in range(1200):
        sending.add(write_of(0, b"key %d" % number, b"", b"v", 0))
    sending.flush()
    assert (sending.refused, len(sending.refusals), len(sending._refused_keys)) == (1200, 1000, 1000)


class Expiring:
    """A server whose keys hold "v" and expire at a time of the clock. Each GET takes a second."""

    def __init__(self, clock: Time, expires_at_s: float) -> None:
        self._clock = clock
        self._expires_at_s = expires_at_s
        self.asked: list[bytes] = []

    def pipeline(self, commands: Sequence[Any]) -> list[Any]:
        return list(map(self._answer, commands))

    def begin(self, commands: Sequence[Any]) -> Callable[[], list[Any]]:
        replies = self.pipeline(commands)
        return lambda: replies

    def _answer(self, command: tuple[Any, ...]) -> Any:
        self.asked.append(command[0])
        if command[0] == b"TYPE":
            return b"string"
        if command[0] == b"PTTL":
            return round((self._expires_at_s - self._clock.now_s) * 1000)
        self._clock.sleep(1.0)
        return b"v"


@pytest.mark.parametrize(
    ("later_s", "differs"), [(0.0, False), (1.9, False), (-1.9, False), (6.1, True), (-16.1, True)]
)
def test_the_time_between_the_two_readings_of_an_expiry_is_allowed_for(
    clock: Time, monkeypatch: pytest.MonkeyPatch, later_s: float, differs: bool
) -> None:
    """Between them the contents of four keys are read, which takes four seconds, and to the last reply eight."""
    monkeypatch.setattr(comparing, "time", clock)
    keys = [b"a", b"b", b"c", b"d"]
    source, target = Expiring(clock, 2000.0), Expiring(clock, 2000.0 + later_s)
    clients: Any = source, target
    assert differing(*clients, keys) == (keys if differs else [])
    assert target.asked[:8] == [b"PTTL"] * 4 + [b"GET"] * 4


# --- between two servers


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    if redis_version() != "7.0":
        pytest.skip("redis-server 7.0 is not installed")
    with redis_server(tmp_path_factory.mktemp("one")) as one, redis_server(tmp_path_factory.mktemp("other")) as other:
        yield one, other


@pytest.fixture
def clients(ports: tuple[int, int]) -> Iterator[tuple[Client, Client]]:
    for port in ports:
        redis.Redis(port=port).flushall()
    with Client(Address("127.0.0.1", ports[0])) as one, Client(Address("127.0.0.1", ports[1])) as other:
        yield one, other


def _fill(port: int) -> None:
    client = redis.Redis(port=port)
    client.set("string", bytes(range(256)) * 10_000)
    client.rpush("list", *range(5000))
    client.sadd("set", *range(5000))
    client.hset("hash", mapping={f"f{number}": number for number in range(5000)})
    client.zadd("zset", {f"m{number}": number / 7 for number in range(5000)})


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("string", ["SETRANGE", "string", "2000000", "x"]),
        ("list", ["LSET", "list", "4999", "other"]),
        ("set", ["SMOVE", "set", "other", "77"]),
        ("hash", ["HSET", "hash", "f4321", "other"]),
        ("zset", ["ZADD", "zset", "14.25", "m100"]),
    ],
)
def test_one_item_of_a_large_value_makes_it_differ(
    ports: tuple[int, int], clients: tuple[Client, Client], key: str, change: list[str]
) -> None:
    for port in ports:
        _fill(port)
    keys = [b"string", b"list", b"set", b"hash", b"zset"]
    assert differing(*clients, keys) == []
    changed = redis.Redis(port=ports[1])
    changed.execute_command(*change)
    if key == "set":
        changed.sadd("set", "another")  # so that the numbers of members are the same
    assert differing(*clients, keys) == [key.encode()]


@pytest.mark.parametrize("key", ["string", "list", "set", "hash", "zset"])
def test_a_large_key_of_another_type_is_one_difference(
    ports: tuple[int, int], clients: tuple[Client, Client], key: str
) -> None:
    for port in ports:
        _fill(port)
    changed = redis.Redis(port=ports[1])
    changed.delete(key)
    _set_to_another_type(changed, key)
    assert differing(*clients, [b"string", b"list", b"set", b"hash", b"zset"]) == [key.encode()]


def _set_to_another_type(client: redis.Redis, key: str) -> None:
    client.delete(key)
    if key == "hash":
        client.set(key, "of another type")
    else:
        client.hset(key, "of", "another type")


class Hooked:
    """A client that does something before its command of that number (a pipeline is one); 0 is the first."""

    def __init__(self, client: Client, number: int, action: Callable[[], None]) -> None:
        self._client = client
        self._number = number
        self._action = action

    def pipeline(self, commands: Sequence[Any]) -> Any:
        self._step()
        return self._client.pipeline(commands)

    def begin(self, commands: Sequence[Any]) -> Any:
        self._step()
        return self._client.begin(commands)

    def call(self, *words: Any) -> Any:
        self._step()
        return self._client.call(*words)

    def _step(self) -> None:
        if self._number == 0:
            self._action()
        self._number -= 1


@pytest.mark.parametrize(("side", "number"), [(0, 1), (0, 2), (1, 0), (1, 1)])
@pytest.mark.parametrize("key", ["string", "hash", "small"])
def test_a_key_whose_type_changes_while_it_is_read_is_one_difference(
    ports: tuple[int, int], clients: tuple[Client, Client], key: str, side: int, number: int
) -> None:
    """The source is asked for types, for contents, and then for large ones; the cluster for contents, and large ones."""
    for port in ports:
        _fill(port)
        redis.Redis(port=port).mset({"small": "v", "other": "w"})
    changed = redis.Redis(port=ports[side])
    both: list[Any] = list(clients)
    both[side] = Hooked(clients[side], number, lambda: _set_to_another_type(changed, key))
    found = differing(both[0], both[1], [b"small", b"other", b"string", b"hash"])
    read_before = key == "small" and number == 2 - side
    assert found == ([] if read_before else [key.encode()])


def test_what_else_is_refused_ends_the_comparison(ports: tuple[int, int], clients: tuple[Client, Client]) -> None:
    for port in ports:
        _fill(port)
    redis.Redis(port=ports[1]).execute_command("ACL SETUSER default -getrange")
    try:
        with pytest.raises(Refused, match="NOPERM"):
            differing(*clients, [b"string"])
    finally:
        redis.Redis(port=ports[1]).execute_command("ACL SETUSER default +@all")


def test_a_key_that_ends_between_the_two_readings_is_no_difference(
    ports: tuple[int, int], clients: tuple[Client, Client]
) -> None:
    one, other = (redis.Redis(port=port) for port in ports)
    for client in (one, other):
        client.mset({"stays": "v", "ends": "v"})
    target: Any = Hooked(clients[1], 0, lambda: (one.delete("ends"), other.delete("ends")))
    assert differing(clients[0], target, [b"stays", b"ends"]) == []


def test_pages_are_compared_one_behind_the_other(ports: tuple[int, int], clients: tuple[Client, Client]) -> None:
    """A page is judged when the next one is begun, and the last one at the end; keys of every type."""
    kinds: dict[str, Callable[[redis.Redis, str], object]] = {
        "string": lambda client, value: client.set("string", value),
        "list": lambda client, value: client.rpush("list", value),
        "set": lambda client, value: client.sadd("set", value),
        "hash": lambda client, value: client.hset("hash", "f", value),
        "zset": lambda client, value: client.zadd("zset", {value: 1}),
        "stream": lambda client, value: client.xadd("stream", {"f": value}, "1-1"),
    }
    for port in ports:
        for make in kinds.values():
            make(redis.Redis(port=port), "v")
        redis.Redis(port=port).set("empty", "")
    pages = [[name.encode(), b"empty"] for name in kinds]
    comparison = Comparison(*clients)
    assert [comparison.begin(page) for page in pages] == [[]] * len(pages) and comparison.finish() == []
    for name, make in kinds.items():
        redis.Redis(port=ports[1]).delete(name)
        make(redis.Redis(port=ports[1]), "w")
    told = [comparison.begin(page) for page in pages]
    assert [*told[1:], comparison.finish()] == [[name.encode()] for name in kinds] and told[0] == []
    redis.Redis(port=ports[0]).expire("empty", 100)
    assert differing(*clients, [b"empty"]) == [b"empty"]


def test_large_keys_are_fetched_few_at_a_time(ports: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    client = redis.Redis(port=ports[0])
    client.flushall()
    client.mset({f"large {number}": bytes([number]) * 100_000 for number in range(60)})
    client.mset({f"small {number}": "v" for number in range(3000)})
    client.config_set("rdbcompression", "no")
    monkeypatch.setattr(page_size, "PAGE_BYTES", 1 << 20)
    large = [b"large %d" % number for number in range(60)]
    small = [b"small %d" % number for number in range(3000)]
    reading = Source(f"redis://127.0.0.1:{ports[0]}", 5.0)
    pages = list(reading.dump(0, [*large, *large, *small]))
    reading.close()
    assert [each.key for page in pages for each in page] == [*large, *large, *small]
    assert [len(page) for page in pages[:4]] == [64, 32, 16, 8], "half as many until they are less than 1 MiB"
    assert max(len(page) for page in pages) == page_size.PAGE_KEYS


def test_what_a_cluster_has_no_place_for_is_left_out_and_counted(tmp_path: Path, ports: tuple[int, int]) -> None:
    with redis_server(tmp_path / "many", "--databases", "20") as port:
        first, last = redis.Redis(port=port), redis.Redis(port=port, db=18)
        first.set("a", 1)
        last.mset({"b": 1, "c": 2})
        first.function_load("#!lua name=library\nredis.register_function('f', function() return 1 end)")
        words = ["import", f"redis://127.0.0.1:{port}", "--json"]
        done = dyn(*words, port=ports[1], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["keys"], told["different"]) == (1, 0)
    assert told["left_out"] == {"database 18": 2, "function libraries": 1}


class Refusing(Accepting):
    """A node that lets the second batch fail."""

    def begin(self, commands: Sequence[Any]) -> Callable[[], list[bytes]]:
        replies = super().begin(commands)

        def fail() -> list[bytes]:
            raise NotReached("the node is gone")

        return replies if len(self.came) == 1 else fail


def test_an_import_has_reached_what_is_acknowledged(clock: Time) -> None:
    """Not what was sent: one batch is on its way while the next is gathered."""
    node: Any = Refusing(clock)
    sending = Sender(node, 0)
    write = write_of(0, b"key", b"", b"v", 0)
    sending.add(write)
    sending.begin({"at": 1, "counts": {"keys": 5}})
    assert (len(node.came), sending.reached) == (1, None)
    sending.add(write)
    sending.begin({"at": 2, "counts": {"keys": 5}})
    assert (len(node.came), sending.reached) == (2, {"at": 1, "counts": {"keys": 6}})
    with pytest.raises(NotReached):
        sending.flush({"at": 3, "counts": {"keys": 5}})
    assert sending.reached == {"at": 1, "counts": {"keys": 6}}


def test_a_string_that_becomes_another_type_while_it_is_read_is_read_again(ports: tuple[int, int]) -> None:
    client = redis.Redis(port=ports[0])
    client.flushall()
    client.mset({"a": "v", "b": "v"})
    reading = Source(f"redis://127.0.0.1:{ports[0]}", 5.0)
    hooked: Any = Hooked(reading.client(0), 1, lambda: _set_to_another_type(client, "a"))
    reading._clients[0] = hooked
    [page] = reading.dump(0, [b"a", b"b"])
    assert [(each.key, each.text, bool(each.payload)) for each in page] == [(b"a", None, True), (b"b", b"v", False)]
