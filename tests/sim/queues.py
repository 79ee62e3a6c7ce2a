"""Queues in storms: producers, workers that wait, and what must have come of each element in the end.

Theory. Each element is pushed once and names itself. An element whose push was acknowledged is in a list in the end, or has
come to a worker: what a node has said to a connection counts, also if the worker hangs up meanwhile, as a node cannot know
better. While nothing is wrong, an element comes once. In a storm it may come again.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import hiredis

from server.core.base.config import Config
from tests.sim.clients import Connection
from tests.sim.disk import Disk
from tests.sim.faults import Storm
from tests.sim.runs import CONVERGE_MS_MAX, HEAL_MS_MAX
from tests.sim.world import World

MOVED = b"moved"
DRAIN_MS_MAX = 120_000  # of producers, then of workers: with slow syncs a push takes half a second
SETTLE_MS_MAX = 20_000


class Talker:
    """A client that says one command after the other, each to some node."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self.world = world
        self.rng = rng
        self.stopped = False
        self.idle = True
        self._asked: dict[int, list[bytes]] = {}  # connection -> its last command
        self._number = 0  # of the connection; later events of earlier ones are void, but for what is received
        self._connection: Connection | None = None
        self._later(self._go_on)

    def _later(self, action: Callable[[], None], most_ms: int = 40) -> None:
        self.world.events.after(self.rng.randint(0, most_ms), action)

    def _go_on(self) -> None:
        if self.stopped or not self.idle:
            return
        if self._connection is None:
            running = [host for host in self.world.hosts if host.node is not None]
            if not running:
                self._later(self._go_on, 500)
                return
            self._connect(self.rng.choice(running))
        assert self._connection is not None
        asked = self._asked[self._number] = self.command()
        self.idle = False
        self._connection.send([asked])
        self.sent()

    def _connect(self, host: object) -> None:
        self._number += 1
        number, reader = self._number, hiredis.Reader()

        def received(step: int, data: bytes) -> None:
            reader.feed(data)
            while (reply := reader.gets()) is not False:
                self._answered(number, reply)

        self._connection = Connection(host, received, lambda: self._lost(number))  # type: ignore[arg-type]

    def _answered(self, number: int, reply: object) -> None:
        self.take(self._asked[number], reply, number == self._number and self._connection is not None)
        if number == self._number and self._connection is not None:
            self.idle = True
            self._later(self._go_on)

    def _lost(self, number: int) -> None:
        if number == self._number and self._connection is not None:
            self._connection = None
            self.idle = True
            self.lost(self._asked.get(number, []))
            self._later(self._go_on, 200)

    def hang_up(self) -> None:
        """Ends the connection, whatever is under way, and goes on over another one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            self.idle = True
            self._later(self._go_on, 200)

    def command(self) -> list[bytes]:
        """The next command."""
        raise NotImplementedError

    def sent(self) -> None:
        """It is on its way."""

    def take(self, asked: list[bytes], reply: object, is_present: bool) -> None:
        """A reply has come; not `is_present`: over a connection that this client has ended before."""

    def lost(self, asked: list[bytes]) -> None:
        """The connection broke before the reply."""


class Producer(Talker):
    """Pushes elements, each once."""

    def __init__(self, world: World, rng: random.Random, name: str, keys: list[bytes], count: int) -> None:
        self.acknowledged: list[bytes] = []
        self.unknown: list[bytes] = []
        self._name, self._keys, self._left = name, keys, count
        super().__init__(world, rng)

    def command(self) -> list[bytes]:
        elements = [b"%s-%d" % (self._name.encode(), self._left - each) for each in range(self.rng.randint(1, 3))]
        self._left -= len(elements)
        self.stopped = self._left <= 0
        return [self.rng.choice((b"RPUSH", b"LPUSH")), self.rng.choice(self._keys), *elements]

    def take(self, asked: list[bytes], reply: object, is_present: bool) -> None:
        (self.unknown if isinstance(reply, hiredis.ReplyError) else self.acknowledged).extend(asked[2:])

    def lost(self, asked: list[bytes]) -> None:
        self.unknown += asked[2:]


class Worker(Talker):
    """Waits for elements of some keys. One that is restless hangs up now and then."""

    def __init__(self, world: World, rng: random.Random, keys: list[bytes], is_restless: bool) -> None:
        self.taken: list[bytes] = []
        self.errors: list[str] = []
        self._keys, self._is_restless = keys, is_restless
        super().__init__(world, rng)

    def command(self) -> list[bytes]:
        rng = self.rng
        keys = rng.sample(self._keys, rng.randint(1, len(self._keys)))
        timeout = rng.choice((b"0", b"0.05", b"1") if len(keys) == len(self._keys) else (b"0.05", b"1", b"5"))
        if rng.random() < 0.15:
            return [b"BLMOVE", keys[0], MOVED, rng.choice((b"LEFT", b"RIGHT")), b"LEFT", b"1"]
        if rng.random() < 0.2:
            end = rng.choice((b"LEFT", b"RIGHT"))
            return [b"BLMPOP", timeout, b"%d" % len(keys), *keys, end, b"COUNT", b"%d" % rng.randint(1, 4)]
        return [rng.choice((b"BLPOP", b"BRPOP")), *keys, timeout]

    def sent(self) -> None:
        if self._is_restless and self.rng.random() < 0.5:
            number = self._number
            self._later(lambda: self.hang_up() if number == self._number else None, 30)

    def take(self, asked: list[bytes], reply: object, is_present: bool) -> None:
        if isinstance(reply, hiredis.ReplyError):
            self.errors.append(f"{asked}: {reply}")
        elif isinstance(reply, list):
            values = reply[1] if isinstance(reply[1], list) else reply[1:]
            self.taken += values


def run(
    seed: int,
    faults: tuple[str, ...],
    elements: int = 60,
    pace_ms: int = 600,
    config: Config | None = None,
    sync_ms_max: int = Disk.sync_ms_max,
) -> tuple[list[str], World]:
    """Runs the seed: what is wrong in the end, and the world. A sync of a disk takes up to `sync_ms_max`."""
    world = World(seed, 3, config)
    for host in world.hosts:
        host.disk.sync_ms_max = sync_ms_max
    world.start()
    world.run(200)
    rng = random.Random(f"queues {seed}")
    keys = [world.key_of(host) for host in world.hosts]
    producers = [Producer(world, rng, f"p{number}", keys, elements) for number in range(3)]
    workers = [Worker(world, rng, keys, number % 3 == 0) for number in range(6)]
    if faults:
        Storm(world, list(faults), pace_ms, 6000)
    world.run(6000)
    world.heal(within_ms=1000)
    told = _unfinished(world, producers)
    if told:
        return told, world
    end_ms = world.events.now_ms + DRAIN_MS_MAX
    while not _is_drained(world, keys, producers):  # once: later something may be put back
        if world.events.now_ms > end_ms:
            told.append("workers wait, and there are elements")
            break
    for worker in workers:
        worker.stopped = True
        worker.hang_up()
    world.run(1000)
    if not world.run_until(SETTLE_MS_MAX, lambda: not unsettled(world)):
        told.append("deliveries stay open")
    if not world.run_until(CONVERGE_MS_MAX, lambda: not world.differences()):
        told.append("does not converge")
    return told + judge(world, keys, producers, workers, bool(faults)), world


def _unfinished(world: World, producers: list[Producer]) -> list[str]:
    if not world.run_until(HEAL_MS_MAX, world.at_peace):
        return ["after the storm the nodes do not find each other"]
    if not world.run_until(DRAIN_MS_MAX, lambda: all(each.stopped for each in producers)):
        return ["the nodes find each other, and producers still push"]
    return []


def _is_drained(world: World, keys: list[bytes], producers: list[Producer]) -> bool:
    world.run(1000)
    return all(each.idle for each in producers) and not any(_items(world, key) for key in keys)


def unsettled(world: World) -> int:
    """How many deliveries are on their way."""
    return sum(host.running.services.waiting.deliveries.unsettled() for host in world.hosts)


def _items(world: World, key: bytes) -> list[bytes]:
    operation = world.ask(world.hosts[0], "LRANGE", key, "0", "-1")
    return operation.reply if isinstance(operation.reply, list) else [b"?"]


def judge(
    world: World, keys: list[bytes], producers: list[Producer], workers: list[Worker], is_storm: bool
) -> list[str]:
    """What is wrong. In a storm, a message that a client waits no more may be lost: its row goes when it is woken."""
    found = Counter([element for worker in workers for element in worker.taken])
    found.update([element for key in (*keys, MOVED) for element in _items(world, key)])
    acknowledged = [element for producer in producers for element in producer.acknowledged]
    unknown = [element for producer in producers for element in producer.unknown]
    told = [f"lost: {element!r}" for element in acknowledged if element not in found]
    told += [f"pushed by nobody: {element!r}" for element in found if element not in (*acknowledged, *unknown)]
    if not is_storm:
        rows = sum(host.running.services.waiting.rows.count for host in world.hosts)
        told += [f"there are {rows} rows of clients that have gone"] if rows else []
        told += [f"came {count} times: {element!r}" for element, count in found.items() if count > 1]
        told += [error for worker in workers for error in worker.errors]
    return told
