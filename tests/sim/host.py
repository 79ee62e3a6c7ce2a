"""A machine: its disk, its clocks, and the node process that runs on it, with turns, crashes and freezes.

Theory. This is the shell without asyncio: inputs go to the node as they come; the first asks for the end of the turn,
which commits, then sends messages, then replies (server/shell/turn.py), held until a sync under fsync `always`
(durability.py). The process can be made to die between any two of these steps. A frozen process does nothing while its
sockets fill; when it thaws everything comes at once, each source in its own order, and its timer somewhere among them.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from server.core.base.config import Config
from server.core.base.room import FOR_WRITES
from server.core.base.unexpected import is_planted
from server.core.node import Node
from server.core.outbox import Outbox
from server.core.records.versions import ACTOR_BYTES
from server.core.ring.layout import Member
from tests.sim.disk import Disk
from tests.sim.events import Action, Events
from tests.sim.links import Links
from tests.sim.network import Network
from tests.sim.staging import HostStaging
from tests.sim.wall_clock import WallClock

if TYPE_CHECKING:
    from tests.sim.clients import Connection

CRASH_STEPS = ("commit", "messages", "some messages", "replies", "some replies")  # before or amid what the process dies
SYNC_INTERVAL_MS = 1000
RESTART_MS = 500  # after an internal error, by the service manager


class Host(WallClock):
    """One machine. `node` is None while no process runs on it."""

    _turn = 0  # the last one committed
    disk_full = False
    disk_room = FOR_WRITES

    def __init__(
        self,
        member: Member,
        disk: Disk,
        events: Events,
        network: Network,
        rng: random.Random,
        config: Config,
        trace: Callable[[str], None],
    ) -> None:
        self.member, self.id, self.disk = member, member.id, disk
        self.events, self.network = events, network
        self.rng, self.config, self.trace = rng, config, trace
        self.at: Callable[[str], Host | None]  # the machine at an address
        self.links = Links(self)
        self.staging = HostStaging(disk)
        self.node: Node | None = None
        self.on_start: Callable[[Host], None] = lambda host: None
        self.on_set_aside: Callable[[Host], None] = lambda host: None
        self.life = 0  # grows with each start and each death of the process: what belongs to an earlier one is void
        self.powered, self.frozen = True, False
        self.freezes: list[tuple[int, int]] = []  # from, to: how long the process did nothing
        self.crash_before = ""  # one of CRASH_STEPS: the next turn with something to do ends there
        self.turn_delay_ms_max = 2
        self.boot_ms = rng.randint(0, 10**9)  # of the monotonic clock
        self.connections: dict[int, Connection] = {}  # of clients, by session
        self.callers: list[Connection] = []  # the same, with those that the process has not taken yet
        self._deaths_ms: dict[int, int] = {}
        self.crashes: list[Exception] = []  # planted, and not contained
        self._inbox: list[tuple[object, Action]] = []
        self._turn_asked = self._syncing = False
        self._held: deque[Outbox] = deque()
        self._ticked_ms = self._timer_ms = self._timers = 0

    # Clocks

    def now_ms(self) -> int:
        """The machine's monotonic clock."""
        return self.events.now_ms + self.boot_ms

    # The process

    @property
    def running(self) -> Node:
        """The node, which is known to run."""
        assert self.node is not None
        return self.node

    def make_actor(self) -> bytes:
        """An actor that nobody has had before (P2), as server/shell/process.py draws it."""
        return self.rng.randbytes(ACTOR_BYTES)

    def start(self) -> None:
        """Starts the process on what is on the disk."""
        assert self.node is None
        self.powered = True
        self.life += 1
        wall_ms = self.wall_ms()
        rng = random.Random(self.rng.getrandbits(64))
        self.node = Node(self.member, self.make_actor(), wall_ms, self.config, self.staging.open(), rng, wall_ms)
        self.staging.set_sizes(self.node)
        self.node.services.process.started_ms = self.now_ms()
        self.on_start(self)
        if self.disk_full:
            self.node.disk_changed(self.disk_room, self.now_ms())
        self.trace(f"{self.member.name} starts, {self.disk.count()} records")
        for pipe in self.network.pipes(receiver=self.id):
            if pipe.dark:
                pipe.abort()
        self._ticked_ms = -(1 << 60)
        self._tick(self.life)
        self.events.after(SYNC_INTERVAL_MS, partial(self._sync_every_second, self.life))

    def kill(self) -> None:
        """kill -9: the disk keeps every commit, the connections break."""
        if self.node is None:
            return
        self.trace(f"{self.member.name} is killed")
        for pipe in self.network.pipes(receiver=self.id):
            pipe.abort()
        self._end()

    def stop(self) -> None:
        """SIGTERM: a last turn, which is synced, and all that was said reaches who listens (Server.stop)."""
        if self.node is None or self.frozen:
            return
        self.trace(f"{self.member.name} stops")
        self._held.append(self.node.end_turn())
        self.staging.commit(self._held[-1].writes)
        self.staging.commit(self.node.state.records.closing_batch())
        self.disk.sync(self.disk.unsynced())
        self.crash_before = ""
        for outbox in self._held:
            self.speak(outbox)
        self.links.close_when_sent()
        for pipe in self.network.pipes(receiver=self.id):
            pipe.abort()
        self._end(in_order=True)

    def lose_power(self) -> None:
        """The machine goes dark: unsynced commits are lost, peers hear nothing, not even a broken connection."""
        if self.node is None:
            return
        lost = self.disk.lose_power(self.rng)
        self.trace(f"{self.member.name} loses power, and {lost} batches")
        self.powered = False
        for pipe in self.network.pipes(receiver=self.id):
            pipe.dark = True
        for pipe in self.network.pipes(sender=self.id):
            pipe.half_open = True
        self._end()
        self.boot_ms = self.rng.randint(0, 10**9) - self.events.now_ms

    def died_ms(self, life: int) -> int:
        """When the process of that life died; far in the future if it has not."""
        return self._deaths_ms.get(life, 1 << 60)

    def _end(self, in_order: bool = False) -> None:
        self.node = None
        self._deaths_ms[self.life] = self.events.now_ms
        self.life += 1
        if self.frozen:
            self.frozen = False
            self.freezes[-1] = (self.freezes[-1][0], self.events.now_ms)
        self.crash_before = ""
        for pipe in self.network.pipes(sender=self.id):
            pipe.leave(in_order)
        self.links = Links(self)
        self._inbox.clear()
        self._held.clear()
        self._turn_asked = self._syncing = False
        self.connections.clear()
        callers, self.callers = self.callers, []
        for connection in callers:
            connection.broken()

    def deliver(self, source: object, action: Action) -> None:
        """Input for the process: from one of its sockets or timers, which keep their own order."""
        if self.node is None:
            return
        if self.frozen:
            self._inbox.append((source, action))
        else:
            life = self.life
            self._run(action)
            if self.life == life:
                self._ask_turn()

    def _run(self, action: Action) -> None:
        """What comes out of the core ends the process, as in the shell, if it was planted; its manager starts it again."""
        try:
            action()
        except Exception as error:
            if not is_planted(error):
                raise
            self.trace(f"{self.member.name} ends: {error}")
            self.crashes.append(error)
            batch, data = self.node.crash_report(error) if self.node is not None else ({}, b"")
            self.staging.commit(batch)
            for peer in self.links.peers if data else ():
                self.links.write(peer, data, ())
            if data:  # the process exits when it is sent
                self.freeze()
                sent_ms = max([pipe.due_ms for pipe in self.network.pipes(sender=self.id)], default=0)
                self.events.after(max(0, sent_ms - self.events.now_ms) + 1, partial(self._exit, self.life))
            else:
                self._exit(self.life)

    def _exit(self, life: int) -> None:
        if self.life == life:
            self.kill()
            self.events.after(RESTART_MS, lambda: self.start() if self.node is None and self.powered else None)

    def freeze(self) -> None:
        """SIGSTOP, or a very long pause."""
        if self.node is not None and not self.frozen:
            self.trace(f"{self.member.name} freezes")
            self.frozen = True
            self.freezes.append((self.events.now_ms, -1))

    def thaw(self) -> None:
        """Everything that has waited comes at once."""
        if not self.frozen:
            return
        self.trace(f"{self.member.name} thaws, {len(self._inbox)} inputs wait")
        self.frozen = False
        self.freezes[-1] = (self.freezes[-1][0], self.events.now_ms)
        by_source: dict[int, list[Action]] = {}
        for source, action in self._inbox:
            by_source.setdefault(id(source), []).append(action)
        self._inbox.clear()
        queues = list(by_source.values())
        self.rng.shuffle(queues)
        life = self.life
        for action in [action for queue in queues for action in queue]:
            self._run(action)
            if self.life == life and self.rng.random() < 0.05:
                self._end_turn(life)
            if self.life != life:
                return
        self._ask_turn()

    # The turn

    def _ask_turn(self) -> None:
        if not self._turn_asked:
            self._turn_asked = True
            self.events.after(self.rng.randint(0, self.turn_delay_ms_max), partial(self._end_turn, self.life))

    def _end_turn(self, life: int) -> None:
        if self.life != life or self.node is None:
            return
        if self.frozen:
            self._inbox.append((self, lambda: self._end_turn(life)))
            return
        self._turn_asked = False
        self._run(lambda: self._take_turn(life))

    def _take_turn(self, life: int) -> None:
        outbox = self.running.end_turn()
        if outbox.writes or outbox.messages or outbox.large or outbox.replies:
            told = ", ".join(f"{len(data)} bytes to {peer}" for peer, data in outbox.messages.items())
            self.trace(
                f"{self.member.name} ends a turn: {len(outbox.writes)} writes, {len(outbox.replies)} replies; {told}"
            )
        if self.running.has_more:
            self._ask_turn()
        self.finish_turn(outbox)
        if self.life == life and self._ticked_ms >= 0:
            pause_ms = self.running.services.timers.next_ms()
            if pause_ms is not None and pause_ms < self._timer_ms:
                self._set_timer(life)
        if self.node is not None:
            self.links.follow(self.node.state.layout)
        if self.node is not None and self.node.state.rebuild_reason:
            self._begin_anew()

    def _begin_anew(self) -> None:
        """The store is set aside, and the process goes on with an empty one (server/shell/process.py)."""
        reason = self.running.state.rebuild_reason
        self.trace(f"{self.member.name} sets its store aside: {reason}")
        self.kill()
        self.on_set_aside(self)
        self.start()
        self.running.services.rollback.set_aside(f"data.{reason}-1")

    def finish_turn(self, outbox: Outbox) -> None:
        """Commit, then speak."""
        if self._dies("commit", bool(outbox.writes)):
            return
        if outbox.writes or self.staging.bytes_min:
            self.staging.commit(outbox.writes)
        self._turn = outbox.turn
        if self.config.fsync != "always" or (not outbox.writes and not self._held):
            self.speak(outbox)
            return
        self._held.append(outbox)
        if not self._syncing:
            self._sync(self.life)

    def speak(self, outbox: Outbox) -> None:
        """What the turn has to say, its writes being committed."""
        if self._dies("messages", bool(outbox.messages or outbox.large)):
            return
        self.running.services.traces.committed(outbox.turn)
        self.running.services.traces.sent(outbox.turn)
        peers = list(outbox.messages | outbox.large)
        reach = self.rng.randint(0, len(peers)) if self.crash_before == "some messages" else len(peers)
        for peer in peers[:reach]:
            self.links.write(peer, outbox.messages.get(peer, b""), outbox.large.get(peer, ()))
        if self._dies("some messages", bool(peers)) or self._dies("replies", bool(outbox.replies)):
            return
        replies = outbox.replies
        stops = bool(replies) and self.crash_before == "some replies"
        for session, data in replies[: self.rng.randint(0, len(replies))] if stops else [*replies, *outbox.pushes]:
            if (connection := self.connections.get(session.id)) is not None:
                connection.write(data)
        if self._dies("some replies", bool(replies)):
            return
        self.running.services.waiting.deliveries.sent(outbox.turn)
        for session in outbox.closing:
            connection = self.connections.pop(session.id, None)
            if connection is not None:
                connection.broken()

    def _dies(self, step: str, matters: bool) -> bool:
        if self.crash_before != step or not matters:
            return False
        self.trace(f"{self.member.name} dies before {step}")
        self.kill()
        return True

    # Timers

    def _tick(self, life: int) -> None:
        if self.life == life:
            self.deliver("timer", lambda: self._ticked(life))

    def _ticked(self, life: int) -> None:
        now_ms = self.now_ms()
        if now_ms - self._ticked_ms >= self.config.tick_ms:
            self._ticked_ms = now_ms
            self.running.tick(now_ms, self.wall_ms())
        else:
            self.running.wake(now_ms)
        self._set_timer(life)

    def _set_timer(self, life: int) -> None:
        """One timer at a time: a later one that was set is void when it comes."""
        deadline_ms = self.running.next_deadline_ms()
        assert deadline_ms is not None
        self._timer_ms, self._timers = deadline_ms, self._timers + 1
        number = self._timers
        delay_ms = max(1, deadline_ms - self.now_ms())
        self.events.after(delay_ms, lambda: self._tick(life) if number == self._timers else None)

    def _sync_every_second(self, life: int) -> None:
        """As durability.py: under `everysec` a sync, otherwise only one that the core waits for."""
        if self.life == life:
            batches, turn, policy = self.disk.unsynced(), self._turn, self.config.fsync
            if not batches or policy == "everysec" or (policy == "no" and self.running.state.sync_wanted):
                self.events.after(self.disk.sync_ms(self.rng), lambda: self._synced_in_passing(life, batches, turn))
            else:
                if self.running.state.sync_wanted and not self._syncing:  # `always`: these batches are no turn's
                    self._sync(life)
                self.events.after(SYNC_INTERVAL_MS, lambda: self._sync_every_second(life))

    def _synced_in_passing(self, life: int, batches: int, turn: int) -> None:
        if self.life == life:
            self.disk.sync(batches)
            self.deliver("sync", lambda: self.running.synced(turn))
            self.events.after(SYNC_INTERVAL_MS, lambda: self._sync_every_second(life))

    def _sync(self, life: int) -> None:
        self._syncing = True
        covered, batches, turn = len(self._held), self.disk.unsynced(), self._turn
        self.events.after(self.disk.sync_ms(self.rng), lambda: self._synced(life, covered, batches, turn))

    def _synced(self, life: int, covered: int, batches: int, turn: int) -> None:
        """A sync has ended: what it covered may be said. A sync runs in a thread, also while its loop lags."""
        if self.life != life:
            return
        self.disk.sync(batches)
        self.deliver("sync", lambda: self._speak_held(life, covered, turn))

    def _speak_held(self, life: int, covered: int, turn: int) -> None:
        self._syncing = False
        self.running.synced(turn)
        for _ in range(covered):
            self.speak(self._held.popleft())
            if self.life != life:
                return
        if self._held:
            self._sync(life)
