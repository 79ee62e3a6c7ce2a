"""What applications build from stock redis-py: a leaderboard, a rate limit, a cart."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from tests.stacks.stack import THREADS, Stack, work_under_faults
from tests.wire.cluster import Client, WireCluster

PLAYERS = 10
LIMIT = 5


class Leaderboard(Stack):
    """Points of players in one sorted set: ZINCRBY, ZREVRANK, ZREVRANGE, ZSCORE."""

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
        assert self._client.zcard("board") == PLAYERS * THREADS


class RateLimit(Stack):
    """A fixed window: INCR, and EXPIRE by the first one; and a sliding one: a sorted set of the moments of requests."""

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


@pytest.mark.parametrize("kind", [Leaderboard, RateLimit, Cart])
def test_it_works_while_nodes_fail(make_cluster: Callable[..., WireCluster], kind: type[Stack]) -> None:
    cluster = make_cluster()
    work_under_faults(cluster, kind(cluster.ports[0]))
