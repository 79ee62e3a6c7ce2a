"""What applications build from stock redis-py: a leaderboard, a rate limit, a cart, locks, transactions, messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis
from redis.cache import CacheConfig

from tests.stacks.stack import THREADS, Stack, work_in_calm, work_under_faults
from tests.wire.cluster import Client, WireCluster, wait_for

PLAYERS = 10
LIMIT = 5


class Leaderboard(Stack):
    """Points of players in one sorted set: ZINCRBY, ZREVRANK, ZREVRANGE, ZSCORE."""

    packages = ("redis",)

    def __init__(self, port: int) -> None:
        self._client: Client = redis.Redis(port=port, decode_responses=True)

    def round(self, thread: int, number: int) -> None:
        """A player scores a point, and looks at his place and at the top."""
        player = f"player:{thread}:{number % PLAYERS}"
        points = self._client.zincrby("board", 1, player)
        assert self._client.zscore("board", player) == points, "only this thread gives points to the player"
        top = self._client.zrevrange("board", 0, 9, withscores=True)
        assert [score for _, score in top] == sorted((score for _, score in top), reverse=True)
        assert self._client.zrevrank("board", player) is not None

    def judge(self, rounds: int, unknown: int) -> None:
        """No acknowledged point is lost, and none is there twice."""
        points = sum(score for _, score in self._client.zrange("board", 0, -1, withscores=True))
        assert rounds <= points <= rounds + unknown
        assert rounds < 2 * PLAYERS * THREADS or self._client.zcard("board") == PLAYERS * THREADS


class RateLimit(Stack):
    """A fixed window: INCR, and EXPIRE by the first one; and a sliding one: a sorted set of the moments of requests."""

    packages = ("redis",)

    def __init__(self, port: int) -> None:
        self._client: Client = redis.Redis(port=port)

    def round(self, thread: int, number: int) -> None:
        """A user of this window makes one request more than the limit allows."""
        window, log = f"window:{thread}:{number}", f"log:{thread}:{number}"
        allowed = 0
        for request in range(LIMIT + 1):
            count = self._client.incr(window)
            if count == 1:
                assert self._client.expire(window, 60)
            allowed += count <= LIMIT
            pipeline = self._client.pipeline(transaction=False)
            pipeline.zremrangebyscore(log, 0, request - LIMIT)
            pipeline.zadd(log, {f"request:{request}": request})
            pipeline.zcard(log)
            _, added, size = pipeline.execute()
            assert size == min(request + 1, LIMIT)
            self.told(added, 1)
        assert allowed == LIMIT
        assert 0 < self._client.ttl(window) <= 60


class Cart(Stack):
    """A hash of articles, a set of those who look at them, and a counter of visits: HINCRBY, HGETALL, SADD, PFADD."""

    packages = ("redis",)

    def __init__(self, port: int) -> None:
        self._client: Client = redis.Redis(port=port, decode_responses=True, protocol=3)

    def round(self, thread: int, number: int) -> None:
        """A customer fills a cart, takes one article out, and leaves."""
        cart = f"cart:{thread}:{number}"
        self.told(self._client.hset(cart, mapping={"apples": 2, "pears": 1}), 2)
        assert self._client.hincrby(cart, "apples", 3) == 5
        self.told(self._client.hdel(cart, "pears"), 1)
        assert self._client.hgetall(cart) == {"apples": "5"}
        self._client.sadd("customers", cart)
        assert self._client.sismember("customers", cart)
        self._client.pfadd("visitors", cart)
        assert self._client.expire(cart, 100)
        self.told(self._client.delete(cart), 1)
        assert not self._client.exists(cart)

    def judge(self, rounds: int, unknown: int) -> None:
        """All customers are there, and those who were counted are as many within the error of the count."""
        assert self._client.scard("customers") >= rounds
        assert self._client.pfcount("visitors") == pytest.approx(self._client.scard("customers"), rel=0.05)


class Locked(Stack):
    """redis-py's Lock, whose scripts let go of it only for its owner."""

    packages = ("redis",)

    def __init__(self, port: int) -> None:
        self._client: Client = redis.Redis(port=port)

    def round(self, thread: int, number: int) -> None:
        """A lock is taken, is refused to another one, is kept longer, and is let go."""
        name = f"lock:{thread}:{number}"
        with self._client.lock(name, timeout=60) as lock:
            assert lock.owned() and not self._client.lock(name, timeout=60).acquire(blocking=False)
            assert lock.extend(30) and lock.reacquire()
        assert not self._client.exists(name)


class Transactions(Stack):
    """redis-py's pipelines, which are transactions by default, and its optimistic ones."""

    packages = ("redis",)

    def __init__(self, port: int) -> None:
        self._client: Client = redis.Redis(port=port)

    def round(self, thread: int, number: int) -> None:
        """An account is opened by a pipeline, and changed by a transaction that watches it."""
        account, log = f"account:{thread}:{number}", f"account:{thread}:{number}:log"
        pipeline = self._client.pipeline()
        pipeline.set(account, 100).rpush(log, "opened").expire(log, 100).get(account)
        assert pipeline.execute() == [True, 1, True, b"100"]

        def take(pipeline: Any) -> None:
            left = int(pipeline.get(account)) - 30
            pipeline.multi()
            pipeline.set(account, left)

        assert self._client.transaction(take, account) == [True]
        assert self._client.get(account) == b"70"
        with self._client.pipeline() as pipeline:
            pipeline.watch(account)
            self._client.set(account, 1)
            pipeline.multi()
            pipeline.set(account, 2)
            with pytest.raises(redis.WatchError):
                pipeline.execute()
        assert self._client.get(account) == b"1"


class Messages(Stack):
    """Publish and subscribe through a node that stays well."""

    packages = ("redis",)

    def __init__(self, port: int) -> None:
        self._client: Client = redis.Redis(port=port)

    def round(self, thread: int, number: int) -> None:
        """A subscriber gets what is published to its channel and to its pattern."""
        channel = f"channel:{thread}:{number}"
        with self._client.pubsub(ignore_subscribe_messages=True) as subscriber:
            subscriber.subscribe(channel)
            subscriber.psubscribe(f"{channel}:*")
            for _ in range(2):
                assert subscriber.get_message(timeout=30) is None, "a subscription is confirmed"
            self._client.publish(channel, "one")
            self._client.publish(f"{channel}:sub", "two")
            got = [subscriber.get_message(timeout=30)["data"] for _ in range(2)]
            assert got == [b"one", b"two"]


class ClientCache(Stack):
    """redis-py's cache of its own, which the node invalidates (CLIENT TRACKING)."""

    packages = ("redis",)

    def __init__(self, port: int) -> None:
        self._clients: list[Client] = [
            redis.Redis(port=port, protocol=3, cache_config=CacheConfig()) for _ in range(THREADS)
        ]
        self._writer: Client = redis.Redis(port=port)

    def round(self, thread: int, number: int) -> None:
        """What another client has written is read soon."""
        client, key = self._clients[thread], f"cached:{thread}:{number % 5}"
        self._writer.set(key, number)
        wait_for(lambda: client.get(key) == b"%d" % number, "the new value is read")
        assert client.get(key) == b"%d" % number


KINDS = [Leaderboard, RateLimit, Cart, Locked, Transactions, Messages, ClientCache]


@pytest.mark.parametrize("kind", KINDS)
def test_it_works(cluster: WireCluster, kind: type[Stack]) -> None:
    if kind is Leaderboard:
        cluster.nodes[0].client().delete("board")
    work_in_calm(kind(cluster.ports[0]))


@pytest.mark.parametrize("kind", KINDS)
def test_it_works_while_nodes_fail(make_cluster: Callable[..., WireCluster], kind: type[Stack]) -> None:
    cluster = make_cluster()
    work_under_faults(cluster, kind(cluster.ports[0]))
