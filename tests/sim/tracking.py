"""Clients that cache in storms, and what their caches must hold in the end (CLIENT TRACKING).

Theory. A client keeps each value that it has read until it is told to drop it, or its connection ends. Once the cluster is
whole and at rest, what a client still keeps is what the key holds: a change that it was not told of would stay for ever.
"""

from __future__ import annotations

import random
from collections import deque

import hiredis

from tests.sim.clients import Connection
from tests.sim.faults import Storm
from tests.sim.queues import Talker
from tests.sim.runs import CONVERGE_MS_MAX, HEAL_MS_MAX
from tests.sim.world import World

KEYS = tuple(b"{%d}key" % number for number in range(8))
STORM_MS, PACE_MS = 4000, 400
SETTLE_MS = 8000  # what has expired is told with the next tick


class Writer(Talker):
    """Sets, deletes, and sets with an expiry, through any node."""

    def __init__(self, world: World, rng: random.Random, name: str) -> None:
        self._name = name
        self._written = 0
        super().__init__(world, rng)

    def command(self) -> list[bytes]:
        key = self.rng.choice(KEYS)
        self._written += 1
        value = b"%s-%d" % (self._name.encode(), self._written)
        if self.rng.random() < 0.2:
            return [b"DEL", key]
        if self.rng.random() < 0.2:
            return [b"SET", key, value, b"PX", b"%d" % self.rng.randint(50, 3000)]
        return [b"SET", key, value]


class Cacher:
    """Reads a key only if it does not have it. Each connection begins with what makes it track. With NOLOOP it also writes,
    and caches what it has written."""

    def __init__(self, world: World, rng: random.Random, options: list[bytes], name: str) -> None:
        self._name = name.encode()
        self.cache: dict[bytes, bytes | None] = {}
        self.told = 0  # keys that it was told of
        self.stopped = False  # it writes no more
        self._written = 0
        self._world, self._rng, self._options = world, rng, options
        # The keys of the commands in flight, and of its writes what they write; no key: a reply to something else.
        self._expected: deque[tuple[bytes, bytes]] = deque()
        self._connect()

    def _connect(self) -> None:
        self.cache.clear()
        self._expected.clear()
        running = [host for host in self._world.hosts if host.node is not None]
        if not running:
            self._world.events.after(500, self._connect)
            return
        reader = hiredis.Reader()

        def received(step: int, data: bytes) -> None:
            reader.feed(data)
            while (reply := reader.gets()) is not False:
                if connection is self._connection:
                    self._take(reply)

        connection = self._connection = Connection(self._rng.choice(running), received, lambda: self._lost(connection))
        self._send([b"HELLO", b"3"], [b"CLIENT", b"TRACKING", b"ON", *self._options])
        self._read()

    def _send(self, *commands: list[bytes], key: bytes = b"", value: bytes = b"") -> None:
        self._expected += [(key, value)] * len(commands)
        self._connection.send(commands)

    def _lost(self, connection: Connection) -> None:
        if connection is self._connection:
            self._connect()

    def _read(self) -> None:
        """Reads a key that it does not have, and perhaps another one by a transaction."""
        in_flight = [key for key, _ in self._expected]
        unknown = [key for key in KEYS if key not in self.cache and key not in in_flight]
        if unknown:
            self._send([b"GET", key := self._rng.choice(unknown)], key=key)
        elif b"NOLOOP" in self._options and not self.stopped and not in_flight and self._rng.random() < 0.3:
            self._written += 1
            key, value = self._rng.choice(KEYS), b"%b-%d" % (self._name, self._written)
            self._send([b"SET", key, value], key=key, value=value)
        connection = self._connection
        self._world.events.after(
            self._rng.randint(1, 40), lambda: self._read() if connection is self._connection else None
        )

    def _take(self, reply: object) -> None:
        if isinstance(reply, hiredis.PushNotification):
            keys = list(self.cache) if reply[1] is None else reply[1]
            self.told += len(keys)
            for key in keys:
                self.cache.pop(key, None)
            return
        key, value = self._expected.popleft()
        if value:
            self.cache.pop(key, None)
        if key and not isinstance(reply, hiredis.ReplyError):
            assert reply is None or isinstance(reply, bytes)
            self.cache[key] = value or reply


def run(seed: int, faults: tuple[str, ...], options: str = "", owners: int = 3) -> tuple[list[str], int]:
    """Runs the seed: what is stale in the end, and how many keys the clients were told of."""
    world = World(seed, 3, n=owners, r=min(2, owners), w=min(2, owners))
    world.start()
    world.run(200)
    rng = random.Random(f"tracking {seed}")
    writers = [Writer(world, rng, f"w{number}") for number in range(3)]
    cachers = [Cacher(world, rng, options.encode().split(), f"c{number}") for number in range(4)]
    if faults:
        Storm(world, list(faults), PACE_MS, STORM_MS)
    world.run(STORM_MS)
    for each in (*writers, *cachers):
        each.stopped = True
    world.heal(within_ms=1000)
    if not world.run_until(HEAL_MS_MAX, lambda: world.at_peace() and all(each.idle for each in writers)):
        return ["after the storm the nodes do not find each other"], 0
    if not world.run_until(CONVERGE_MS_MAX, lambda: not world.differences()):
        return ["does not converge"], 0
    world.run(SETTLE_MS)
    found = {key: world.ask(world.hosts[0], b"GET", key).reply for key in KEYS}
    stale = [
        f"cacher {number} has {key!r} as {value!r}, and it is {found[key]!r}"
        for number, cacher in enumerate(cachers)
        for key, value in cacher.cache.items()
        if value != found[key]
    ]
    empty = [f"cacher {number} reads no more" for number, cacher in enumerate(cachers) if len(cacher.cache) < len(KEYS)]
    return stale + empty, sum(cacher.told for cacher in cachers)
