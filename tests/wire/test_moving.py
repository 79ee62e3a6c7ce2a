"""dyn import and dyn export between a cluster and redis-server 7.0: all types, databases, expiries; also when torn."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.wire.cluster import WireCluster, dyn, wait_for
from tests.wire.differential.servers import redis_server, redis_version

pytestmark = pytest.mark.skipif(redis_version() != "7.0", reason="redis-server 7.0 is not installed")
EXPIRES_AT_S = 4_000_000_000
LEFT_OUT = {"consumer groups": 2, "last ids": 1, "streams without entries": 2}  # of what fill_streams() makes


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """A redis-server to import from."""
    with redis_server(tmp_path / "redis") as port:
        yield port


@pytest.fixture
def target(cluster: WireCluster) -> Iterator[int]:
    """The port of a node of an empty cluster, which is left empty."""
    client = redis.Redis(port=cluster.ports[0])
    client.execute_command("FLUSHALL", "CONFIRM")
    yield cluster.ports[0]
    client.execute_command("FLUSHALL", "CONFIRM")


def run(*words: str, port: int, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs `dyn`, and shows what it prints as text."""
    done = dyn(*words, port=port, **options)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def fill(port: int) -> None:
    """Keys of every type and encoding, in three databases."""
    for database in (0, 1, 9):
        client = redis.Redis(port=port, db=database)
        client.set("text", f"of {database}")
        client.set("number", 12345 + database)
        client.set("negative", -7)
        client.set("packed", "a" * 5000)
        client.set("binary", bytes(range(256)))
        client.set(b"key \xff\x00" + b"k" * 300, "long name")
        client.set("a" * 200, "compressed name")
        client.set("expires", "v", exat=EXPIRES_AT_S)
        client.rpush("list", *[f"item {number}" for number in range(300)])
        client.rpush("short list", 1, 2, "x" * 9000)
        client.sadd("numbers", *range(100))
        client.sadd("words", *[f"word {number}" for number in range(700)])
        client.hset("hash", mapping={f"field {number}": number for number in range(800)})
        client.hset("short hash", mapping={"f": "v", "g": "w" * 60})
        client.zadd("scores", {f"member {number}": number / 7 for number in range(400)})
        client.zadd("few scores", {"a": 1.5, "b": float("inf"), "c": -3})
        client.expireat("few scores", EXPIRES_AT_S)
    fill_streams(redis.Redis(port=port, db=1))


def fill_streams(server: redis.Redis) -> None:
    """Streams of every kind of entry and node: 9 with entries, 2 of which have groups, and one a deleted last entry."""
    chance, client = random.Random(5), server.pipeline(transaction=False)
    for number in range(2500):  # many nodes of equal fields, with words that are kept as integers of each size
        values = [chance.randint(-(1 << bits), 1 << bits) for bits in (6, 7, 12, 13, 23, 31, 62)]
        fields = {f"field {place}": min(value, (1 << 63) - 1) for place, value in enumerate(values)}
        client.xadd("same fields", fields, f"{number // 9 + 1}-{(number * 7) % 63 + 1 + number % 9 * 100}")
    edges = [
        sign * (1 << bits) + change for bits in (7, 12, 15, 23, 31, 62) for sign in (1, -1) for change in (-1, 0, 1)
    ]
    client.xadd(
        "integers", {str(edge): -edge for edge in edges} | {"least": -(1 << 63), "none": -(1 << 64), "-0": "007"}
    )
    for number in range(150):
        client.xadd(
            "other fields", {f"f{number % (place + 2)}-{place}": chance.randbytes(number) for place in range(5)}
        )
    client.xadd("many fields", {f"field {number}": "" for number in range(1500)})
    client.xadd("binary words", {bytes(range(256)): b"\x00\xff" * 40, b"": b"\r\n$5\r\n"})
    client.xadd("large", {"a": "x" * 100_000, "b": b"y" * 4096, "c": "z" * 63})
    client.xadd("large", {"a": "x" * 100_000})
    for number in range(400):
        client.xadd("deleted", {"a": number, "b": "text"} if number % 3 else {"other": number}, f"{number + 1}-0")
    client.xdel("deleted", *[f"{number}-0" for number in range(1, 399) if number % 7 != 2], "400-0")
    for number in range(350):
        client.xadd("trimmed", {"a": number}, "*")
    client.xtrim("trimmed", maxlen=123, approximate=False)
    client.expireat("trimmed", EXPIRES_AT_S)
    client.xadd("last", {"a": "b"}, f"{(1 << 64) - 2}-{(1 << 64) - 1}")
    client.xadd("last", {"a": "b"}, f"{(1 << 64) - 1}-{(1 << 64) - 1}")
    client.xgroup_create("binary words", "group", "0")
    client.xreadgroup("group", "consumer", {"binary words": ">"})
    client.xgroup_create("trimmed", "group", "$")
    client.xgroup_create("empty", "group", "$", mkstream=True)
    client.xadd("emptied", {"a": "b"})
    client.xtrim("emptied", maxlen=0)
    client.execute()


def content(port: int, database: int) -> dict[bytes, Any]:
    """What a database holds, and when it expires."""
    client = redis.Redis(port=port, db=database)
    found: dict[bytes, Any] = {}
    for key in client.scan_iter(count=1000):
        kind = client.type(key).decode()
        reads: dict[str, Any] = {
            "string": lambda key: client.get(key),
            "list": lambda key: client.lrange(key, 0, -1),
            "set": lambda key: client.smembers(key),
            "hash": lambda key: client.hgetall(key),
            "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
            "stream": lambda key: client.execute_command("XRANGE", key, "-", "+"),
        }
        if kind != "stream" or client.xlen(key):  # a cluster has no streams without entries
            found[key] = (kind, reads[kind](key), client.expiretime(key))
    return found


def assert_same(one: int, other: int) -> None:
    for database in (0, 1, 9):
        assert content(one, database) == content(other, database)
        assert content(one, database)


def saved(port: int, tmp_path: Path) -> Path:
    """The RDB file of a server."""
    redis.Redis(port=port).save()
    return Path(redis.Redis(port=port, decode_responses=True).config_get("dir")["dir"]) / "dump.rdb"


def test_a_file_is_imported_whole(port: int, target: int, tmp_path: Path) -> None:
    fill(port)
    redis.Redis(port=port, db=1).set("soon", "gone", px=1)
    file = saved(port, tmp_path)
    done = run("import", str(file), "--json", port=target)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["keys"], told["refused"], told["left_out"]) == (48 + 9, 0, LEFT_OUT)
    assert_same(port, target)
    assert not file.with_name("dump.rdb.dyn-import").exists()


def test_what_is_exported_redis_loads(port: int, target: int, tmp_path: Path) -> None:
    fill(port)
    done = run("import", f"redis://127.0.0.1:{port}", "--json", port=target, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["keys"], told["different"], told["left_out"]) == (48 + 9, 0, LEFT_OUT)
    assert_same(port, target)
    (tmp_path / "again").mkdir()
    done = run("export", str(tmp_path / "again" / "dump.rdb"), "--json", port=target)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["keys"] == 48 + 9
    subprocess.run(["redis-check-rdb", str(tmp_path / "again" / "dump.rdb")], check=True, capture_output=True)
    with redis_server(tmp_path / "again") as loaded:
        wait_for(lambda: not redis.Redis(port=loaded).info("persistence")["loading"], "the file is loaded")
        assert_same(loaded, target)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "no file of Redis"])
def test_a_damaged_file_writes_nothing(port: int, target: int, tmp_path: Path, damage: str) -> None:
    fill(port)
    data = bytearray(saved(port, tmp_path).read_bytes())
    if damage == "truncated":
        del data[len(data) // 2 :]
    elif damage == "flipped":
        data[len(data) // 2] ^= 1
    else:
        data[:5] = b"RADIS"
    file = tmp_path / "damaged.rdb"
    file.write_bytes(data)
    done = run("import", str(file), port=target)
    assert done.returncode == (2 if damage == "no file of Redis" else 1)
    assert ("is no RDB file" if damage == "no file of Redis" else "truncated or damaged") in done.stderr
    assert redis.Redis(port=target).dbsize() == 0


def test_a_file_without_a_checksum_that_ends_early_is_told(port: int, target: int, tmp_path: Path) -> None:
    redis.Redis(port=port).config_set("rdbcompression", "no")
    fill(port)
    data = saved(port, tmp_path).read_bytes()
    file = tmp_path / "cut.rdb"
    file.write_bytes(data[: len(data) // 2] + b"\xff" + bytes(8))
    done = run("import", str(file), port=target)
    assert done.returncode == 1 and "dyn: " in done.stderr and "cannot be imported" in done.stderr


@pytest.mark.parametrize("kind", ["file", "server"])
def test_an_import_that_was_killed_goes_on_where_it_was(port: int, target: int, tmp_path: Path, kind: str) -> None:
    many = 6000
    client = redis.Redis(port=port)
    client.mset({f"key {number}": number for number in range(many)})
    source = str(saved(port, tmp_path)) if kind == "file" else f"redis://127.0.0.1:{port}"
    noted = tmp_path / "noted"
    words = ["import", source, "--progress-file", str(noted), "--json"]
    command = [sys.executable, "-m", "dynamo_cli", "--port", str(target), *words, "--rate", "600"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: noted.exists() and '"keys"' in noted.read_text(), "some keys are imported")
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    before = redis.Redis(port=target).dbsize()
    assert 0 < before < many
    done = run(*words, port=target, timeout_s=60)
    assert done.returncode == 0, done.stderr
    assert "going on" in done.stderr
    assert json.loads(done.stdout)["keys"] == many
    assert redis.Redis(port=target).dbsize() == many
    assert not noted.exists()


def test_a_server_is_followed_until_the_change_over(port: int, target: int, tmp_path: Path) -> None:
    source = redis.Redis(port=port)
    source.mset({f"key {number}": number for number in range(2000)})
    for name in ("grows", "loses entries", "is trimmed", "is emptied"):
        for number in range(200):
            source.xadd(name, {"a": number}, f"{number + 1}-0")
        source.xgroup_create(name, "group", "$")
    source.config_set("notify-keyspace-events", "Kg")
    words = ["import", f"redis://127.0.0.1:{port}", "--follow", "--json"]
    command = [sys.executable, "-m", "dynamo_cli", "--port", str(target), *words]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert running.stderr is not None
    told = running.stderr.readline()
    assert told.startswith("following: "), told
    writing = threading.Thread(target=_write_on, args=(port,))
    writing.start()
    writing.join()
    wait_for(lambda: redis.Redis(port=target, db=3).get("last") == b"one", "the last write is followed")
    running.send_signal(signal.SIGINT)
    out, errors = running.communicate(timeout=60)
    assert running.returncode == 0, errors
    assert json.loads(out)["different"] == 0
    assert json.loads(out)["followed"] > 0
    assert json.loads(out)["left_out"] == {"consumer groups": 4, "last ids": 1, "streams without entries": 1}
    assert "of 4 streams the consumer groups were left out" in errors
    assert "of 1 stream the id of a deleted last entry was left out" in errors
    assert "left out: 1 stream without entries" in errors
    assert not redis.Redis(port=target).exists("is emptied")
    assert content(port, 0) == content(target, 0)
    assert content(port, 3) == content(target, 3)
    assert set(source.config_get("notify-keyspace-events")["notify-keyspace-events"]) == set("Kg")


def _write_on(port: int) -> None:
    client = redis.Redis(port=port)
    for number in range(300):
        client.set(f"key {number}", "new")
        client.rpush("list", number)
        client.delete(f"key {number + 1000}")
    for number in range(50):
        client.xadd("grows", {"b": number})
        client.xdel("loses entries", f"{number * 2 + 1}-0", f"{200 - number}-0")
    client.xtrim("is trimmed", maxlen=7, approximate=False)
    client.xtrim("is emptied", maxlen=0)
    client.expireat("key 5", EXPIRES_AT_S)
    redis.Redis(port=port, db=3).set("last", "one")


def test_a_key_that_differs_is_told(port: int, target: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = redis.Redis(port=port)
    source.mset({"a": 1, "b": 2})
    source.hset("h", "f", "v")
    done = run("import", f"redis://127.0.0.1:{port}", port=target, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    from dynamo_cli.addresses import Address
    from dynamo_cli.client import Client
    from dynamo_cli.moving.comparison import differing

    keys = [b"a", b"b", b"h", b"none"]
    with Client(Address("127.0.0.1", port)) as one, Client(Address("127.0.0.1", target)) as other:
        assert differing(one, other, keys) == []
        redis.Redis(port=target).set("a", 3)
        assert differing(one, other, keys) == [b"a"]
        redis.Redis(port=target).hset("h", "f", "w")
        redis.Redis(port=target).expire("b", 100)
        assert differing(one, other, keys) == [b"a", b"b", b"h"]


def add_stream(client: redis.Redis, name: bytes, size: int, other: int = -1) -> None:
    """Adds a stream of so many entries and a last one, which has the last id of all. One of them is another one."""
    adding = client.pipeline()
    adding.delete(name)
    for number in range(size):
        adding.xadd(name, {"a": "other" if number == other else number}, f"{number + 1}-0")
    adding.xadd(name, {"a": "last"}, f"{(1 << 64) - 1}-{(1 << 64) - 1}")
    adding.execute()


def test_a_stream_that_differs_is_told(port: int, target: int) -> None:
    """Small ones are compared at once, large ones in parts; one without entries is as good as none."""
    from dynamo_cli.addresses import Address
    from dynamo_cli.client import Client
    from dynamo_cli.moving.comparison import CONTENT_MAX, differing

    source, copied = redis.Redis(port=port), redis.Redis(port=target)
    sizes = {b"small": 3, b"large": 2 * CONTENT_MAX - 1, b"larger": 2 * CONTENT_MAX}
    for name, size in sizes.items():
        add_stream(source, name, size)
        add_stream(copied, name, size)
    source.xgroup_create("empty", "group", "$", mkstream=True)
    keys = [*sizes, b"empty"]
    with Client(Address("127.0.0.1", port)) as one, Client(Address("127.0.0.1", target)) as other:
        assert differing(one, other, keys) == []
        copied.xadd("empty", {"a": "b"})
        for name, size in sizes.items():
            add_stream(copied, name, size, other=size - 1)
        assert differing(one, other, keys) == keys


def test_an_export_with_expiries_of_fields_comes_back(target: int, tmp_path: Path) -> None:
    client = redis.Redis(port=target, db=2)
    client.hset("h", mapping={"stays": "1", "goes": "2"})
    client.execute_command("HEXPIREAT", "h", EXPIRES_AT_S, "FIELDS", 1, "goes")
    file = tmp_path / "fields.rdb"
    assert run("export", str(file), "--db", "2", port=target).returncode == 0
    assert file.read_bytes()[:9] == b"REDIS0012", "Redis 7.4 has them"
    redis.Redis(port=target).execute_command("FLUSHALL", "CONFIRM")
    done = run("import", str(file), port=target)
    assert (done.returncode, done.stdout) == (0, "imported: 1 key\n")
    assert client.hgetall("h") == {b"stays": b"1", b"goes": b"2"}
    assert client.execute_command("HEXPIRETIME", "h", "FIELDS", 2, "stays", "goes") == [-1, EXPIRES_AT_S]


class Hooked:
    """Progress that does something when it is shown for the first time: a page of keys has been read then."""

    def __init__(self, action: Callable[[], object]) -> None:
        self._action: Callable[[], object] | None = action

    def show(self, done: int, total: int, words: str) -> None:
        action, self._action = self._action, None
        if action is not None:
            action()


@pytest.mark.parametrize("swaps", [0, 1, 2])
def test_an_export_while_databases_are_swapped_makes_no_file(target: int, tmp_path: Path, swaps: int) -> None:
    """Even if they are swapped back before it ends."""
    from dynamo_cli.failures import Failure
    from dynamo_cli.moving import file_export
    from dynamo_cli.target import Target

    client = redis.Redis(port=target)
    client.mset({"a": 1, "b": 2})
    redis.Redis(port=target, db=1).set("c", 3)
    shown = Hooked(lambda: [client.execute_command("SWAPDB", 0, 1) for _ in range(swaps)])
    file, node = tmp_path / "dump.rdb", Target("127.0.0.1", target)
    try:
        if swaps:
            with pytest.raises(Failure, match="databases were swapped meanwhile"):
                file_export.export(file, node, None, shown)
            assert list(tmp_path.iterdir()) == []
            assert file_export.export(file, node, [0, 5], shown)["keys"] == (1 if swaps == 1 else 2)
        else:
            assert file_export.export(file, node, None, shown)["keys"] == 3
    finally:
        if swaps == 1:
            client.execute_command("SWAPDB", 0, 1)


def test_keys_that_are_too_large_are_refused_and_all_others_imported(port: int, target: int, tmp_path: Path) -> None:
    """By what a key may have, a value, and a request: a node closes the connection of a request that is too long."""
    source = redis.Redis(port=port)
    source.config_set("rdbcompression", "no")
    source.mset({f"key {number}": number for number in range(100)})
    item = b"x" * (1 << 20)
    for _ in range(70):
        source.rpush("list of 70 MiB", item)
    for _ in range(40):
        source.rpush("list of 40 MiB", item)
    for _ in range(30):
        source.rpush("list of 30 MiB", item)
    source.set("string of 17 MiB", item * 17)
    done = run("import", f"redis://127.0.0.1:{port}", "--json", port=target, cwd=tmp_path, timeout_s=120)
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert (told["keys"], told["refused"], told["different"]) == (101, 3, 3)
    limits = {each["key"]: each["error"] for each in told["refusals"]}
    assert "record_bytes_max" in limits["list of 40 MiB"]
    assert "value_bytes_max" in limits["string of 17 MiB"]
    assert "request_bytes_max is 67108864" in limits["list of 70 MiB"]
    assert "refused in database 0: 'list of 70 MiB': " in done.stderr
    assert "raise the limit that the error names, on all nodes" in done.stderr
    assert redis.Redis(port=target).llen("list of 30 MiB") == 30
    assert redis.Redis(port=target).dbsize() == 101
