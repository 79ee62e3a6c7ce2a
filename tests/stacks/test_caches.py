"""Libraries of caches, limits and models, from their own packages: aiocache, dogpile.cache, limits, walrus, redis-om."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.stacks.stack import THREADS, Stack, work_in_calm, work_under_faults
from tests.wire.cluster import WireCluster

LIMIT = 5


class Aiocache(Stack):
    """aiocache, with its lock for the makers of one value."""

    packages = ("aiocache",)

    def __init__(self, port: int) -> None:
        pytest.importorskip("aiocache")
        from aiocache import RedisCache
        from aiocache.serializers import JsonSerializer

        self._loops = [asyncio.new_event_loop() for _ in range(THREADS)]
        self._caches: list[Any] = [
            RedisCache(endpoint="127.0.0.1", port=port, namespace="aiocache", serializer=JsonSerializer(), timeout=60)
            for _ in range(THREADS)
        ]

    def round(self, thread: int, number: int) -> None:
        """Each thread has a loop of its own."""
        self._loops[thread].run_until_complete(self._round(self._caches[thread], f"{thread}:{number}"))

    async def _round(self, cache: Any, key: str) -> None:
        from aiocache.lock import OptimisticLock, RedLock

        await cache.set(key, {"a": 1}, ttl=60)
        assert await cache.get(key) == {"a": 1}
        with pytest.raises(ValueError, match="already exists"):
            await cache.add(key, 2)
        await cache.multi_set([(f"{key}:1", 1), (f"{key}:2", 2)], ttl=60)
        assert await cache.multi_get([f"{key}:1", f"{key}:2", f"{key}:3"]) == [1, 2, None]
        assert await cache.increment(f"{key}:n", 2) == 2
        assert await cache.exists(key) and await cache.expire(key, 50)
        async with RedLock(cache, key, lease=30):
            pass
        async with OptimisticLock(cache, key) as lock:
            await lock.cas({"a": 2})
        self.told(await cache.delete(key), 1)


class Dogpile(Stack):
    """dogpile.cache, one of whose callers makes a value while the others wait for its lock."""

    packages = ("dogpile.cache",)

    def __init__(self, port: int) -> None:
        pytest.importorskip("dogpile.cache")
        from dogpile.cache import make_region

        arguments = {"host": "127.0.0.1", "port": port, "distributed_lock": True, "thread_local_lock": False}
        self._region: Any = make_region().configure("dogpile.cache.redis", 60, arguments | {"lock_timeout": 60})

    def round(self, thread: int, number: int) -> None:
        """A value is made once, then found."""
        region, key = self._region, f"dogpile:{thread}:{number}"
        made: list[int] = []

        def make() -> int:
            made.append(number)
            return number

        assert [region.get_or_create(key, make) for _ in range(3)] == [number] * 3
        assert made == [number]
        region.set_multi({f"{key}:1": 1, f"{key}:2": 2})
        assert region.get_multi([f"{key}:1", f"{key}:2"]) == [1, 2]
        mutex = region.backend.get_mutex(f"{key}:mutex")
        assert mutex.acquire() and not mutex.acquire(False)
        mutex.release()
        region.delete(key)
        assert not region.get(key)


class Limits(Stack):
    """limits, with all its strategies."""

    packages = ("limits",)

    def __init__(self, port: int) -> None:
        limits = pytest.importorskip("limits")
        storage = limits.storage.storage_from_string(f"redis://127.0.0.1:{port}")
        self._item: Any = limits.parse(f"{LIMIT}/hour")
        self._strategies: dict[str, Any] = {name: kind(storage) for name, kind in limits.strategies.STRATEGIES.items()}
        assert len(self._strategies) == 3

    def round(self, thread: int, number: int) -> None:
        """A user is allowed as many requests as the limit says, by each strategy."""
        for name, strategy in self._strategies.items():
            user = f"{name}:{thread}:{number}"
            assert [strategy.hit(self._item, user) for _ in range(LIMIT + 2)] == [True] * LIMIT + [False] * 2
            assert not strategy.test(self._item, user)
            assert strategy.get_window_stats(self._item, user).remaining == 0
            strategy.clear(self._item, user)
            assert strategy.test(self._item, user)


class Walrus(Stack):
    """walrus: containers, a limit, a lock, and a model with an index."""

    packages = ("walrus",)

    def __init__(self, port: int) -> None:
        walrus = pytest.importorskip("walrus")
        self._database = database = walrus.Database(port=port)

        class User(walrus.Model):  # type: ignore[misc, name-defined]
            __database__ = database
            __namespace__ = "walrus"
            name = walrus.TextField(primary_key=True)
            age = walrus.IntegerField(index=True)

        self._user: Any = User

    def round(self, thread: int, number: int) -> None:
        """What its own documentation shows."""
        database, key = self._database, f"walrus:{thread}:{number}"
        names = database.Hash(f"{key}:h")
        names.update({"a": "1", "b": "2"})
        assert names["a"] == b"1" and len(names) == 2
        items = database.List(f"{key}:l")
        items.extend(["a", "b", "c"])
        assert list(items) == [b"a", b"b", b"c"] and items.popleft() == b"a"
        scores = database.ZSet(f"{key}:z")
        scores.add({"a": 1, "b": 2})
        assert scores.score("b") == 2.0 and scores.rank("b") == 1
        array = database.Array(f"{key}:array")
        array.extend(["x", "y"])
        assert array[0] == b"x" and array.pop() == b"y"
        limit = database.rate_limit(f"{key}:limit", limit=2, per=600)
        assert [limit.limit("user") for _ in range(3)] == [False, False, True]
        with database.lock(f"{key}:lock", ttl=60_000):
            pass
        self._user.create(name=key, age=thread * 1_000_000 + number)
        found = self._user.query(self._user.age == thread * 1_000_000 + number)
        assert [user.name for user in found] == [key]
        self._user.load(key).delete()


class RedisOm(Stack):
    """redis-om without modules: models kept in hashes, found by their keys. Queries and JSON models need RediSearch and
    RedisJSON, which a bare redis-server does not have either."""

    packages = ("redis-om",)

    def __init__(self, port: int) -> None:
        redis_om = pytest.importorskip("redis_om")

        class Customer(redis_om.HashModel, index=True):  # type: ignore[misc, call-arg, name-defined]
            name: str
            age: int

            class Meta:
                database = redis_om.get_redis_connection(url=f"redis://127.0.0.1:{port}")

        self._kind: Any = Customer

    def round(self, thread: int, number: int) -> None:
        """A customer is saved, changed, found, and deleted."""
        customer = self._kind(name=f"{thread}:{number}", age=number)
        customer.save()
        customer.age += 1
        customer.save()
        customer.expire(100)
        found = self._kind.get(customer.pk)
        assert (found.name, found.age) == (f"{thread}:{number}", number + 1)
        self.told(self._kind.delete(customer.pk), 1)


KINDS = [Aiocache, Dogpile, Limits, Walrus, RedisOm]


@pytest.mark.parametrize("kind", KINDS)
def test_it_works(cluster: WireCluster, kind: type[Stack]) -> None:
    work_in_calm(kind(cluster.ports[0]))


@pytest.mark.parametrize("kind", KINDS)
def test_it_works_while_nodes_fail(make_cluster: Callable[..., WireCluster], kind: type[Stack]) -> None:
    cluster = make_cluster()
    work_under_faults(cluster, kind(cluster.ports[0]))
