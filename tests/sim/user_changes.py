"""Users in a storm: officers who change them at any node, guests who log in and go on, and a watch over the deleted ones.

Theory. Each user has one officer, who waits for the answer to a change before the next one, so that it is known which
change was the last; each change has a password that no other one has. A node may be cut off while its officer changes a
user there: then nodes differ about the user until they meet.

A deletion is *bound* to a process if, from its answer on and for a second, the officer's node and that process are alive,
see each other and have good paths, and no disk of the cluster has a later version of the user. From then on nobody may run
a command there as this user, until his officer makes him anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from server.core.messages.users import document_in
from server.core.users.document import UserEntry
from tests.sim.clients import Client, Operation
from tests.sim.disk import USERS
from tests.sim.host import Host
from tests.sim.workload import PATIENCE_MS
from tests.sim.world import World

IN_FORCE_MS = 1000
_LOOK_MS = 5
_NEVER = 1 << 60


def entry_on(host: Host, name: bytes) -> UserEntry | None:
    """What a disk has of a user."""
    data = host.disk.data.get(USERS)
    return document_in(data).entries.get(name) if data is not None else None


@dataclass
class Deletion:
    """A deletion that an officer was answered, and the processes (host, life) that it is bound to once a second is over."""

    name: bytes
    processes: list[tuple[Host, int]]
    from_ms: int
    until_ms: int = _NEVER  # when the user's next change was sent
    is_bound: bool = False


class Watch:
    """Finds out what each deletion is bound to."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.deletions: list[Deletion] = []

    def deleted(self, name: bytes, operation: Operation) -> Deletion:
        """The deletion of a user was answered."""
        world = self._world
        officer = world.host(operation.host)
        processes = [(host, host.life) for host in world.hosts]
        deletion = Deletion(name, processes, world.events.now_ms + IN_FORCE_MS)
        self.deletions.append(deletion)
        self._look(deletion, officer, operation.life)
        return deletion

    def _look(self, deletion: Deletion, officer: Host, life: int) -> None:
        world = self._world
        kept = deletion.processes if officer.life == life else []
        deletion.processes = [(host, at) for host, at in kept if host.life == at and self._is_near(officer, host)]
        if world.events.now_ms < deletion.from_ms:
            world.events.after(_LOOK_MS, partial(self._look, deletion, officer, life))
            return
        entries = [(host, entry_on(host, deletion.name)) for host in world.hosts]
        newest = max(
            (entry for _, entry in entries if entry is not None), key=lambda entry: entry.version, default=None
        )
        deletion.is_bound = newest is not None and newest.user is None

    def _is_near(self, one: Host, other: Host) -> bool:
        world = self._world
        if not (world.sees(one, other) and world.sees(other, one)) or other.turn_delay_ms_max > 2:
            return False
        paths = [world.network.path(one.id, other.id), world.network.path(other.id, one.id)]
        return one.turn_delay_ms_max <= 2 and all(not path.cut and path.delay_ms_max <= 4 for path in paths)


@dataclass
class Change:
    """A change of a user: with that password, or None for a deletion."""

    name: bytes
    password: bytes | None
    operation: Operation


class Officer:
    """Changes one user until told to stop."""

    def __init__(self, world: World, name: bytes, watch: Watch) -> None:
        self._world = world
        self._rng = world.rng
        self._watch = watch
        self.name = name
        self.changes: list[Change] = []
        self._deletion: Deletion | None = None
        self._asked = 0
        self._stopped = False
        self.client = Client(f"officer of {name.decode()}", world.history, self._rest)
        self._rest()

    def stop(self) -> None:
        """No more changes."""
        self._stopped = True

    @property
    def password(self) -> bytes:
        """The password that was given last, and may be in force."""
        return next((each.password for each in reversed(self.changes) if each.password is not None), b"none")

    def _rest(self) -> None:
        self._asked += 1
        asked, last = self._asked, self.changes[-1] if self.changes else None
        is_deleted = last is not None and last.password is None and last.operation.reply == 1
        if last is not None and is_deleted and self._deletion is None:
            self._deletion = self._watch.deleted(self.name, last.operation)
        pause_ms = self._rng.randint(1, 2500 if is_deleted else 400)
        self._world.events.after(pause_ms, lambda: self._go_on(asked))

    def _go_on(self, asked: int) -> None:
        if self._stopped or asked != self._asked:
            return
        running = [host for host in self._world.hosts if host.node is not None]
        if not running:
            self._rest()
            return
        if not self.client.connected or self._rng.random() < 0.5:
            self.client.connect(self._rng.choice(running))
        if self._deletion is not None:
            self._deletion.until_ms, self._deletion = self._world.events.now_ms, None
        is_deletion = bool(self.changes) and self.changes[-1].password is not None and self._rng.random() < 0.5
        password = None if is_deletion else b"%b-%d" % (self.name, len(self.changes))
        command = [b"ACL", b"DELUSER", self.name]
        if password is not None:
            command = [b"ACL", b"SETUSER", self.name, b"on", b"resetpass", b">" + password, b"~*", b"+@all"]
        self.changes.append(Change(self.name, password, self.client.send(command)[0]))
        self._world.events.after(PATIENCE_MS, lambda: self._give_up(asked))

    def _give_up(self, asked: int) -> None:
        if asked == self._asked:
            self.client.hang_up()
            self._rest()


class Guest:
    """Logs in as an officer's user, and sends commands as that user as long as he is let."""

    def __init__(self, world: World, number: int, officer: Officer) -> None:
        self._world = world
        self._rng = world.rng
        self._officer = officer
        self._asked = 0
        self._stopped = False
        self._sent: list[Operation] = []
        self.client = Client(f"guest {number} of {officer.name.decode()}", world.history, self._rest)
        self._rest()

    def stop(self) -> None:
        """No more commands."""
        self._stopped = True

    def _rest(self) -> None:
        self._asked += 1
        asked = self._asked
        self._world.events.after(self._rng.randint(1, 200), lambda: self._go_on(asked))

    def _go_on(self, asked: int) -> None:
        if self._stopped or asked != self._asked:
            return
        opening: list[list[bytes]] = []
        if not self.client.connected or any(each.error for each in self._sent) or self._rng.random() < 0.02:
            running = [host for host in self._world.hosts if host.node is not None]
            if not running:
                self._rest()
                return
            self.client.connect(self._rng.choice(running))
            opening = [[b"AUTH", self._officer.name, self._officer.password]]
        self._sent = self.client.send(*opening, [b"GET", b"p0"])
        self._world.events.after(PATIENCE_MS, lambda: self._give_up(asked))

    def _give_up(self, asked: int) -> None:
        if asked == self._asked:
            self.client.hang_up()
            self._rest()
