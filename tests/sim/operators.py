"""The operator in the storm: changes of the ring in the middle of everything else that goes wrong.

Theory. A change is committed at any node that runs, by what that node knows, be there another change under way or not; one
that cannot be made is let go. So commits come from nodes that are cut off, slow, or behind; two come at once from both
sides of a partition; and a node that was removed while it was down comes back with its old disk and its old ideas.

A removed node is lost with its disk (P1), so few are removed, and the nodes that stay are as many as the quorums need.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from server.core.ring.change import JOIN, LEAVE, READ_QUORUM, REMOVE, REPLACE, REPLICA_COUNT, WEIGHT, ZONE, Change
from server.core.ring.layout import Layout
from server.core.ring.succession import ChangeError, commit
from tests.sim.host import Host
from tests.sim.world import World

STAYING_MIN = 3
REMOVED_MAX = 2
HOSTS_MAX = 9


class Operator:
    """Changes the ring of `world`, in one of the ways `names`, every `pace_ms` or so until `end_ms`. Where nothing else
    goes wrong (`gentle`) the first two nodes stay, and nobody dies."""

    def __init__(self, world: World, names: tuple[str, ...], pace_ms: int, end_ms: int, gentle: bool) -> None:
        self._world = world
        self._rng = world.rng
        self._names = names
        self._pace_ms = pace_ms
        self._end_ms = end_ms
        self._gentle = gentle
        self._staying_min = min(STAYING_MIN, len(world.members()))
        self._anchors = world.hosts[:2] if gentle else []
        self._next()

    def _next(self) -> None:
        self._world.events.after(self._rng.randint(1, 2 * self._pace_ms), self._act)

    def _act(self) -> None:
        if self._world.events.now_ms < self._end_ms and self._names:
            name = self._rng.choice(self._names)
            self._world.trace(f"ring: {name}")
            (CHANGES | MORE_CHANGES)[name](self)
            self._next()

    # --- committing

    def _commit(self, make: Callable[[Layout], Change | None], hosts: list[Host] | None = None) -> None:
        """One change at some running node, of these or of all; it is made out of the layout there."""

        def make_all(layout: Layout) -> list[Change]:
            change = make(layout)
            return [] if change is None else [change]

        self._commit_all(make_all, hosts)

    def _commit_all(self, make: Callable[[Layout], list[Change]], hosts: list[Host] | None = None) -> None:
        running = [host for host in hosts or self._world.hosts if host.node and host.node.state.layout is not None]
        if running:
            host = self._rng.choice(running)
            host.deliver("operator", partial(self._commit_at, host, make))

    def _commit_at(self, host: Host, make: Callable[[Layout], list[Change]]) -> None:
        present = host.running.state.layout
        changes = make(present) if present is not None else []
        if present is None or not changes:
            return
        change = changes[0]
        if change.node == host.id and (change.kind == REMOVE or change.gone):
            return  # no node commits its own removal: should it die of that before it speaks, nobody else would know
        try:
            layout = commit(present, changes)
        except ChangeError as error:
            self._world.trace(f"{host.member.name} refuses: {error}")
            return
        if len(layout.staying) < self._staying_min and len(layout.staying) < len(present.staying):
            return
        self._world.trace(f"{host.member.name} commits {change.kind} {change.node} {change.other}: {layout.version}")
        if change.kind == REMOVE or change.gone:
            self._world.losses.of_nodes.append((self._world.events.step, change.node))
        host.running.services.membership.make(layout)

    def _change(self, kind: str, node: str, **fields: object) -> Change:
        return Change(id=f"{self._rng.getrandbits(64):016x}", kind=kind, node=node, **fields)  # type: ignore[arg-type]

    def _some_member(self, layout: Layout) -> Host | None:
        """One that may go."""
        anchors = [host.id for host in self._anchors]
        going = [member.id for member in layout.staying if member.id not in anchors]
        return self._world.host(self._rng.choice(going)) if going else None

    def _newcomer(self) -> Host | None:
        """A running node that is no member: a fresh one, or one that has left."""
        strangers = [host for host in self._world.hosts if host.node is not None and host.node.state.layout is None]
        idle = [host for host in strangers if host.disk.is_whole()]  # else it cannot clear what it held
        if idle and self._rng.random() < 0.5:
            return self._rng.choice(idle)
        return self._world.add_host() if len(self._world.hosts) < HOSTS_MAX else None

    # --- the changes

    def _joining(self, new: Host) -> Change:
        member = new.member
        return self._change(
            JOIN, new.id, name=member.name, address=member.address, zone=member.zone, weight=member.weight
        )

    def _join(self, hosts: list[Host] | None = None) -> None:
        new = self._newcomer()
        if new is not None:
            self._commit(lambda layout: self._joining(new), hosts)

    def _leave(self, hosts: list[Host] | None = None) -> None:
        def make(layout: Layout) -> Change | None:
            host = self._some_member(layout)
            return self._change(LEAVE, host.id) if host is not None else None

        self._commit(make, hosts)

    def _victim(self) -> Host | None:
        """A member that is down, or goes down now and comes back later, or is not down at all."""
        if len(self._world.losses.of_nodes) >= REMOVED_MAX:
            return None
        members = [host for host in self._world.members() if host not in self._anchors]
        down = [host for host in members if host.node is None]
        if down and self._rng.random() < 0.7:
            return self._rng.choice(down)
        host = self._rng.choice(members)
        if self._rng.random() < 0.8:
            host.kill()
            self._world.events.after(
                self._rng.randint(500, 9000), lambda: None if host.node is not None else host.start()
            )
        return host

    def _remove(self, hosts: list[Host] | None = None) -> None:
        victim = self._victim()
        if victim is not None:
            self._commit(lambda layout: self._change(REMOVE, victim.id), hosts)

    def _replace(self, hosts: list[Host] | None = None) -> None:
        gone = not self._gentle and self._rng.random() < 0.5
        victim = self._victim() if gone else None
        if gone and victim is None:
            return
        new = self._newcomer()
        if new is None:
            return

        def make(layout: Layout) -> Change | None:
            old = victim or self._some_member(layout)
            if old is None:
                return None
            joining = self._joining(new)
            return replace(joining, kind=REPLACE, node=old.id, other=new.id, gone=gone)

        self._commit(make, hosts)

    def _weigh(self, hosts: list[Host] | None = None) -> None:
        weight = self._rng.choice((1, 2, 3))
        self._commit(lambda layout: self._change(WEIGHT, self._rng.choice(layout.members).id, weight=weight), hosts)

    def _change_n(self) -> None:
        """Another N, with the R that goes with it. W stays 2, by which the checkers judge."""
        n = self._rng.choice((2, 3, 4))

        def make(layout: Layout) -> list[Change]:
            return [self._change(REPLICA_COUNT, "", weight=n), self._change(READ_QUORUM, "", weight=n // 2 + 1)]

        self._commit_all(make)

    def _move_zone(self, hosts: list[Host] | None = None) -> None:
        zone = f"z{self._rng.randint(0, 3)}"
        self._commit(lambda layout: self._change(ZONE, self._rng.choice(layout.members).id, zone=zone), hosts)

    def _readdress(self) -> None:
        """A node stops, and starts at another address."""
        host = self._rng.choice(self._world.hosts)
        host.stop()
        if host.node is None:
            host.member = replace(host.member, address=self._free_address())
            self._world.events.after(
                self._rng.randint(20, 2000), lambda: None if host.node is not None else host.start()
            )

    def _free_address(self) -> str:
        """An address that no machine has now: no second process could listen there, and nobody would find it."""
        taken = [host.member.address for host in self._world.hosts]
        first_port = 7101 + self._rng.randint(0, 800)
        addresses = (f"127.0.0.1:{port}" for port in range(first_port, 1 << 16))
        return next(address for address in addresses if address not in taken)

    def _split(self) -> None:
        """Two sides, a commit on each; each path heals in its own time, some of them after all nodes there hold those on
        the other side for down."""
        hosts = self._world.hosts[:]
        self._rng.shuffle(hosts)
        middle = self._rng.randint(1, max(1, len(hosts) // 2))
        sides = hosts[:middle], hosts[middle:]
        heal_ms = self._rng.choice((1500, 4000, 9000))
        for one in sides[0]:
            for other in sides[1]:
                for path in ((one.id, other.id), (other.id, one.id)):
                    self._world.network.cut(*path)
                    self._world.events.after(
                        heal_ms + self._rng.randint(0, 1000), partial(self._world.network.mend, *path)
                    )
        for side in sides:
            change = self._rng.choice((Operator._join, Operator._leave, Operator._remove, Operator._replace))
            if side:
                change(self, side)


CHANGES: dict[str, Callable[[Operator], None]] = {
    "join": Operator._join,
    "leave": Operator._leave,
    "remove": Operator._remove,
    "replace": Operator._replace,
    "weight": Operator._weigh,
    "zone": Operator._move_zone,
    "address": Operator._readdress,
    "split": Operator._split,
}
MORE_CHANGES: dict[str, Callable[[Operator], None]] = {"n": Operator._change_n}  # no seed stands for these
LOSING = ("remove", "replace", "split")  # those after which a disk may be lost
GENTLE = ("join", "leave", "replace", "weight", "zone")
