"""Swaps of databases in storms, while clients write and read: what must be there in the end, and what may never be seen.

Theory. Each of the four databases has a *mark*, which says which one it was at the start, under two keys of different
slots. Each writer writes keys that nobody else writes. So in the end

    each acknowledged key   is in one of the databases, and in no other
    the marks               are those of the start, in some order that all nodes show
    the order               is that of an even or odd number of swaps, as the swappers were told, if the outcome of each is
                            known and nodes were not cut off from each other

A reader reads both marks of a database in a transaction: they are of one database. While nothing is wrong, one who begins
to read after a swap was answered with OK, and has read before the next one begins, reads what that swap has brought.
"""

from __future__ import annotations

import random

import hiredis

from tests.sim.faults import Storm
from tests.sim.host import Host
from tests.sim.queues import Talker
from tests.sim.runs import CONVERGE_MS_MAX, HEAL_MS_MAX
from tests.sim.world import World

DATABASES = 4
MARKS = (b"mark", b"twin")
# In these both sides may be told OK, or the node that ends has been alone with what it has ordered.
APART = frozenset(("cut", "isolate", "partition", "very slow path", "freeze", "full disk", "outage", "lone restart"))


class Swapper(Talker):
    """Swaps two databases again and again."""

    def __init__(self, world: World, rng: random.Random, databases: list[int]) -> None:
        self.done: list[tuple[int, int]] = []
        self.begun = self.unknown = 0
        self._databases = databases
        super().__init__(world, rng)

    def command(self) -> list[bytes]:
        self.begun += 1
        first, second = self.rng.sample(self._databases, 2)
        return [b"SWAPDB", b"%d" % first, b"%d" % second]

    def take(self, asked: list[bytes], reply: object, is_present: bool) -> None:
        if reply == b"OK":
            self.done.append((int(asked[1]), int(asked[2])))
        elif not str(reply).startswith(("ERR", "DISKFULL", "BUSY", "CLUSTERDOWN")):
            self.unknown += 1

    def lost(self, asked: list[bytes]) -> None:
        self.unknown += 1


class Writer(Talker):
    """Writes keys of its own in one database or another."""

    def __init__(self, world: World, rng: random.Random, name: str) -> None:
        self.acknowledged: list[bytes] = []
        self._name, self._count, self._selects = name.encode(), 0, False
        super().__init__(world, rng)

    def command(self) -> list[bytes]:
        self._selects = not self._selects
        if self._selects:
            return [b"SELECT", b"%d" % self.rng.randrange(DATABASES)]
        self._count += 1
        return [b"SET", b"%b-%d" % (self._name, self._count), b"v"]

    def take(self, asked: list[bytes], reply: object, is_present: bool) -> None:
        if asked[0] == b"SET" and reply == b"OK":
            self.acknowledged.append(asked[1])


class Reader(Talker):
    """Reads both marks of a database in a transaction."""

    def __init__(self, world: World, rng: random.Random, swappers: list[Swapper], checks_age: bool) -> None:
        self.wrong: list[str] = []
        self._swappers, self._checks_age = swappers, checks_age
        self._place, self._database, self._at = 0, 0, (0, 0)
        super().__init__(world, rng)

    def _moment(self) -> tuple[int, int]:
        """How many swaps have begun, and how many of these were answered."""
        return sum(each.begun for each in self._swappers), sum(len(each.done) for each in self._swappers)

    def command(self) -> list[bytes]:
        lines = [[b"SELECT", b"%d" % self._database], [b"MULTI"], *[[b"GET", mark] for mark in MARKS], [b"EXEC"]]
        if self._place == 0:
            self._database = self.rng.randrange(DATABASES)
            lines[0][1] = b"%d" % self._database
        line = lines[self._place]
        if line == [b"EXEC"]:
            self._at = self._moment()
        self._place = (self._place + 1) % len(lines)
        return line

    def lost(self, asked: list[bytes]) -> None:
        self._place = 0

    def take(self, asked: list[bytes], reply: object, is_present: bool) -> None:
        if asked != [b"EXEC"] or not is_present or not isinstance(reply, list):
            if isinstance(reply, hiredis.ReplyError):
                self._place = 0
            return
        if any(isinstance(each, hiredis.ReplyError) for each in reply):
            return
        if len(set(reply)) != 1:
            self.wrong.append(f"the marks of database {self._database} are {reply}")
        begun, done = self._moment()
        if self._checks_age and self._at == (begun, done) and begun == done:
            expected = marks_after([pair for each in self._swappers for pair in each.done])[self._database]
            if reply[0] != b"%d" % expected:
                self.wrong.append(f"{reply} is old: database {self._database} is {expected} after {done} swaps")


def marks_after(swaps: list[tuple[int, int]]) -> list[int]:
    """Which database of the start each number stands for."""
    marks = list(range(DATABASES))
    for first, second in swaps:
        marks[first], marks[second] = marks[second], marks[first]
    return marks


def run(seed: int, faults: tuple[str, ...], swappers: int = 3, pace_ms: int = 600) -> list[str]:
    """Runs the seed: what is wrong in the end."""
    world = World(seed, 3)
    world.start()
    world.run(200)
    rng = random.Random(f"swaps {seed}")
    for database in range(DATABASES):
        for mark in MARKS:
            assert in_database(world, world.hosts[0], database, b"SET", mark, b"%d" % database) == b"OK"
    swapping = [Swapper(world, rng, list(range(DATABASES))) for _ in range(swappers)]
    writers = [Writer(world, rng, f"w{number}") for number in range(3)]
    readers = [Reader(world, rng, swapping, swappers == 1 and not faults) for _ in range(3)]
    if faults:
        Storm(world, list(faults), pace_ms, 6000)
    world.run(6000)
    talkers = [*swapping, *writers, *readers]
    for talker in talkers:
        talker.stopped = True
    world.heal(within_ms=1000)
    if not world.run_until(HEAL_MS_MAX, lambda: world.at_peace() and all(each.idle for each in talkers)):
        return ["after the storm the nodes do not find each other"]
    world.run(2000)
    if not world.run_until(CONVERGE_MS_MAX, lambda: not world.differences()):
        return ["does not converge"]
    return [wrong for reader in readers for wrong in reader.wrong] + judge(world, swapping, writers, faults)


def in_database(world: World, host: Host, database: int, *command: bytes) -> object:
    """The reply to a command about a database."""
    client = world.client(host)
    operation = client.send([b"SELECT", b"%d" % database], list(command))[-1]
    world.run_until(10_000, lambda: operation.answered)
    return operation.error or operation.reply


def judge(world: World, swappers: list[Swapper], writers: list[Writer], faults: tuple[str, ...]) -> list[str]:
    """What is wrong in the end."""
    listed = [in_database(world, world.hosts[0], each, b"KEYS", b"*") for each in range(DATABASES)]
    told = []
    for key in [key for writer in writers for key in writer.acknowledged]:
        count = sum(key in keys for keys in listed)  # type: ignore[operator]
        told += [] if count == 1 else [f"{key!r} is in {count} databases"]
    shown = [
        [[in_database(world, host, each, b"GET", mark) for each in range(DATABASES)] for mark in MARKS]
        for host in world.hosts
    ]
    marks = shown[0][0]
    told += [] if all(each == [marks, marks] for each in shown) else [f"nodes show different databases: {shown}"]
    if sorted(map(str, marks)) != sorted(str(b"%d" % each) for each in range(DATABASES)):
        told.append(f"the marks are {marks}")
    elif not APART & {*faults} and not sum(each.unknown for each in swappers):
        done = [pair for each in swappers for pair in each.done]
        if _is_odd([int(str(mark, "ascii")) for mark in marks]) != bool(len(done) % 2):  # type: ignore[call-overload]
            told.append(f"{len(done)} swaps were done, and the marks are {marks}")
    return told


def _is_odd(order: list[int]) -> bool:
    pairs = [(one, other) for place, one in enumerate(order) for other in order[place + 1 :]]
    return bool(sum(one > other for one, other in pairs) % 2)
