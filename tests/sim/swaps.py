"""Swaps of databases in storms, while clients write and read: what must be there in the end, and what may never be seen.

Theory. Each database has a *mark*, which says which one it was at the start, under two keys of different slots. Each writer
writes keys that nobody else writes. Each swapper has a pair of databases that no other swapper swaps; in every other seed
the pairs overlap, so that the order of swaps matters. No swapper swaps more often than the document remembers
(shared/numberings.py), so the documents of the nodes tell in the end which swaps were done. Whatever the faults,

    each acknowledged key   is in one of the databases, and in no other
    each pair               was swapped as often as its swapper was told OK; those of unknown outcome come on top, or not
    the documents           of all nodes are the same
    the marks               are, on all nodes, those of the start after the swaps of the document

A reader reads both marks of a database in a transaction: they are of one database. While nothing is wrong, one who begins
to read after a swap was answered with OK, and has read before the next one begins, reads what that swap has brought; and no
node ever has another swap before those that all have in the end: one order is seen from everywhere.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

import hiredis

from server.core.shared.numberings import OPEN_MAX, NumberingEntry, OrderedSwap
from tests.sim.faults import Storm
from tests.sim.host import Host
from tests.sim.queues import Talker
from tests.sim.runs import CONVERGE_MS_MAX, HEAL_MS_MAX
from tests.sim.world import World

SWAPPERS = 3
APART = ((0, 1), (2, 3), (4, 5))
OVERLAPPING = ((0, 1), (1, 2), (2, 0))
DATABASES = 6
MARKS = (b"mark", b"twin")


class Swapper(Talker):
    """Swaps the databases of its pair again and again."""

    def __init__(self, world: World, rng: random.Random, pair: tuple[int, int]) -> None:
        self.pair = pair
        self.begun = self.done = self.unknown = 0
        super().__init__(world, rng)

    def command(self) -> list[bytes]:
        self.begun += 1
        self.stopped = self.begun == OPEN_MAX // SWAPPERS
        return [b"SWAPDB", *[b"%d" % each for each in self.rng.sample(self.pair, 2)]]

    def take(self, asked: list[bytes], reply: object, is_present: bool) -> None:
        if reply == b"OK":
            self.done += 1
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
        """`checks_age`: nothing is wrong, and the pairs of the swappers do not overlap."""
        self.wrong: list[str] = []
        self._swappers, self._checks_age = swappers, checks_age
        self._place, self._database, self._at = 0, 0, (0, 0)
        super().__init__(world, rng)

    def _moment(self) -> tuple[int, int]:
        """How many swaps of the database have begun, and how many of these were answered."""
        swappers = [each for each in self._swappers if self._database in each.pair]
        return sum(each.begun for each in swappers), sum(each.done for each in swappers)

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
            expected = marks_after([each.pair for each in self._swappers for _ in range(each.done)])[self._database]
            if reply[0] != b"%d" % expected:
                self.wrong.append(f"{reply} is old: database {self._database} is {expected} after {done} swaps")


def marks_after(swaps: list[tuple[int, int]]) -> list[int]:
    """Which database of the start each number stands for."""
    marks = list(range(DATABASES))
    for first, second in swaps:
        marks[first], marks[second] = marks[second], marks[first]
    return marks


class Watcher:
    """Looks which swaps the nodes have, every millisecond until `end_ms`."""

    def __init__(self, world: World, end_ms: int) -> None:
        self.seen: dict[tuple[OrderedSwap, ...], None] = {}
        self._world, self._end_ms = world, end_ms
        self._entries: list[object] = [None] * len(world.hosts)
        self._look()

    def _look(self) -> None:
        for place, host in enumerate(self._world.hosts):
            entries = entries_of(host)
            if entries is not self._entries[place]:
                self._entries[place] = entries
                self.seen[swaps_of(host)] = None
        if self._world.events.now_ms < self._end_ms:
            self._world.events.after(1, self._look)

    def judge(self) -> list[str]:
        """What was wrong if nothing else was."""
        final = swaps_of(self._world.hosts[0])
        return [f"a node had {swaps}, and then {final}" for swaps in self.seen if swaps != final[: len(swaps)]]


def entries_of(host: Host) -> Mapping[bytes, NumberingEntry]:
    """The numberings that a node has, by cluster."""
    return {} if host.node is None else host.node.services.numbering.sharing.document.entries


def swaps_of(host: Host) -> tuple[OrderedSwap, ...]:
    """The open swaps that a node has, in order."""
    return tuple([swap for entry in entries_of(host).values() for swap in entry.swaps])


def run(seed: int, faults: tuple[str, ...], pace_ms: int = 600) -> list[str]:
    """Runs the seed: what is wrong in the end."""
    world = World(seed, 3)
    world.start()
    world.run(200)
    rng = random.Random(f"swaps {seed}")
    for database in range(DATABASES):
        for mark in MARKS:
            assert in_database(world, world.hosts[0], database, b"SET", mark, b"%d" % database) == b"OK"
    pairs = OVERLAPPING if seed % 2 else APART
    swapping = [Swapper(world, rng, pair) for pair in pairs]
    writers = [Writer(world, rng, f"w{number}") for number in range(3)]
    readers = [Reader(world, rng, swapping, pairs is APART and not faults) for _ in range(3)]
    watcher = Watcher(world, 0 if faults else world.events.now_ms + 6000)
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
    told = [wrong for reader in readers for wrong in reader.wrong] + judge(world, swapping, writers)
    return told if faults else told + watcher.judge()


def in_database(world: World, host: Host, database: int, *command: bytes) -> object:
    """The reply to a command about a database."""
    client = world.client(host)
    operation = client.send([b"SELECT", b"%d" % database], list(command))[-1]
    world.run_until(10_000, lambda: operation.answered)
    return operation.error or operation.reply


def judge(world: World, swappers: list[Swapper], writers: list[Writer]) -> list[str]:
    """What is wrong in the end."""
    listed = [in_database(world, world.hosts[0], each, b"KEYS", b"*") for each in range(DATABASES)]
    told = []
    for key in [key for writer in writers for key in writer.acknowledged]:
        count = sum(key in keys for keys in listed)  # type: ignore[operator]
        told += [] if count == 1 else [f"{key!r} is in {count} databases"]
    documents = [host.node.services.numbering.sharing.document for host in world.hosts if host.node is not None]
    if documents != documents[:1] * len(world.hosts):
        return [*told, f"nodes have different documents: {[document.encode() for document in documents]}"]
    swaps = [(swap.first, swap.second) for swap in swaps_of(world.hosts[0])]
    for swapper in swappers:
        count = sum({*pair} == {*swapper.pair} for pair in swaps)
        if not swapper.done <= count <= swapper.done + swapper.unknown:
            told.append(f"{swapper.pair}: {swapper.done} swaps were done, {swapper.unknown} perhaps, {count} are known")
    marks = [b"%d" % each for each in marks_after(swaps)]
    for host in world.hosts:
        shown = [[in_database(world, host, each, b"GET", mark) for each in range(DATABASES)] for mark in MARKS]
        told += [] if shown == [marks, marks] else [f"the marks are {shown}, those of the document {marks}"]
    return told
