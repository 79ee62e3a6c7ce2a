"""A load that knows what it is owed: threads write and read back through all nodes, and remember each acknowledgement.

Theory. Each key belongs to one thread, which writes rising serial numbers under it, so there is never a doubt which of
two values is the newer one. A write whose connection broke before the answer has an unknown outcome, and may even take
effect later; such a key is left alone from then on, and either value may stand under it. Every other key must at all
times and through every node answer the last serial that was acknowledged: less is a lost write, or an old value that
came back.

If the node that coordinates a key is killed after it has run a DEL, the next owner runs the DEL again and answers 0.
`kills` says that the test kills nodes: then this answer is in order. The key must be gone all the same.

A thread whose connection breaks, or stays silent for `timeout_s`, goes on at the next node. Where nodes never fail so that
a quorum is missing, an error *reply* is not in order, and neither is a read that answers something old: both are kept for
the test to see. Where they do, the outcome of what was refused is as unknown as that of what was not answered.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import redis

from tests.wire.cluster import LOOPBACK, Client, Host, WireNode, connect, wait_for

Address = tuple[str, int]
KEYS_PER_THREAD = 150
BATCH = 16
READ_BATCH = 200
PAUSE_S = 0.005  # between two rounds of a thread: else four of them take all that the machine has, which nodes wait for


@dataclass
class Expected:
    """What may stand under a key: the last serial acknowledged, or one of those whose outcome is unknown. A key that was
    deleted, or never written, has the serial 0."""

    acknowledged: int = 0
    unknown: set[int] = field(default_factory=set)

    def allows(self, value: bytes | None) -> bool:
        serial = 0 if value is None else int(value.split(b":")[0])
        return serial == self.acknowledged or serial in self.unknown


class Writer(threading.Thread):
    """One of the threads: at even places one command at a time, at odd ones in pipelines."""

    def __init__(
        self,
        place: int,
        addresses: Sequence[Address],
        timeout_s: float,
        stop: threading.Event,
        deletes: float,
        kills: bool,
    ) -> None:
        super().__init__(daemon=True)
        self.expected: dict[str, Expected] = {}
        self.errors: list[str] = []
        self.stale: list[str] = []
        self.writes = self.breaks = 0
        self._place = place
        self._addresses = addresses
        self._at = place % len(addresses)
        self._timeout_s = timeout_s
        self._halt = stop
        self._deletes = deletes
        self._deleted = (0, 1) if kills else (1,)  # the answers to a DEL of a key that is there
        self._random = random.Random(place)
        self._renamed = [0] * KEYS_PER_THREAD
        self._batch = BATCH if place % 2 else 1

    def run(self) -> None:
        client = self._connect()
        while not self._halt.is_set():
            try:
                self._write(client)
                self._read(client)
            except (redis.ConnectionError, redis.TimeoutError):
                self.breaks += 1
                client.close()
                self._at = (self._at + 1) % len(self._addresses)
                client = self._connect()
            except redis.ResponseError as error:
                self.errors.append(f"node {self._at + 1}: {error}")
            self._halt.wait(PAUSE_S)
        client.close()

    def has_written(self, count: int) -> bool:
        """Whether it has sent so many writes; it must not have died on the way."""
        assert self.is_alive()
        return self.writes >= count

    def _connect(self) -> Client:
        host, port = self._addresses[self._at]
        return connect(port, self._timeout_s, host=host)

    def _key(self, number: int) -> str:
        return f"load:{self._place}:{number}:{self._renamed[number]}"

    def _write(self, client: Client) -> None:
        numbers = self._random.sample(range(KEYS_PER_THREAD), self._batch)
        names = [self._key(number) for number in numbers]
        entries = [self.expected.setdefault(name, Expected()) for name in names]
        serials = [
            0 if entry.acknowledged and self._random.random() < self._deletes else self.writes + number
            for number, entry in enumerate(entries, 1)
        ]
        self.writes += len(names)
        for number, entry, serial in zip(numbers, entries, serials, strict=True):
            entry.unknown.add(serial)  # until it is acknowledged
            self._renamed[number] += 1  # and the name is given up unless it is
        commands = [
            ("SET", name, f"{serial}:{'x' * self._random.randrange(200)}") if serial else ("DEL", name)
            for name, serial in zip(names, serials, strict=True)
        ]
        replies = _send(client, commands)
        for number, entry, serial, reply in zip(numbers, entries, serials, replies, strict=True):
            if reply is True if serial else reply in self._deleted:
                entry.acknowledged = serial
                entry.unknown.discard(serial)
                self._renamed[number] -= 1
            else:
                self.errors.append(f"node {self._at + 1}: {'SET' if serial else 'DEL'}: {reply}")

    def _read(self, client: Client) -> None:
        names = [self._key(number) for number in self._random.sample(range(KEYS_PER_THREAD), self._batch)]
        for name, reply in zip(names, _send(client, [("GET", name) for name in names]), strict=True):
            if isinstance(reply, Exception):
                self.errors.append(f"node {self._at + 1}: GET: {reply}")
            elif not self.expected.get(name, Expected()).allows(reply):
                wanted = self.expected.get(name, Expected()).acknowledged
                self.stale.append(f"node {self._at + 1}: GET {name} answered {reply!r} after {wanted} was acknowledged")


def _siblings(node: WireNode, name: str) -> object:
    """The context and the values that one node holds by itself: for whoever asks why a key reads wrong."""
    with node.client() as client:
        return client.execute_command("DYN.GET", name, "R", "1")


def _send(client: Client, commands: list[tuple[str, ...]]) -> list[Any]:
    if len(commands) == 1:
        return [client.execute_command(*commands[0])]
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    replies: list[Any] = pipeline.execute(raise_on_error=False)
    return replies


class Load:
    """All the threads together."""

    def __init__(
        self,
        ports: Sequence[int],
        timeout_s: float = 10.0,
        threads: int = 4,
        deletes: float = 0.0,
        hosts: Sequence[Host] = (),
        kills: bool = False,
    ) -> None:
        """`deletes` is the share of DELs among the writes of keys that are there; `hosts` are where the nodes run, if not
        on loopback; `kills`: the test kills nodes."""
        self._stop = threading.Event()
        addresses = [(hosts[place].address if hosts else LOOPBACK.address, port) for place, port in enumerate(ports)]
        self.writers = [Writer(place, addresses, timeout_s, self._stop, deletes, kills) for place in range(threads)]

    @contextmanager
    def running(self) -> Iterator[None]:
        """The threads write within, and have all stopped afterwards."""
        for writer in self.writers:
            writer.start()
        try:
            yield
        finally:
            self._stop.set()
            for writer in self.writers:
                writer.join(60)
                assert not writer.is_alive(), "a thread hangs"

    @property
    def writes(self) -> int:
        """How many writes have been sent so far."""
        return sum(writer.writes for writer in self.writers)

    @property
    def breaks(self) -> int:
        """How many connections have broken so far."""
        return sum(writer.breaks for writer in self.writers)

    @property
    def errors(self) -> list[str]:
        """Error replies, and reads that answered something old."""
        return [error for writer in self.writers for error in (*writer.errors, *writer.stale)]

    @property
    def refusals(self) -> list[str]:
        """Error replies alone."""
        return [error for writer in self.writers for error in writer.errors]

    def more(self, count: int) -> None:
        """Waits until every thread has sent `count` more writes."""
        for writer, goal in [(writer, writer.writes + count) for writer in self.writers]:
            wait_for(partial(writer.has_written, goal), f"{goal} writes of one thread")

    def assert_all_there(self, *nodes: WireNode) -> None:
        """Every key reads back as it must, through each of the nodes."""
        expected = {name: entry for writer in self.writers for name, entry in writer.expected.items()}
        assert expected
        names = sorted(expected)
        for node in nodes:
            with node.client() as client:
                for start in range(0, len(names), READ_BATCH):
                    batch = names[start : start + READ_BATCH]
                    for name, value in zip(batch, client.mget(batch), strict=True):
                        assert expected[name].allows(value), (
                            f"{node.name}: {name}: {value!r} for {expected[name]}; siblings "
                            f"{[_siblings(other, name) for other in nodes]}"
                        )
