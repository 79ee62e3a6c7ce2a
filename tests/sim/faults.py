"""The storm: what goes wrong, when, and for how long. Every fault ends by itself, or in `World.heal`.

Theory (P1). What was committed may be lost by power loss, with a disk, with what came after an older copy of it, or under
a damaged byte, but only on one node of the cluster (the next storm may choose another one, once the owners are equal), so
that no write acknowledged by W=2 can be lost. With fsync `always` a power loss loses nothing that was said, so there it
may hit all.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tests.faults import messages, procedures, questions
from tests.sim.host import CRASH_STEPS, Host
from tests.sim.network import Datagrams
from tests.sim.world import World


class Storm:
    """Makes things go wrong in `world`, every `pace_ms` or so, for `duration_ms`. `names` are the faults to choose from."""

    def __init__(self, world: World, names: list[str], pace_ms: int, duration_ms: int) -> None:
        self._world = world
        self._rng = world.rng
        self._names = names
        self._pace_ms = pace_ms
        self._end_ms = world.events.now_ms + duration_ms
        self.unlucky = self._rng.choice(world.hosts)
        self.liars = self._rng.sample(world.hosts, (len(world.hosts) - 1) // 2)  # whose clocks may be very wrong
        self._right_ms = {host.id: host.skew_ms for host in self.liars}
        self._next()

    def _next(self) -> None:
        self._world.events.after(self._rng.randint(1, 2 * self._pace_ms), self._strike)

    def _strike(self) -> None:
        if self._world.events.now_ms < self._end_ms and self._names:
            name = self._rng.choice(self._names)
            self._world.trace(f"fault: {name}")
            FAULTS[name](self)
            self._next()

    def _some_host(self) -> Host:
        return self._rng.choice(self._world.hosts)

    def _some_path(self) -> tuple[str, str] | None:
        if len(self._world.hosts) < 2:
            return None
        one, other = self._rng.sample(self._world.hosts, 2)
        return one.id, other.id

    def _later(self, action: Callable[[], object], within_ms: int = 4000) -> None:
        self._world.events.after(self._rng.randint(20, within_ms), action)

    def _start_later(self, host: Host) -> None:
        self._later(lambda: None if host.node is not None else host.start())

    def _kill(self) -> None:
        host = self._some_host()
        host.kill()
        self._start_later(host)

    def _kill_all(self) -> None:
        for host in self._world.hosts:
            host.kill()
            self._start_later(host)

    def _crash(self) -> None:
        """Within a turn; started again soon after, whether it has crashed by then or not."""
        host = self._some_host()
        host.crash_before = self._rng.choice(CRASH_STEPS)
        self._start_later(host)

    def _freeze(self) -> None:
        host = self._some_host()
        host.freeze()
        self._later(host.thaw, self._rng.choice((200, 2000, 6000)))

    def _lose_power(self) -> None:
        always = self._world.config.fsync == "always"
        for host in self._world.hosts if always and self._rng.random() < 0.3 else [self.unlucky]:
            if host.node is not None:
                self._world.lose_power(host)
                self._start_later(host)

    def _restart(self) -> None:
        """A clean stop."""
        host = self._some_host()
        host.stop()
        self._start_later(host)

    def _restart_alone(self) -> None:
        """While all others are up, so that somebody knows the time."""
        if self._world.at_peace():
            self._restart()

    def _be_out(self) -> None:
        """A node is away for long enough that many hints gather."""
        host = self._some_host()
        host.kill()
        self._world.events.after(self._rng.randint(3000, 8000), lambda: None if host.node is not None else host.start())

    def _roll_back(self) -> None:
        """An administrator's mistake: the copy is from now, and takes the place of the disk some time later."""
        host, copy = self.unlucky, self.unlucky.disk.copy()

        def restore() -> None:
            if self._world.events.now_ms < self._end_ms:
                host.kill()
                self._world.roll_back(host, copy)
                self._start_later(host)

        self._later(restore)

    def _damage_record(self) -> None:
        if len(self._world.hosts) > 1:  # else nobody has another copy
            self._world.damage(self.unlucky)

    def _wipe(self) -> None:
        host = self.unlucky
        if len(self._world.hosts) == 1:
            return  # nobody could give it the layout again
        host.kill()
        self._world.wipe(host)
        self._start_later(host)

    def _cut(self) -> None:
        path = self._some_path()
        if path is not None:
            self._world.network.cut(*path)
            self._later(lambda: self._world.network.mend(*path))

    def _isolate(self) -> None:
        alone = self._some_host()
        for host in self._world.hosts:
            if host is not alone:
                for path in ((alone.id, host.id), (host.id, alone.id)):
                    self._world.network.cut(*path)
                    self._later(partial(self._world.network.mend, *path))

    def _divide(self) -> None:
        """Two halves; each path heals in its own time."""
        hosts = self._world.hosts
        half = self._rng.sample(hosts, len(hosts) // 2)
        for one in hosts:
            for other in hosts:
                if (one in half) != (other in half):
                    self._world.network.cut(one.id, other.id)
                    self._later(partial(self._world.network.mend, one.id, other.id), 6000)

    def _break_connection(self) -> None:
        pipes = self._world.network.pipes()
        if pipes:
            self._rng.choice(pipes).abort()

    def _slow_path(self) -> None:
        path = self._some_path()
        if path is not None:
            weather = self._world.network.path(*path)
            weather.delay_ms_min, weather.delay_ms_max = 1, self._rng.choice((50, 400))
            self._later(lambda: self._world.network.mend(*path))

    def _very_slow_path(self) -> None:
        """What is sent now arrives after everybody has given up waiting for it."""
        path = self._some_path()
        if path is not None:
            weather = self._world.network.path(*path)
            weather.delay_ms_min, weather.delay_ms_max = 3000, 9000
            self._later(lambda: self._world.network.mend(*path), 2000)

    def _slow_node(self) -> None:
        host = self._some_host()
        host.turn_delay_ms_max = self._rng.choice((20, 300))
        self._later(lambda: setattr(host, "turn_delay_ms_max", 2))

    def _jump_clock(self) -> None:
        self._some_host().skew_ms += self._rng.randint(-60_000, 60_000)

    def _wrong_clock(self) -> None:
        """Far off, and perhaps put right later; those of a minority only."""
        if self.liars:
            host = self._rng.choice(self.liars)
            host.skew_ms = self._rng.choice((1, -1)) * self._rng.choice((20_000, 500_000, 3_600_000, 86_400_000))
            self._later(lambda: setattr(host, "skew_ms", self._right_ms[host.id]), 8000)

    def _drift(self) -> None:
        self._some_host().drift(self._rng.choice((-500, -50, 0, 50, 500)))

    def _datagrams(self) -> None:
        self._world.network.datagrams = Datagrams(self._rng.uniform(0, 0.3), self._rng.uniform(0, 0.5))
        self._later(lambda: setattr(self._world.network, "datagrams", None), 2000)

    def _late_datagrams(self) -> None:
        self._world.network.datagrams = Datagrams(0.1, 0.5, late_ms_max=9000)
        self._later(lambda: setattr(self._world.network, "datagrams", None), 2000)

    def _fill_disk(self) -> None:
        host = self._some_host()
        self._world.fill(host, True)
        self._later(lambda: self._world.fill(host, False))

    def _plant(self) -> None:
        """A fault of our own in some message's, question's or procedure's code."""
        host = self._some_host()
        if host.node is not None:
            node = host.node
            place = self._rng.choice([*messages(node), *questions(node), *procedures()])
            self._world.trace(f"planted at {place} in {host.member.name}")
            node.state.unexpected.plant(place)

    def _damage(self) -> None:
        self._world.network.flip_byte_next = True


FAULTS: dict[str, Callable[[Storm], None]] = {
    "kill": Storm._kill,
    "kill all": Storm._kill_all,
    "crash": Storm._crash,
    "freeze": Storm._freeze,
    "restart": Storm._restart,
    "lone restart": Storm._restart_alone,
    "outage": Storm._be_out,
    "power loss": Storm._lose_power,
    "wipe": Storm._wipe,
    "rollback": Storm._roll_back,
    "damaged record": Storm._damage_record,
    "cut": Storm._cut,
    "isolate": Storm._isolate,
    "partition": Storm._divide,
    "broken connection": Storm._break_connection,
    "slow path": Storm._slow_path,
    "very slow path": Storm._very_slow_path,
    "slow node": Storm._slow_node,
    "clock jump": Storm._jump_clock,
    "wrong clock": Storm._wrong_clock,
    "clock drift": Storm._drift,
    "datagrams": Storm._datagrams,
    "late datagrams": Storm._late_datagrams,
    "damage": Storm._damage,
    "full disk": Storm._fill_disk,
    "planted fault": Storm._plant,
}
