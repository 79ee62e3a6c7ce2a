"""Runs a sequence of commands on both servers, and finds the first reply that differs.

Theory. Before a sequence its keys are deleted on both servers. Its commands go to both in batches, each batch in one go, so
that the nodes of ours meet pipelines; in a cluster each batch goes to another node, since what one node has acknowledged
all must see. Afterwards each key must be the same on both: type, content and expiry.

Commands that choose by chance go alone: what they may choose from is asked first. SPOP changes the key by chance, so
afterwards ours gets the members that Redis has. A SCAN that begins goes on to its end, and all that it has found counts.

A known difference (server/core/commands/deviations.py) ends the sequence, because the keys may differ from then on; if
both replies are errors, no key has changed, and the sequence goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from server.core.commands.command_docs import specs_of
from server.core.commands.deviations import Deviation, deviation_of
from server.core.commands.key_specs import found_keys
from server.core.commands.spec import CommandSpec
from server.core.commands.table import find_command
from tests.wire.differential.calls import Command
from tests.wire.differential.replies import (
    Reply,
    elements,
    parsed,
    same_choice,
    same_in_any_order,
    same_time,
)
from tests.wire.differential.servers import Asker

SHOWN_BYTES = 400
SCANS = ("scan", "sscan", "hscan", "zscan")
CHOICES = ("srandmember", "hrandfield", "zrandmember", "spop", "randomkey")
TIMES_MS = {"ttl": 1000, "pttl": 1, "expiretime": 1000, "pexpiretime": 1, "object|idletime": 1000}
# In RESP2 these answer pairs as a flat list, if the option is given.
PAIRS = {
    "hgetall": b"", "hscan": b"", "zscan": b"", "hrandfield": b"WITHVALUES", "zrandmember": b"WITHSCORES",
}  # fmt: skip
UNORDERED = {"geosearch", "georadius", "georadius_ro", "georadiusbymember", "georadiusbymember_ro", "sort", "sort_ro"}
CONTENT: dict[bytes, Callable[[bytes], Command]] = {
    b"string": lambda key: (b"GET", key),
    b"hash": lambda key: (b"HGETALL", key),
    b"set": lambda key: (b"SMEMBERS", key),
    b"zset": lambda key: (b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"),
    b"list": lambda key: (b"LRANGE", key, b"0", b"-1"),
    b"none": lambda key: (b"EXISTS", key),
}


@dataclass(frozen=True)
class Sequence_:
    """Commands for one connection, in batches: the places at which a new batch begins, and the node that gets each."""

    protocol: int
    keys: tuple[bytes, ...]
    batches: tuple[tuple[int, tuple[Command, ...]], ...]

    def commands(self) -> list[Command]:
        """All commands, in order."""
        return [command for _, batch in self.batches for command in batch]


@dataclass(frozen=True)
class Difference:
    """A command of a sequence to which the two gave different answers."""

    command: Command
    redis: bytes
    ours: bytes

    def __str__(self) -> str:
        return f"{_shown(b' '.join(self.command))}\n    redis {_shown(self.redis)}\n    ours  {_shown(self.ours)}"


def _shown(data: bytes) -> str:
    return repr(data) if len(data) <= SHOWN_BYTES else f"{data[:SHOWN_BYTES]!r}… ({len(data)} bytes)"


@dataclass
class Tally:
    """What the sequences of a run have met: calls and replies that are no errors, by command; known differences."""

    calls: dict[str, int]
    fine: dict[str, int]
    excused: dict[Deviation, int]


class Pair:
    """Connections to a Redis and to nodes of ours, in both protocols."""

    def __init__(self, redis_port: int, our_ports: Sequence[int]) -> None:
        self._redis = {protocol: Asker(redis_port, protocol) for protocol in (2, 3)}
        self._ours = {protocol: [Asker(port, protocol) for port in our_ports] for protocol in (2, 3)}
        self.tally = Tally({}, {}, {})

    def close(self) -> None:
        """Ends all connections."""
        for asker in (*self._redis.values(), *[each for all_ in self._ours.values() for each in all_]):
            asker.close()

    def run(self, sequence: Sequence_) -> Difference | None:
        """Runs a sequence; the first difference, if there is one that is not known."""
        self._delete(sequence)
        difference = self._run(sequence)
        self._delete(sequence)
        return difference

    def _run(self, sequence: Sequence_) -> Difference | None:
        protocol = sequence.protocol
        ours = self._ours[protocol]
        for node, batch in sequence.batches:
            conversation = Conversation(self._redis[protocol], ours[node % len(ours)], protocol, self.tally)
            difference = conversation.run(batch)
            if difference is not None or conversation.excused:
                return difference
        last = Conversation(self._redis[protocol], ours[-1], protocol, self.tally)
        return last.compare_keys(sequence.keys)

    def _delete(self, sequence: Sequence_) -> None:
        """Deletes the keys on both servers, in database 1, too: MOVE and COPY leave keys there."""
        if sequence.keys:
            delete = (b"DEL", *sequence.keys)
            for asker in (self._redis[2], self._ours[2][0]):
                asker.ask_each([(b"SELECT", b"1"), delete, (b"SELECT", b"0"), delete])


class Conversation:
    """One batch at a time, with a Redis and a node."""

    def __init__(self, redis: Asker, ours: Asker, protocol: int, tally: Tally) -> None:
        self._redis = redis
        self._ours = ours
        self._protocol = protocol
        self._tally = tally
        self.excused = False

    def run(self, batch: Sequence[Command]) -> Difference | None:
        """The first difference in a batch. `excused` if a known one has ended it."""
        collection: list[tuple[Reply, ...]] = []
        spec = find_command(list(batch[0]))
        if spec is not None and spec.name in CHOICES:
            collection = self._collection(spec, batch[0])
        both = zip(batch, self._redis.ask_each(batch), self._ours.ask_each(batch), strict=True)
        for command, theirs, our in both:
            spec = find_command(list(command))
            self._count(spec, theirs)
            if theirs == our and not (spec and spec.name in SCANS):
                continue
            if self._is_same(spec, command, theirs, our, collection):
                continue
            deviation = deviation_of(spec.name if spec else "", command, theirs, our)
            if deviation is None:
                return Difference(command, theirs, our)
            self._tally.excused[deviation] = self._tally.excused.get(deviation, 0) + 1
            if theirs[:1] != b"-" or our[:1] != b"-":
                self.excused = True
                return None
        if spec is not None and spec.name == "spop" and len(batch[0]) > 1:
            self._give_members(batch[0][1])
        return None

    def _count(self, spec: CommandSpec | None, theirs: bytes) -> None:
        name = spec.name if spec else ""
        self._tally.calls[name] = self._tally.calls.get(name, 0) + 1
        if theirs[:1] != b"-":
            self._tally.fine[name] = self._tally.fine.get(name, 0) + 1

    def _is_same(
        self, spec: CommandSpec | None, command: Command, theirs: bytes, our: bytes, known: list[tuple[Reply, ...]]
    ) -> bool:
        if spec is None:
            return False
        redis, ours = parsed(theirs), parsed(our)
        pairs = self._protocol == 2 and spec.name in PAIRS and PAIRS[spec.name] in (b"", *map(bytes.upper, command))
        if spec.name in SCANS:
            return self._same_scan(spec, command, redis, ours, pairs)
        if spec.name in CHOICES:
            repeats = len(command) > 2 and command[2][:1] == b"-"
            return same_choice(redis, ours, known, pairs, repeats)
        if spec.name in TIMES_MS:
            return same_time(redis, ours, TIMES_MS[spec.name])
        if "nondeterministic_output_order" in spec.tips or spec.name in UNORDERED:
            words = [word.upper() for word in command]
            if spec.name in UNORDERED and b"ANY" in words:
                return redis.value == ours.value
            return same_in_any_order(redis, ours, pairs)
        return False

    def _same_scan(self, spec: CommandSpec, command: Command, redis: Reply, ours: Reply, pairs: bool) -> bool:
        """Both scans find the same, page by page until their ends. Only whole ones are compared, and errors."""
        place = 1 if spec.name == "scan" else 2
        if redis.kind != b"*" or ours.kind != b"*":
            return redis == ours
        if command[place] != b"0":
            return True
        found = []
        for asker, first in ((self._redis, redis), (self._ours, ours)):
            rows: set[tuple[Reply, ...]] = set()
            cursor, page = first.parts
            rows.update(elements(page, pairs))
            while cursor.value != b"0":
                again = (*command[:place], cursor.value, *command[place + 1 :])
                cursor, page = parsed(asker.ask(again)).parts
                rows.update(elements(page, pairs))
            found.append(rows)
        return found[0] == found[1]

    def _collection(self, spec: CommandSpec, command: Command) -> list[tuple[Reply, ...]]:
        """What a command may choose from."""
        if spec.name == "randomkey":
            return elements(parsed(self._redis.ask((b"KEYS", b"*"))), False)
        if len(command) < 2:
            return []
        question = {"hrandfield": CONTENT[b"hash"], "zrandmember": CONTENT[b"zset"]}.get(spec.name, CONTENT[b"set"])
        reply = parsed(self._redis.ask(question(command[1])))
        if reply.kind == b"-":
            return []
        return elements(reply, self._protocol == 2 and spec.name != "spop" and spec.name != "srandmember")

    def _give_members(self, key: bytes) -> None:
        """Ours gets the members that Redis has, and the expiry."""
        members = parsed(self._redis.ask((b"SMEMBERS", key)))
        if members.kind == b"-":
            return
        expiry = parsed(self._redis.ask((b"PEXPIRETIME", key))).value
        self._ours.ask((b"DEL", key))
        if members.parts:
            self._ours.ask((b"SADD", key, *[each.value for each in members.parts]))
            if int(expiry) >= 0:
                self._ours.ask((b"PEXPIREAT", key, expiry))

    def compare_keys(self, keys: Sequence[bytes]) -> Difference | None:
        """The first difference in type, content or expiry of a key."""
        types = [(b"TYPE", key) for key in keys]
        both = zip(keys, self._redis.ask_each(types), self._ours.ask_each(types), strict=True)
        questions: list[Command] = []
        for key, theirs, our in both:
            if theirs != our:
                return Difference((b"TYPE", key), theirs, our)
            content = CONTENT.get(theirs[1:-2], CONTENT[b"none"])(key)
            questions += [content if find_command(list(content)) else CONTENT[b"none"](key), (b"PTTL", key)]
        excused, self._tally = self._tally, Tally({}, {}, {})
        try:
            return self.run(questions) if questions else None
        finally:
            self._tally = excused


def keys_in(commands: Sequence[Command]) -> list[bytes]:
    """All keys that commands name."""
    found: dict[bytes, None] = {}
    for command in commands:
        spec = find_command(list(command))
        if spec is not None:
            found |= dict.fromkeys([key for key, _ in found_keys(specs_of(spec), command)])
    return list(found)
