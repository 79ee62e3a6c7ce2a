"""The secrets of the nodes in a storm: their files, an operator who rotates them, and an intruder.

Theory. A file is changed on a machine whether its node runs or not; a node that runs reads it then. The operator rotates as
SECURITY.md says: a step on all machines before the next step. In between, nodes have different files for a while.

The intruder has a copy of the directory of a node, with its id and its data, and starts a process on it while that node is
away, at its address or at another one. He has no secret, one of his own, or one that was valid before the last rotation.
His process says what `MARK` names: a user of his own, and a key. Neither may ever come to a disk of the cluster, and no
node may say anything to him.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from protocol.handshake import SECRET_BYTES
from tests.sim.clients import Client, History
from tests.sim.disk import Disk
from tests.sim.host import Host
from tests.sim.world import World

MARK = b"intruder"
_STAY_MS_MAX = 5000


class SecretFiles:
    """The files of all machines of `world`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._files: dict[str, tuple[bytes, ...]] = {host.id: () for host in world.hosts}
        self.dropped: list[bytes] = []
        for host in world.hosts:
            host.on_start = self._load

    def new_secret(self) -> bytes:
        """A secret that nobody has had before."""
        return self._world.rng.randbytes(SECRET_BYTES)

    def write(self, host: Host, secrets: tuple[bytes, ...]) -> None:
        """The file of one machine has these secrets now."""
        self._world.trace(f"{host.member.name} gets {len(secrets)} secrets")
        self._files[host.id] = secrets
        host.deliver("secret", lambda: self._load(host))

    def _load(self, host: Host) -> None:
        host.running.services.authentication.set_secrets(self._files[host.id])
        host.links.secrets_changed()

    def all_closed(self) -> bool:
        """Whether all nodes run and refuse who does not prove the secret."""
        nodes = [host.node for host in self._world.hosts]
        return all(node is not None and node.services.authentication.is_required for node in nodes)


class Rotation:
    """Gives all machines a new secret again and again, step by step, each step on one machine after the other."""

    def __init__(self, world: World, files: SecretFiles, first: bytes, pace_ms: int, end_ms: int) -> None:
        self._world = world
        self._files = files
        self._present = first
        self._pace_ms = pace_ms
        self._end_ms = end_ms
        self._begin()

    def _begin(self) -> None:
        if self._world.events.now_ms < self._end_ms:
            old, new = self._present, self._files.new_secret()
            self._present = new
            self._step([(old, new), (new, old), (new,)], old)

    def _step(self, contents: list[tuple[bytes, ...]], old: bytes) -> None:
        """The next of the contents that each file gets."""
        if not contents:
            self._files.dropped.append(old)
            self._begin()
            return
        at_ms = 0
        for host in self._world.rng.sample(self._world.hosts, len(self._world.hosts)):
            at_ms += self._world.rng.randint(1, self._pace_ms)
            self._world.events.after(at_ms, partial(self._files.write, host, contents[0]))
        self._world.events.after(at_ms + 1, lambda: self._step(contents[1:], old))


class Intruder:
    """Runs a process on a stolen directory now and then, until `end_ms`."""

    def __init__(self, world: World, files: SecretFiles, pace_ms: int, end_ms: int) -> None:
        self._world = world
        self._files = files
        self._rng = world.rng
        self._pace_ms = pace_ms
        self._end_ms = end_ms
        self._ghost: Host | None = None
        self.attempts = 0
        self.told: list[str] = []  # nodes that have said to him who they are
        for host in world.hosts:
            host.at = self._at
        self._rest()

    def _at(self, address: str) -> Host | None:
        """The machine at an address: the intruder's, if he has taken that of a node that is away."""
        found, ghost = self._world.at(address), self._ghost
        if ghost is not None and ghost.member.address == address and (found is None or found.node is None):
            return ghost
        return found

    def _rest(self) -> None:
        self._world.events.after(self._rng.randint(1, 2 * self._pace_ms), self._begin)

    def _begin(self) -> None:
        if self._world.events.now_ms >= self._end_ms:
            return
        victim = self._rng.choice(self._world.hosts)
        victim.kill()
        self.attempts += 1
        self._ghost = ghost = self._started(victim)
        self._world.events.after(self._rng.randint(1000, _STAY_MS_MAX), partial(self._end, victim, ghost))

    def _started(self, victim: Host) -> Host:
        world, member = self._world, victim.member
        if self._rng.random() < 0.3:
            member = replace(member, address="127.0.0.1:6666")
        ghost = Host(member, Disk(MARK.decode(), [], world.events), world.events, world.network, self._rng,
                     victim.config, world.trace)  # fmt: skip
        ghost.id = MARK.decode()
        ghost.at = self._at
        ghost.disk.roll_back(victim.disk.copy())
        ghost.disk.marks = dict(victim.disk.marks)
        known = self._rng.choice([(), (self._files.new_secret(),), tuple(self._files.dropped[-1:])])
        ghost.on_start = lambda host: host.running.services.authentication.set_secrets(known)
        world.trace(f"an intruder has the directory of {member.name}, and {len(known)} secrets")
        ghost.start()
        client = Client(MARK.decode(), History())
        client.connect(ghost)
        client.send(
            [b"DYN.QUORUM", b"R", b"1", b"W", b"1"],
            [b"ACL", b"SETUSER", MARK, b"on", b"nopass", b"~*", b"+@all"],
            [b"SET", MARK, MARK],
        )
        return ghost

    def _end(self, victim: Host, ghost: Host) -> None:
        self.told += [node for node in ghost.links.introduced if node != victim.id]  # he connects to himself, too
        ghost.kill()
        self._ghost = None
        if victim.node is None:
            victim.start()
        self._rest()
