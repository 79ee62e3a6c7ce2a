"""A cluster of hosts on a seed: how it begins, how it heals, and a client's hand for directed tests."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from server.core.base.config import Config
from server.core.base.room import FOR_DELETIONS, FOR_WRITES
from server.core.commands.operator import first_layout
from server.core.records.records import META, storage_key_of
from server.core.ring.layout import Layout, Member
from tests.sim import convergence
from tests.sim.checkers import Losses
from tests.sim.clients import Client, History, Operation
from tests.sim.disk import Change, Disk
from tests.sim.events import Events
from tests.sim.finding import look_out
from tests.sim.host import Host
from tests.sim.network import Network
from tests.sim.wall_clock import EPOCH_MS

PARTITIONS = 16
LEAF_BITS = 14  # of the nodes' hash trees: a slot is a leaf, which is plenty here


class World:
    """Hosts, network, time and chance, the clients' history, the log of all disks. `staged_bytes_min`: see staging.py."""

    def __init__(
        self,
        seed: int,
        nodes: int,
        config: Config | None = None,
        n: int = 3,
        r: int = 2,
        w: int = 2,
        laid_out: bool = True,
        keep_trace: bool = False,
        staged_bytes_min: int = 0,
    ) -> None:
        self.staged_bytes_min = staged_bytes_min
        self.rng = random.Random(seed)
        self.events = Events()
        self.network = Network(self.events, self.rng)
        self.history = History()
        self.log: list[Change] = []
        self.losses = Losses()
        self.trace_lines: list[str] = []
        self._keep_trace = keep_trace
        self._digest = hashlib.blake2b(digest_size=12)
        self.config = config or Config()
        members = [self._member(index) for index in range(nodes)]
        self.wish = {"partitions": PARTITIONS, "n": n, "r": min(r, n), "w": min(w, n), "members": [
            {name: getattr(member, name) for name in ("id", "name", "address", "zone", "weight")} for member in members
        ]}  # fmt: skip
        self.layout: Layout = first_layout(self.wish, f"{self.rng.getrandbits(160):040x}")
        self.hosts = [self._host(member) for member in members]
        self._by_id = {host.id: host for host in self.hosts}
        if laid_out:
            for host in self.hosts:
                host.disk.commit({META + b"layout": self.layout.encode()})
                host.disk.sync(1)

    def _member(self, index: int) -> Member:
        name = f"n{index + 1}"
        return Member(f"{name}-{self.rng.getrandbits(32):08x}", name, f"127.0.0.1:{7001 + index}", f"z{index % 3}", 1)

    def _host(self, member: Member) -> Host:
        config = replace(self.config, tree_leaf_bits=LEAF_BITS)
        host = Host(
            member, Disk(member.id, self.log, self.events), self.events, self.network, self.rng, config, self.trace
        )
        host.at = self.at
        host.staging.bytes_min = self.staged_bytes_min
        host.on_set_aside = self.wipe
        return host

    def add_host(self) -> Host:
        """Another machine, with a fresh node on it that belongs to no cluster yet."""
        host = self._host(self._member(len(self.hosts)))
        self.hosts.append(host)
        self._by_id[host.id] = host
        host.start()
        return host

    def learn_layout(self) -> Layout:
        """From now on owners are those of the newest layout that a running node has."""
        layouts = [host.node.state.layout for host in self.hosts if host.node is not None]
        known = [layout for layout in layouts if layout is not None]
        if known:
            self.layout = max(known, key=lambda layout: layout.version)
        return self.layout

    def members(self) -> list[Host]:
        """The hosts that are members by the newest layout."""
        return [self.host(member.id) for member in self.learn_layout().members]

    def host(self, name: str) -> Host:
        """A host by its node's id."""
        return self._by_id[name]

    def at(self, address: str) -> Host | None:
        """The machine at an address: the one on which a process runs, if several have had it."""
        found = [host for host in self.hosts if host.member.address == address]
        listening = [host for host in found if host.node is not None]
        assert len(listening) < 2, f"two processes listen at {address}"
        return next(iter(listening or found), None)

    def trace(self, line: str) -> None:
        """Something has happened: part of the run's fingerprint."""
        line = f"{self.events.now_ms:>7} {line}"
        self._digest.update(line.encode())
        if self._keep_trace:
            self.trace_lines.append(line)

    def fingerprint(self) -> str:
        """The hash of the trace so far, of every commit and of every answer."""
        digest = self._digest.copy()
        for change in self.log:
            digest.update(b"%d %b %b %b" % (change.step, change.node.encode(), change.key, change.record or b"gone"))
        for operation in self.history.operations:
            digest.update(repr(operation).encode())
        return digest.hexdigest()

    # How it goes

    def start(self, settle_ms: int = 3000) -> None:
        """Starts every process, and waits until all see each other."""
        for host in self.hosts:
            if host.node is None:
                host.start()
        assert self.events.run(settle_ms, self.at_peace), "the nodes do not find each other"

    def at_peace(self) -> bool:
        """Whether every member runs and holds every other for live."""
        members = self.members()
        return all(self.sees(one, other) for one in members for other in members)

    def sees(self, one: Host, other: Host) -> bool:
        """Whether `one` sends requests to `other`, and knows the time."""
        if one.node is None or one.frozen or other.node is None or one.node.state.holds_commands:
            return False
        state = one.node.state
        return one is other or (other.id in state.links and state.liveness.is_live(other.id))

    def run(self, duration_ms: int) -> None:
        """Time passes."""
        self.events.run(duration_ms)

    def lose_power(self, host: Host) -> None:
        """A machine goes dark, and what was not synced is lost."""
        before = host.disk.copy()
        host.lose_power()
        if host.disk.data != before and self.config.fsync != "always":
            self._lost(host)

    def wipe(self, host: Host) -> None:
        """The disk of a stopped node is replaced by an empty one."""
        self.trace(f"{host.member.name} loses its disk")
        host.disk.wipe()
        self._lost(host)

    def roll_back(self, host: Host, copy: dict[bytes, bytes]) -> None:
        """The disk of a stopped node is replaced by an older copy of it."""
        self.trace(f"{host.member.name} gets an older copy of its disk")
        host.disk.roll_back(copy)
        self._lost(host)

    def damage(self, host: Host) -> None:
        """One of the records on a disk, of a running node or of a stopped one, is not what was written there."""
        key = host.disk.damage_some(self.rng)
        if key is not None:
            self.trace(f"{host.member.name} has a damaged record at {key!r}")
            self._lost(host)

    def fill(self, host: Host, full: bool, room: int = FOR_DELETIONS) -> None:
        """There is no room on a disk any more but for what `room` says, or there is again; its node looks at that."""
        host.disk_full = full
        host.disk_room = room if full else FOR_WRITES
        self.trace(f"the disk of {host.member.name} {'is full' if full else 'has room'}")
        host.deliver(host.disk, lambda: host.running.disk_changed(host.disk_room, host.now_ms()))

    def _lost(self, host: Host) -> None:
        self.losses.of_disks.append((self.events.step, host.id))

    def wall_ms_at(self, now_ms: int) -> int:
        """What the fastest wall clock reads, at most, at a time of the simulation: no node's idea of now is later."""
        return EPOCH_MS + now_ms + max(host.skew_ms_max for host in self.hosts)

    def run_until(self, duration_ms: int, condition: Callable[[], bool]) -> bool:
        """Time passes until `condition`, which is looked at ten times a second; returns whether it came to hold."""
        end_ms = self.events.now_ms + duration_ms
        while not condition() and self.events.now_ms < end_ms:
            self.events.run(100)
        return condition()

    def heal(self, within_ms: int = 0) -> None:
        """All nodes up, and all paths good, one after the other; those that have moved find each other."""
        self.trace("healing")
        look_out(self, lambda host: [other.member.address for other in self.hosts])
        self.network.datagrams = None
        for pipe in self.network.pipes():
            if pipe.lossy:  # TCP would not have kept it
                pipe.abort()
        self.network.flip_byte_next = False
        for host in self.hosts:
            host.crash_before = ""
            host.turn_delay_ms_max = 2
            if host.node is None:
                host.start()
            host.running.state.unexpected.planted.clear()
            host.thaw()
            if host.disk_full:
                self.fill(host, False)
        for one in self.hosts:
            for other in self.hosts:
                if one is not other:
                    mend = partial(self.network.mend, one.id, other.id)
                    self.events.after(self.rng.randint(0, within_ms), mend) if within_ms else mend()

    def differences(self) -> list[str]:
        """What keeps the cluster from being as it should be once all is well: by the newest layout, on all disks."""
        members = self.members()
        disks = [host.disk for host in self.hosts if host in members or host.node is not None]
        return convergence.unfinished(self.layout, disks)

    def differences_among(self, hosts: Sequence[Host]) -> list[str]:
        """The same for some of the disks: those of the present members, say."""
        return convergence.differences([host.disk for host in hosts], self._owners_at)

    def _owners_at(self, storage_key: bytes) -> list[str]:
        return list(self.layout.owners[self.layout.partition_of(int.from_bytes(storage_key[:2], "big"))])

    def owner_ids(self, key: bytes) -> list[str]:
        """The ids of the key's owners."""
        return self._owners_at(storage_key_of(key))

    # A client's hand

    def client(self, host: Host, name: str = "") -> Client:
        """A client of `host`'s node."""
        client = Client(name or f"t{len(self.history.operations)}", self.history)
        client.connect(host)
        return client

    def ask(self, host: Host, *command: bytes | str | int, within_ms: int = 10_000) -> Operation:
        """One command of a new client, run until it is answered."""
        client = self.client(host)
        operation = client.send(encode(command))[0]
        self.events.run(within_ms, lambda: operation.answered)
        client.hang_up()
        return operation

    def owners(self, key: bytes) -> list[Host]:
        """The key's owners, in order: the first is its coordinator while it lives."""
        return [self.host(owner) for owner in self.owner_ids(key)]

    def key_of(self, *owners: Host) -> bytes:
        """Some key whose owners are these, in this order (a beginning of the list is enough)."""
        numbers = (b"key%d" % number for number in range(10**6))
        return next(key for key in numbers if self.owners(key)[: len(owners)] == list(owners))

    def stored(self, host: Host, key: bytes) -> bytes | None:
        """The record of `key` on a disk, whole."""
        host.disk.get(storage_key_of(key))  # raises if that cannot be read
        return host.disk.data.get(storage_key_of(key))


def encode(command: Sequence[bytes | str | int]) -> list[bytes]:
    """A command's words as the node gets them."""
    return [word if isinstance(word, bytes) else str(word).encode() for word in command]
