"""`libraries.py LIBRARY plain|cluster PORT PREFIX`: a client library in Python does SET, GET, INCR, HSET, HGET, a pipeline.

Runs in an environment of its own (.venv/clients), which has the libraries and not this project. Each function below is one
library: it connects with the library's defaults, and returns how a command is called, by the library's own methods where it
has them, and how ten INCRs of a key are sent as one pipeline (None without pipelines).
"""

import asyncio
import inspect
import os
import sys
from contextlib import AsyncExitStack
from functools import partial

PIPED = 10
OPEN = AsyncExitStack()  # what is closed at the end


async def settled(answer):
    """The answer of a call, whether the library is asynchronous or not, as text where it is bytes."""
    answer = await answer if inspect.isawaitable(answer) else answer
    return answer.decode() if isinstance(answer, bytes | bytearray) else answer


async def exercise(connect, port, cluster, prefix):
    """The same commands for all. AssertionError if an answer is wrong."""
    async with OPEN:
        call, pipe = await settled(connect(port, cluster))

        async def expect(wanted, *words):
            answer = await settled(call(*words))
            assert answer == wanted, f"{words} is answered {answer!r}"

        await settled(call("SET", f"{prefix}:string", "value"))
        await expect("value", "GET", f"{prefix}:string")
        await expect(1, "INCR", f"{prefix}:counter")
        await expect(2, "INCR", f"{prefix}:counter")
        await settled(call("HSET", f"{prefix}:hash", "field", "value"))
        await expect("value", "HGET", f"{prefix}:hash", "field")
        if pipe:
            answers = list(await settled(pipe(f"{prefix}:piped")))
            assert answers == [*range(1, PIPED + 1)], f"the pipeline is answered {answers}"
    print("ok piped" if pipe else "ok", flush=True)


def methods(client, **others):
    """Calls a command by the method of its name, or by the one that is given for it."""

    def call(name, *arguments):
        return (others.get(name.lower()) or getattr(client, name.lower()))(*arguments)

    return call


def chained(make):
    """Ten calls of incr of a pipeline, then execute."""

    async def pipe(key):
        pipeline = await settled(make())
        for _ in range(PIPED):
            await settled(pipeline.incr(key))
        return await settled(pipeline.execute())

    return pipe


def redis(port, cluster):
    import redis

    client = redis.RedisCluster(host="127.0.0.1", port=port) if cluster else redis.Redis(port=port)
    return methods(client), chained(client.pipeline)


def valkey(port, cluster):
    import valkey

    client = valkey.ValkeyCluster(host="127.0.0.1", port=port) if cluster else valkey.Valkey(port=port)
    return methods(client), chained(client.pipeline)


async def coredis(port, cluster):
    import coredis

    client = coredis.RedisCluster("127.0.0.1", port) if cluster else coredis.Redis(port=port)
    await OPEN.enter_async_context(client)

    async def pipe(key):
        async with client.pipeline() as pipeline:
            answers = [pipeline.incr(key) for _ in range(PIPED)]
        return [await each for each in answers]

    return methods(client, hset=lambda key, field, value: client.hset(key, {field: value})), pipe


async def valkey_glide(port, cluster):
    import glide

    addresses = [glide.NodeAddress("127.0.0.1", port)]
    if cluster:
        client = await glide.GlideClusterClient.create(glide.GlideClusterClientConfiguration(addresses))
    else:
        client = await glide.GlideClient.create(glide.GlideClientConfiguration(addresses))

    async def pipe(key):
        batch = (glide.ClusterBatch if cluster else glide.Batch)(is_atomic=False)
        for _ in range(PIPED):
            batch.incr(key)
        return await client.exec(batch, raise_on_error=True)

    return methods(client, hset=lambda key, field, value: client.hset(key, {field: value})), pipe


async def txredisapi(port, cluster):
    import txredisapi

    client = await txredisapi.Connection("127.0.0.1", port)

    async def pipe(key):
        pipeline = await client.pipeline()
        for _ in range(PIPED):
            pipeline.incr(key)
        return await pipeline.execute_pipeline()

    return methods(client), pipe


async def redis_rs(port, cluster):
    import redis_rs

    client = await OPEN.enter_async_context(redis_rs.create_client(f"redis://127.0.0.1:{port}", cluster=cluster))
    return methods(client), None


async def asyncio_redis(port, cluster):
    import asyncio_redis

    client = await asyncio_redis.Connection.create(host="127.0.0.1", port=port)
    return methods(client), None


async def aioredis(port, cluster):
    import aioredis

    client = await aioredis.create_redis(("127.0.0.1", port))

    def pipe(key):
        pipeline = client.pipeline()
        for _ in range(PIPED):
            pipeline.incr(key)
        return pipeline.execute()

    return methods(client), pipe


def yaaredis(port, cluster):
    import yaaredis

    if cluster:
        nodes = [{"host": "127.0.0.1", "port": port}]
        return methods(yaaredis.StrictRedisCluster(startup_nodes=nodes)), None
    client = yaaredis.StrictRedis(port=port)
    return methods(client), chained(client.pipeline)


def redio(port, cluster):
    import redio

    pool = redio.Redis(f"redis://127.0.0.1:{port}/")

    async def call(name, *arguments):
        if name == "HSET":
            key, field, value = arguments
            return await pool().hset(key, {field: value})
        return await methods(pool())(name, *arguments)

    async def pipe(key):
        commands = pool()
        for _ in range(PIPED):
            commands.incr(key)
        return await commands

    return call, pipe


def redtrio(port, cluster):
    from redtrio.midlevel.client import MidlevelClient

    return MidlevelClient(host="127.0.0.1", port=port).call, None


def siderpy(port, cluster):
    import siderpy

    client = siderpy.Redis(f"redis://127.0.0.1:{port}")

    async def pipe(key):
        with client.pipeline():
            for _ in range(PIPED):
                await client.incr(key)
            return await client.pipeline_execute()

    return methods(client), pipe


def justredis(port, cluster):
    import justredis

    client = justredis.Redis(address=("127.0.0.1", port), pool_factory="cluster" if cluster else "pool")

    def pipe(key):
        with client.connection(key=key) as connection:
            return connection(*[("INCR", key)] * PIPED)

    return client, pipe


def redisio(port, cluster):
    import redisio

    client = redisio.Redis(port=port)

    def pipe(key):
        client(*[["INCR", key]] * PIPED)
        return [client.next() for _ in range(PIPED)]

    return lambda *words: client(*words).next(), pipe


def picoredis(port, cluster):
    import picoredis

    return methods(picoredis.Redis(port=port)), None


def python_redis(port, cluster):
    import pyredis

    client = pyredis.Client(host="127.0.0.1", port=port)

    def pipe(key):
        client.bulk_start()
        for _ in range(PIPED):
            client.incr(key)
        return client.bulk_stop()

    return methods(client), pipe


async def rcc(port, cluster):
    from rcc.client import RedisClient

    client = RedisClient(f"redis://127.0.0.1:{port}")
    await client.connect()
    return client.send, None


def main():
    name, mode, port, prefix = sys.argv[1:]
    run = partial(exercise, globals()[name.replace("-", "_")], int(port), mode == "cluster", prefix)
    if name in ("redio", "redtrio"):
        import trio

        trio.run(run)
    elif name == "txredisapi":
        from twisted.internet import defer, task

        task.react(lambda _: defer.Deferred.fromCoroutine(run()))
    else:
        asyncio.run(run())
    os._exit(0)  # redis-rs was seen to abort while the interpreter ended (status -6, after "ok")


if __name__ == "__main__":
    main()
