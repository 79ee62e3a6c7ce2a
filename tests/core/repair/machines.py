"""Nodes without clients, liveness and the background work that nobody asked for: records, timers and questions.

Theory. A unit of repair/ or work/ needs a `State`, a `Background` and `Questions`, and other nodes that answer. So each
machine here has these over an engine of its own, and what the test adds to it; messages are encoded, carried and read as
between real nodes, but by hand, turn by turn: a test sees each of them in `said`, and `pass_on` may keep some back.
Time stands still unless a test lets it pass.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Sequence
from functools import cache
from typing import Any, NamedTuple

from hiredis import Reader as RespReader
from xxhash import xxh32_intdigest

from server.core.base.config import Config
from server.core.base.state import State
from server.core.commands.operator import first_layout
from server.core.messages.questions import ANSWER, ASK
from server.core.messages.reader import HEADER_ITEMS, Reader
from server.core.node import Node
from server.core.records.records import storage_key_of
from server.core.records.versions import TOMBSTONE, supersede, value_of
from server.core.repair.exchange_answers import ExchangeAnswers
from server.core.ring.layout import Layout, Member
from server.core.work.background import Background
from server.core.work.pace import Pace
from server.core.work.procedures import Step
from server.core.work.questions import Answerer, Questions
from server.core.work.timers import Timers
from server.storage.memory import MemoryEngine
from tests.core.commands.talking import go_by_own_clock

WALL_MS = 1_800_000_000_000
PARTITIONS = 16
CONFIG = Config(engine="memory", tree_leaf_bits=14)
ACTOR = b"actor-x."
TICK_MS = 100
TURNS_MAX = 20_000  # that one moment may take: more are an endless exchange


class DamagedBlock(ValueError):
    """The engine cannot read a block."""


class Disk(MemoryEngine):
    """An engine of which some keys lie in damaged blocks: neither can they be read, nor does a scan get past them. What is
    written there can be read again."""

    def __init__(self) -> None:
        super().__init__()
        self.unreadable: dict[bytes, None] = {}

    def get(self, key: bytes) -> bytes | None:
        if key in self.unreadable:
            raise DamagedBlock(f"the block of {key!r} is damaged")
        return super().get(key)

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        return [self.get(key) for key in keys]

    def scan(self, start: bytes, end: bytes | None, limit: int, bytes_max: int = 1 << 62) -> list[tuple[bytes, bytes]]:
        pairs = super().scan(start, end, limit, bytes_max)
        for key, _ in pairs:
            self.get(key)
        return pairs

    def commit(self, writes: Any) -> None:
        super().commit(writes)
        for key in writes:
            self.unreadable.pop(key, None)


class Message(NamedTuple):
    """A message between two machines."""

    sender: str
    receiver: str
    words: list[bytes]

    @property
    def question(self) -> bytes:
        """The kind of question that is asked; empty for all that asks none."""
        return self.words[HEADER_ITEMS] if self.words[0] == b"ASK" else b""

    @property
    def items(self) -> list[bytes]:
        """What a question or an answer says."""
        return self.words[HEADER_ITEMS + (self.words[0] == b"ASK") :]


class Machine:
    """One node: what it stores, and the parts that the units under test stand on."""

    def __init__(self, name: str, layout: Layout, config: Config, now_ms: int) -> None:
        self.name = name
        self.disk = Disk()
        self.layout = layout
        self.config = config
        self.start(now_ms)

    def start(self, now_ms: int) -> None:
        """The process starts on what is on the disk; nothing runs in it but what a test begins."""
        me = next(member for member in self.layout.members if member.id == self.name)
        node = Node(
            me, b"actor-%b." % self.name[-1:].encode(), WALL_MS, self.config, self.disk, random.Random(1), WALL_MS
        )
        self.node = node
        self.state: State = node.state
        self.state.keep_time(now_ms, WALL_MS + now_ms, 0, True)
        self.state.adopt(self.layout)
        self.state.cleanup_due = False
        go_by_own_clock(node)
        self.timers = Timers()
        self.pace = Pace(self.config, ())
        self.background = Background(self.state, self.timers, self.pace)
        self.answerers: dict[bytes, Answerer] = ExchangeAnswers(self.state, self.background).answerers()
        self.questions = Questions(self.state, self.answerers)
        self.damaged: list[bytes] = []
        self.state.records.listeners.damaged.append(self.damaged.append)

    def begin(self, steps: Generator[Step, Any, Any], *expected: type[Exception]) -> list[Any]:
        """Runs steps; the list gets their result, or the exception that was expected of them, once they have ended."""
        ended: list[Any] = []

        def whole() -> Generator[Step, Any, None]:
            try:
                ended.append((yield from steps))
            except expected as error:
                ended.append(error)

        self.background.run("test", whole())
        return ended

    def end_turn(self) -> list[Message]:
        """Commits, and then speaks."""
        state = self.state
        state.statistics.turns += 1
        self.disk.commit(state.records.drain_batch())
        said = [(peer, data) for queue in (state.messages, state.trailing) for peer, data in queue.items()]
        state.messages, state.trailing = {}, {}
        return [Message(self.name, peer, words) for peer, data in said for words in _decoded(data)]

    def hear(self, message: Message, now_ms: int) -> None:
        """A message comes."""
        state = self.state
        state.at(now_ms)
        kind, reading, number = message.words[0], int(message.words[1]), int(message.words[2])
        state.clock.observe(reading)
        items = Reader(message.words, number, HEADER_ITEMS)
        if kind == ASK.name:
            ask = ASK.read(items)
            items.end()
            self.questions.asked(message.sender, number, ask.kind, ask.content)
        elif kind == ANSWER.name:
            answer = self.questions.read_answer(items)
            items.end()
            self.questions.answered(message.sender, number, answer)

    def put(self, record: bytes, *keys: bytes) -> None:
        """Stores a record under some keys, on the disk. In a cluster no two keys have the same: see `write`."""
        for key in keys:
            self.state.records.merge_all([storage_key_of(key), record])
        self.disk.commit(self.state.records.drain_batch())

    def write(self, value: bytes, *keys: bytes, at: int = 1) -> None:
        """Stores what a write of each of the keys has made at a time, the same on every machine."""
        for key in keys:
            self.put(written(value, key, at), key)

    def damage(self, *keys: bytes) -> None:
        """What lies under the keys on the disk is no sound record any more, and in no cache."""
        self.disk.commit({storage_key_of(key): b"junk" for key in keys})
        self.state.records.cache.clear()

    def lose_blocks(self, *keys: bytes) -> None:
        """The engine cannot read the blocks of these keys, and they are in no cache."""
        self.disk.unreadable |= {storage_key_of(key): None for key in keys}
        self.state.records.cache.clear()

    def record(self, key: bytes) -> bytes | None:
        """What is stored under a key."""
        return self.state.records.get(storage_key_of(key))

    def value(self, key: bytes) -> bytes | None:
        """What a reader gets here for a key."""
        record = self.record(key)
        return None if record is None else value_of(record, WALL_MS)

    def values(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """As `value`, of some keys."""
        return [self.value(key) for key in keys]


class Machines:
    """Machines n1, n2, … of one layout, all linked."""

    def __init__(self, count: int = 2, n: int = 3, config: Config = CONFIG) -> None:
        self.now_ms = 1000
        self.layout = layout_of(count, n)
        self.all = {member.id: Machine(member.id, self.layout, config, self.now_ms) for member in self.layout.members}
        self.said: list[Message] = []
        self.pass_on: Callable[[Message], bool] = lambda message: True  # whether it arrives
        self.kept_back: list[Message] = []
        for name in self.all:
            self.link(name)

    def __getitem__(self, number: int) -> Machine:
        return self.all[f"n{number}"]

    def link(self, name: str) -> None:
        """A machine can reach all others, and they can reach it."""
        for other in self.all:
            for one, peer in ((name, other), (other, name)) if other != name else ():
                state = self.all[one].state
                state.links.add(peer)
                state.liveness.message_received(peer, self.now_ms)
                state.reroute()

    def cut(self, name: str) -> None:
        """All connections of a machine break."""
        for other in self.all:
            for one, peer in ((name, other), (other, name)) if other != name else ():
                machine = self.all[one]
                machine.state.links.discard(peer)
                machine.state.reroute()
                machine.questions.peer_lost(peer)

    def restart(self, number: int) -> Machine:
        """The process of a machine is killed and started anew, linked to those that were linked."""
        machine = self[number]
        self.cut(machine.name)
        machine.start(self.now_ms)
        self.link(machine.name)
        return machine

    def adopt(self, layout: Layout) -> None:
        """All machines go by another layout from now on."""
        for machine in self.all.values():
            machine.state.adopt(layout)

    def turn(self) -> bool:
        """Every machine ends its turn, and what was said arrives; whether anything was."""
        said = [message for machine in self.all.values() for message in machine.end_turn()]
        self.said += said
        for message in said:
            self.deliver(message)
        return bool(said)

    def deliver(self, message: Message) -> None:
        """A message arrives if it may, and if its sender has a link."""
        if not self.pass_on(message):
            self.kept_back.append(message)
        elif message.receiver in self.all[message.sender].state.links:
            self.all[message.receiver].hear(message, self.now_ms)

    def settle(self) -> None:
        """Turns, until nobody says anything."""
        for _ in range(TURNS_MAX):
            if not self.turn():
                return
        raise AssertionError("they talk for ever")

    def pass_ms(self, duration_ms: int) -> None:
        """Time passes: ticks, and pauses that end in between."""
        self.settle()
        end_ms = self.now_ms + duration_ms
        while self.now_ms < end_ms:
            tick_ms = (self.now_ms // TICK_MS + 1) * TICK_MS
            due_ms = [due for machine in self.all.values() if (due := machine.timers.next_ms()) is not None]
            self.now_ms = max(self.now_ms + 1, min([tick_ms, end_ms, *due_ms]))
            for machine in self.all.values():
                machine.state.at(self.now_ms)
                if self.now_ms == tick_ms:
                    machine.background.tick(self.now_ms)
                    machine.questions.expire(self.now_ms)
                machine.timers.expire(self.now_ms)
            self.settle()

    def asked(self, kind: bytes, to: int = 0) -> list[list[bytes]]:
        """What questions of a kind have asked so far, of one machine or of all."""
        return [m.items for m in self.said if m.question == kind and (not to or m.receiver == f"n{to}")]


@cache
def layout_of(count: int, n: int = 3) -> Layout:
    """The first layout of machines n1, n2, …"""
    members = [
        Member(f"n{number}", f"n{number}", f"127.0.0.1:{7000 + number}", "", 1) for number in range(1, count + 1)
    ]
    fields = ("id", "name", "address", "zone", "weight")
    rows = [{name: getattr(member, name) for name in fields} for member in members]
    quorum = min(2, n, count)
    wish = {"partitions": PARTITIONS, "n": min(n, count), "r": quorum, "w": quorum, "members": rows}
    return first_layout(wish, "c")


def record_of(value: bytes, counter: int = 1, actor: bytes = ACTOR) -> bytes:
    """A record of one write."""
    return supersede(None, actor, counter, value)


def written(value: bytes, key: bytes, at: int = 1) -> bytes:
    """The record of a write of a key at a time: another one for each key, or they would cancel out in the tree."""
    return record_of(value, (at << 32) + xxh32_intdigest(key))


def tombstone(counter: int, actor: bytes = ACTOR) -> bytes:
    """The record of a deletion."""
    return supersede(None, actor, counter, b"", 0, TOMBSTONE)


def keys_of(count: int, tag: str = "") -> list[bytes]:
    """Different keys; of one slot if there is a tag. In the order of their storage keys."""
    names = [b"{%b}%d" % (tag.encode(), number) if tag else b"k%d" % number for number in range(count)]
    return sorted(names, key=storage_key_of)


def _decoded(encoded: Sequence[bytes]) -> list[list[Any]]:
    reader = RespReader()
    for message in encoded:
        reader.feed(message)
    found: list[list[Any]] = []
    while (message := reader.gets()) is not False:
        found.append(message)
    return found
