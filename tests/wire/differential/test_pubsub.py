"""Publish/subscribe: what several connections are told, byte for byte as redis-server tells it, in both protocols.

A script is a list of (connection, command). After each command the publisher's or subscriber's reply is read, and each
other connection is asked for what it has got until then: by a message to a channel of its own, which it waits for.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pytest

from protocol import resp
from tests.wire.cluster import WireCluster
from tests.wire.differential.servers import Asker, Command, redis_server, redis_version

pytestmark = pytest.mark.skipif(redis_version() != "7.0", reason="redis-server 7.0 is not installed")
Script = list[tuple[int, Command]]
CLIENTS = 3
MARK = b"diff:mark"


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A redis-server of its own."""
    with redis_server(tmp_path_factory.mktemp("redis")) as port:
        yield port


def _run(port: int, protocol: int, script: Script) -> list[list[bytes]]:
    """What each of the connections is told, in order; the last one publishes and only gets replies."""
    clients = [Asker(port, protocol) for _ in range(CLIENTS)]
    publisher = Asker(port, protocol)
    told: list[list[bytes]] = [[] for _ in range(CLIENTS + 1)]

    def drain(number: int) -> None:
        """Reads what a connection has been told until a message to its own channel arrives, which is sent now. Of the
        patterns that a message matches, the order is that of Redis' hash table."""
        publisher.ask((b"PUBLISH", MARK + b"%d" % number, b"now"))
        found = []
        while MARK not in (reply := clients[number].reply()):
            found.append(reply)
        told[number] += sorted(found) if len(found) > 1 and b"pmessage" in found[-1] else found

    for number, client in enumerate(clients):
        client.ask((b"SUBSCRIBE", MARK + b"%d" % number))
    for number, command in script:
        if number == CLIENTS:
            told[CLIENTS].append(publisher.ask(command))
        else:
            clients[number].send(command)
        for each in range(CLIENTS):
            drain(each)
    for client in (*clients, publisher):
        client.close()
    return told


def _words(line: str) -> Command:
    return tuple([word.encode() for word in line.split()])


FIXED: Script = [
    (number, _words(line))
    for number, line in (
        (0, "SUBSCRIBE a b a"), (0, "PSUBSCRIBE a* b?"), (1, "SUBSCRIBE a"), (1, "SSUBSCRIBE s a"), (2, "PSUBSCRIBE *"),
        (3, "PUBLISH a one"), (3, "PUBLISH bb two"), (3, "SPUBLISH a three"), (3, "SPUBLISH x four"), (3, "PUBLISH s 5"),
        (0, "UNSUBSCRIBE b zz"), (3, "PUBLISH a six"), (1, "SUNSUBSCRIBE a"), (3, "SPUBLISH a seven"), (0, "PING"),
        (0, "PING hello"), (0, "PUNSUBSCRIBE nope a*"), (0, "GET x"), (0, "CLIENT ID FOO"),
        (0, "SUBSCRIBE"), (0, "PSUBSCRIBE"), (0, "SSUBSCRIBE"), (3, "PUBLISH"), (3, "PUBLISH a"), (3, "PUBLISH a b c"),
        (3, "SPUBLISH a"), (3, "PUBSUB NUMSUB a s zz"), (3, "PUBSUB NUMPAT"), (3, "PUBSUB SHARDNUMSUB s a"),
        (3, "PUBSUB SHARDCHANNELS"), (3, "PUBSUB CHANNELS a*"), (3, "PUBSUB CHANNELS a b"), (3, "PUBSUB FOO"),
        (3, "PUBSUB"), (3, "PUBSUB NUMPAT x"), (3, "PUBSUB NUMSUB"), (2, "PUNSUBSCRIBE *"), (2, "PUNSUBSCRIBE"),
        (1, "SUNSUBSCRIBE s"), (1, "SUNSUBSCRIBE"), (2, "HELLO 3"), (1, "UNSUBSCRIBE a"), (1, "FOO BAR"),
    )
]  # fmt: skip


def _random(rng: random.Random, count: int) -> Script:
    """Random subscriptions and messages. An UNSUBSCRIBE names one channel at least: the order of all is Redis' own."""
    names, patterns = ["a", "b", "ab", "abc", "[a]", ""], ["a*", "*b", "?", "[ab]*", "a\\*", "*", "", "ab[^x]"]
    script: Script = []
    for _ in range(count):
        draw = rng.random()
        name, pattern = rng.choice(names).encode(), rng.choice(patterns).encode()
        client = rng.randrange(CLIENTS)
        if draw < 0.45:
            script.append((CLIENTS, (rng.choice((b"PUBLISH", b"SPUBLISH")), name, rng.randbytes(3))))
        elif draw < 0.75:
            word = rng.choice((b"SUBSCRIBE", b"UNSUBSCRIBE", b"SSUBSCRIBE", b"SUNSUBSCRIBE"))
            script.append((client, (word, name)))
        else:
            script.append((client, (rng.choice((b"PSUBSCRIBE", b"PUNSUBSCRIBE")), pattern)))
    return script


def _same(cluster: WireCluster, redis_port: int, protocol: int, script: Script) -> None:
    redis, ours = _run(redis_port, protocol, script), _run(cluster.ports[0], protocol, script)
    for number in range(CLIENTS + 1):
        for place, (one, other) in enumerate(zip(ours[number], redis[number], strict=False)):
            assert one == other, f"connection {number}, reply {place}"
        assert len(ours[number]) == len(redis[number]), f"connection {number}"


@pytest.mark.parametrize("protocol", [2, 3])
def test_fixed_calls_are_answered_as_redis_answers(cluster: WireCluster, redis_port: int, protocol: int) -> None:
    _same(cluster, redis_port, protocol, FIXED)


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_random_scripts_tell_what_redis_tells(cluster: WireCluster, redis_port: int, protocol: int, seed: int) -> None:
    _same(cluster, redis_port, protocol, _random(random.Random(seed), 60))


@pytest.mark.parametrize("call", ["PUBLISH other x", "SUBSCRIBE other", "PSUBSCRIBE n*", "SSUBSCRIBE other", "SPUBLISH y x",
                                  "SUBSCRIBE news:1 other", "PSUBSCRIBE news:*", "PUBLISH news:1 x", "UNSUBSCRIBE other",
                                  "ACL DRYRUN app publish other x", "ACL DRYRUN app psubscribe n*",
                                  "COMMAND GETKEYS spublish a b", "COMMAND GETKEYS ssubscribe a"])  # fmt: skip
def test_rights_to_channels_are_those_of_redis(cluster: WireCluster, redis_port: int, call: str) -> None:
    said = []
    for port in (redis_port, cluster.ports[0]):
        admin, app = Asker(port, 2), Asker(port, 2)
        admin.ask(_words("ACL SETUSER app reset on >pw +@all ~* &news:*"))
        assert app.ask(_words("AUTH app pw")) == resp.OK
        said.append(app.ask(_words(call)))
        admin.ask(_words("ACL DELUSER app"))
    assert said[0] == said[1]


TRACKING = [
    "CLIENT TRACKING", "CLIENT TRACKING maybe", "CLIENT TRACKING ON foo", "CLIENT TRACKING ON REDIRECT",
    "CLIENT TRACKING ON REDIRECT x", "CLIENT TRACKING ON REDIRECT 999999999", "CLIENT TRACKING ON PREFIX a",
    "CLIENT TRACKING ON BCAST OPTIN", "CLIENT TRACKING ON OPTIN OPTOUT", "CLIENT TRACKING ON BCAST PREFIX a PREFIX ab",
    "CLIENT CACHING YES", "CLIENT CACHING", "CLIENT GETREDIR", "CLIENT TRACKINGINFO", "CLIENT TRACKING ON",
    "CLIENT TRACKING ON", "CLIENT TRACKINGINFO", "CLIENT GETREDIR", "CLIENT CACHING YES", "CLIENT TRACKING ON BCAST",
    "CLIENT TRACKING OFF", "CLIENT TRACKING OFF foo", "CLIENT TRACKING ON OPTIN", "CLIENT CACHING NO",
    "CLIENT CACHING maybe", "CLIENT CACHING YES", "CLIENT TRACKINGINFO", "PING", "CLIENT TRACKINGINFO",
    "CLIENT TRACKING ON OPTOUT", "CLIENT TRACKING OFF", "CLIENT TRACKING ON OPTOUT NOLOOP", "CLIENT CACHING no",
    "CLIENT CACHING yes", "CLIENT TRACKINGINFO", "RESET", "CLIENT TRACKINGINFO", "CLIENT TRACKING ON BCAST PREFIX a",
    "CLIENT TRACKING ON BCAST PREFIX ab", "CLIENT TRACKING ON BCAST PREFIX b", "CLIENT TRACKINGINFO",
    "CLIENT TRACKING OFF", "CLIENT TRACKINGINFO", "CLIENT TRACKING ON BCAST", "CLIENT TRACKINGINFO",
    "CLIENT TRACKING ON BCAST PREFIX a", "CLIENT TRACKING ON BCAST", "CLIENT TRACKING OFF",
    "CLIENT TRACKING ON BCAST PREFIX a", "CLIENT TRACKING ON BCAST", "CLIENT TRACKINGINFO", "CLIENT TRACKING OFF",
]  # fmt: skip


@pytest.mark.parametrize("protocol", [2, 3])
def test_tracking_is_asked_for_as_in_redis(cluster: WireCluster, redis_port: int, protocol: int) -> None:
    redis, ours = Asker(redis_port, protocol), Asker(cluster.ports[0], protocol)
    for line in TRACKING:
        told = [each.ask(_words(line)) for each in (redis, ours)]
        assert sorted(told[0].split(b"\r\n")) == sorted(told[1].split(b"\r\n")), line
    redis.close()
    ours.close()


def _other_than(asker: Asker, known: list[bytes]) -> bytes:
    """The next reply that is no repeated push: our replicas change one after the other, and each tells of it."""
    while (reply := asker.reply()) in known and reply.startswith(b">"):
        pass
    return reply


def test_invalidations_come_as_redis_sends_them(cluster: WireCluster, redis_port: int) -> None:
    """One key at a time, each of which only one client has read: then the order of pushes is fixed."""
    told = []
    for port in (redis_port, cluster.ports[0]):
        reader, writer = Asker(port, 3), Asker(port, 2)
        got = [
            reader.ask(_words(line)) for line in ("CLIENT TRACKING ON", "DEL track:a", "GET track:a", "MGET track:b x")
        ]
        for line, then in (
            ("SET track:a 1", "GET track:a"),
            ("SET track:b 1", "GET track:b"),
            ("SET track:c 1", "GET track:c"),
        ):
            writer.ask(_words(line))
            if "track:c" not in line:  # which nobody has read
                got.append(_other_than(reader, got))
            reader.send(_words(then))
            got.append(_other_than(reader, got[4:]))
        told.append(got)
        reader.close()
        writer.close()
    assert told[0] == told[1]


def test_with_noloop_a_client_is_told_what_redis_tells(cluster: WireCluster, redis_port: int) -> None:
    """Its own writes, single ones and in a transaction, and those of others; after each it reads the key again."""
    told = []
    for port, other_port in ((redis_port, redis_port), (cluster.ports[0], cluster.ports[1])):
        client, other = Asker(port, 3), Asker(other_port, 2)
        got = [client.ask(_words("CLIENT TRACKING ON NOLOOP"))]
        for key in ("noloop:a", "noloop:b", "noloop:c", "noloop:d"):
            for asker, line in (
                (client, f"DEL {key}"), (client, f"GET {key}"), (client, f"SET {key} 1"), (client, f"GET {key}"),
                (client, "MULTI"), (client, f"INCR {key}"), (client, "EXEC"), (client, f"GET {key}"),
                (other, f"INCR {key}"),
            ):  # fmt: skip
                got.append(asker.ask(_words(line)))
            got.append(client.reply())
        client.ask(_words("GET noloop:a"))
        other.ask(_words("FLUSHDB"))
        while (reply := client.reply()) != b">2\r\n$10\r\ninvalidate\r\n_\r\n":
            assert reply.startswith(b">"), reply
        told.append(got)
        for each in (client, other):
            each.close()
    assert told[0] == told[1]


READS = [
    "GET miss:a", "GET miss:a", "MGET miss:a miss:b", "EXISTS miss:a", "TTL miss:a", "HGET miss:a f", "LRANGE miss:a 0 -1",
    "SMEMBERS miss:a", "ZSCORE miss:a m", "TYPE miss:a", "STRLEN miss:a", "GETRANGE miss:a 0 1", "SCARD miss:a",
    "XLEN miss:a", "PFCOUNT miss:a", "DEL miss:a", "SET miss:a 1", "GET miss:a", "INCR miss:c", "SET miss:d 1 XX",
    "EXPIRE miss:e 5", "HDEL miss:f f", "LPOP miss:g", "GETDEL miss:h", "BITCOUNT miss:i", "OBJECT ENCODING miss:j",
    "DUMP miss:k", "GEOPOS miss:l m", "SINTER miss:a1 miss:a2", "ZCARD miss:m", "HGETALL miss:n", "LLEN miss:o",
]  # fmt: skip


def _misses(port: int, total: int) -> Counter[bytes]:
    """The keys of the misses that `READS` cause, once these are `total` or more. Each key has its own coordinator, so the
    events of two keys may come in any order."""
    listener, client = Asker(port, 2), Asker(port, 2)
    client.ask((b"CONFIG", b"SET", b"notify-keyspace-events", b"Em"))
    listener.ask(_words("PSUBSCRIBE __key*"))
    for line in READS:
        client.ask(_words(line))
        client.ask((b"GET", b"miss:mark"))
    found: Counter[bytes] = Counter()
    while found[b"miss:mark"] < len(READS) or found.total() < total:
        found[listener.reply().split(b"\r\n")[8]] += 1
    client.ask((b"CONFIG", b"SET", b"notify-keyspace-events", b""))
    client.ask((b"DEL", b"miss:a", b"miss:c"))
    listener.close()
    client.close()
    return found


def test_reads_that_find_nothing_cause_the_misses_of_redis(cluster: WireCluster, redis_port: int) -> None:
    wanted = _misses(redis_port, 0)
    assert wanted.total() > len(READS)
    assert _misses(cluster.ports[0], wanted.total()) == wanted


EVENTS = [
    "SET a 1", "SET a 1 EX 100", "SETEX a 100 1", "PSETEX a 100000 1", "SETNX n 1", "SETNX n 2", "GETSET n 3", "INCR n",
    "DECR n", "INCRBY n 5", "DECRBY n 2", "INCRBYFLOAT n 1.5", "APPEND a x", "SETRANGE a 0 y", "MSET b 1 c 2",
    "MSETNX b 1 d 2", "SETBIT bits 0 1", "BITFIELD bits SET u8 0 1", "BITOP NOT d a", "BITOP NOT d nope", "PFADD p x",
    "PFADD p x", "PFMERGE p2 p", "GETEX n PERSIST", "GETEX a PERSIST", "GETEX a EX 100", "GETDEL n", "EXPIRE a 100",
    "EXPIRE a 1 GT", "PEXPIRE a 100000", "PERSIST a", "PERSIST a", "EXPIRE a -1", "EXPIRE a 10", "LPUSH l 1 2 3",
    "LPUSHX l 4", "LPUSHX nope 4", "RPUSHX l 3", "RPUSH l 9", "LINSERT l BEFORE 9 8", "LSET l 0 x", "LREM l 0 nope",
    "LREM l 0 9", "LTRIM l 0 3", "LMOVE l m LEFT RIGHT", "RPOPLPUSH l m", "LMPOP 1 l LEFT", "RPOP l", "LPOP m 5",
    "HSET h f 1 g 2", "HSET h f 1", "HSETNX h f 1", "HSETNX h k 1", "HINCRBY h f 1", "HINCRBYFLOAT h f 1", "HDEL h nope",
    "HDEL h f", "HDEL h g k", "SADD s 1 2 3", "SADD s 1", "SMOVE s t 1", "SUNIONSTORE u s t", "SINTERSTORE u s t",
    "SDIFFSTORE u s t", "SREM s 2", "SREM s nope", "SPOP t", "SPOP s 9", "ZADD z 1 a 2 b 3 c", "ZADD z 1 a",
    "ZADD z INCR 1 a", "ZINCRBY z 1 a", "ZUNIONSTORE y 1 z", "ZINTERSTORE y 2 z y", "ZDIFFSTORE y 2 z y",
    "ZRANGESTORE x z 0 0", "ZPOPMIN z", "ZPOPMAX z", "ZREMRANGEBYRANK z 0 0", "ZADD z 1 a 2 b", "ZREMRANGEBYSCORE z 1 1",
    "ZREM z b", "GEOADD g 1 1 m 2 2 o", "GEOSEARCHSTORE gs g FROMMEMBER m BYRADIUS 500 km", "RENAME b bb", "RENAMENX bb c",
    "RENAMENX bb b3", "COPY b3 b4", "COPY b3 c REPLACE", "SADD so 3 1 2", "SORT so STORE sorted", "SORT nope STORE sorted",
    "DEL b3 b4 nope", "UNLINK c", "DEL nope", "SET q 1 XX", "SET q 1 NX", "SET q 2 GET", "SET q 3 KEEPTTL",
    "XADD xa 1-1 a b", "XADD xa MAXLEN 2 2-1 a b", "XADD xa MAXLEN 2 3-1 a b", "XADD xa MINID 2 4-1 a b",
    "XADD xa NOMKSTREAM MINID 4 5-1 a b", "XADD xb NOMKSTREAM MAXLEN 1 5-1 a b", "XADD xb MAXLEN 0 5-1 a b",
    "XTRIM xa MAXLEN 9", "XTRIM xa MAXLEN 1", "XDEL xa 4-1", "XADD xa MAXLEN 1 6-1 a b", "XDEL xa 6-1", "XDEL xa 6-1",
]  # fmt: skip


@pytest.mark.parametrize("flags", [b"KEA", b"AKEn", b"Kg", b"Elx", b"", b"KEm", b"KEQ", b"E$lshz"])
def test_the_setting_of_keyspace_events(cluster: WireCluster, redis_port: int, flags: bytes) -> None:
    told = []
    for port in (redis_port, cluster.ports[0]):
        client = Asker(port, 2)
        got = [client.ask((b"CONFIG", b"SET", b"notify-keyspace-events", flags))]
        got.append(client.ask((b"CONFIG", b"GET", b"notify-keyspace-events")))
        client.ask((b"CONFIG", b"SET", b"notify-keyspace-events", b""))
        told.append(got)
        client.close()
    assert told[0] == told[1]


def test_commands_cause_the_events_of_redis(cluster: WireCluster, redis_port: int) -> None:
    """Those of each key in their order. Those of two keys may come in any, as each key has a coordinator of its own; and
    behind the reply to the command."""
    told: list[dict[bytes, list[bytes]]] = []
    for port in (redis_port, cluster.ports[0]):
        listener, client = Asker(port, 2), Asker(port, 2)
        client.ask(_words("DEL a b c d l m h s t u x y z g gs n p p2 bits so sorted b3 b4 bb q xa xb end"))
        client.ask((b"CONFIG", b"SET", b"notify-keyspace-events", b"KEAn"))
        listener.ask(_words("PSUBSCRIBE __key*"))
        for line in (*EVENTS, "SET end 1"):
            client.ask(_words(line))
        count = sum([len(events) for events in told[0].values()]) if told else 1 << 30
        found: dict[bytes, list[bytes]] = {}
        while count > 0:
            channel, payload = listener.reply().split(b"\r\n")[6:9:2]
            found.setdefault(channel, []).append(payload)
            count = 0 if not told and channel == b"__keyevent@0__:set" and payload == b"end" else count - 1
        client.ask((b"CONFIG", b"SET", b"notify-keyspace-events", b""))
        told.append(found)
        listener.close()
        client.close()
    redis, ours = [{name: events for name, events in found.items() if name.startswith(b"__keyspace")} for found in told]
    assert [(key, redis[key], ours.get(key)) for key in redis if redis[key] != ours.get(key)] == []
    assert list(ours.keys() - redis.keys()) == []
    assert {name: sorted(keys) for name, keys in told[0].items() if name.startswith(b"__keyevent")} == {
        name: sorted(keys) for name, keys in told[1].items() if name.startswith(b"__keyevent")
    }
