"""Chains: commands of one key that depend on each other, run in order by the key's coordinator in one step.

Theory. A pipeline that reads and writes one key again and again would need a round trip for each of its commands if each
had to wait for the answer to the one before it. So the commands that have gathered in a lane (lanes.py) travel to
the coordinator together. The coordinator reads the key once with a quorum, and then runs all commands of the chain in one
step, in order. Each sees the join of what the quorum holds and what is stored here by then: the writes of the commands
before it, and none of those after it. Their writes are one group, which every replica stores as one batch.

The effect is that of running them one by one: the quorum read begins after the last command of the chain has arrived, so
it sees every write that was acknowledged before, and concurrent writes of others may come before or after the chain.

A command that changes a large record copies it, unless it shares a draft with others (commands/shared_drafts.py). So a step
runs as many commands as copy `STEP_BYTES_MAX` together, and the rest is a chain of its own, whose quorum read lets other
clients be served. So are the commands behind one that takes several turns to change the key: their read waits until the key
is released (base/holds.py).

If there is no quorum, plain writes run all the same, as always, and the other commands fail. A node of an older version
cannot run chains, or refuses a chain with a command that it does not know: it gets their commands one by one, and answers
those that it does not know with an error.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from mypy_extensions import i64

from protocol.resp import Reply
from server.core.base.lanes import Lane, Lanes, Parked
from server.core.base.sinks import Session, SharedReply, Sink
from server.core.commands.spec import IMMEDIATE, READ, WRITE, CommandSpec
from server.core.commands.steps import read_here
from server.core.commands.table import commands_by_name, find_command
from server.core.records.records import storage_key_of
from server.core.requests.relay_rows import RelayItem
from server.core.requests.relays import STALE
from server.core.services.services import Services
from server.core.work.procedures import Procedure, Steps

_NO_CHAIN: Final = ("dyn", "scripting")
_OF_OTHER_KEYS: Final = ("move",)  # they write a key that is not among their lanes, and that takes a step of its own
CHAIN_COMMANDS_MAX: Final = 256  # a longer chain would hold up the turn of its coordinator
CHAIN_BYTES_MAX: Final = 1 << 20  # of arguments
Run = Callable[[Sink, int, list[bytes]], None]
STEP_BYTES_MAX: Final = 8 << 20  # of copies that the commands of one step may make of their record: some 5 ms


class Chains:
    """Runs chains here, or sends them to their coordinators. `run` runs a single command for a sink."""

    def __init__(self, services: Services, run: Run) -> None:
        self._services = services
        self._run = run
        self._commands = commands_by_name()

    def run_all(self, items: list[RelayItem]) -> None:
        """Runs commands of one key each: those of the same key in order."""
        chains: dict[bytes, list[RelayItem]] = {}
        for item in items:
            spec = self._commands.get(item.args[0])
            is_usual = spec is not None and len(item.args) == spec.usual_count
            key = item.args[1] if is_usual else _key_of(item.args)
            chain = chains.get(key)
            if chain is None:
                chain = chains[key] = []
            chain.append(item)
        for key, chain in chains.items():
            self.run(key, chain)

    def run(self, key: bytes, chain: list[RelayItem]) -> None:
        """Runs commands of `key` in order, for sinks with the same settings."""
        services, first = self._services, chain[0].sink
        coordinator = services.route(key).coordinator_for(first.relayed)
        if coordinator is None:
            here = _Here(services, key, chain, self.run, self._run)
            Procedure(services.state, "chain", here.steps(), here, 0, services.relays.stale_check(first)).start()
        elif coordinator in services.state.orderly and services.state.readers.has_announced(coordinator):
            for item in chain:
                services.relays.forward(item.sink, item.number, item.args, coordinator, item.begun_ms, True)
        else:
            _OneByOne(chain, self._run).begin()


def _key_of(args: list[bytes]) -> bytes:
    spec = find_command(args)
    assert spec is not None, "only known commands are relayed"
    return spec.keys_of(args)[0]


class _Here(Sink):
    """A chain that this node coordinates: the sink of its quorum read."""

    def __init__(
        self,
        services: Services,
        key: bytes,
        chain: list[RelayItem],
        run_chain: Callable[[bytes, list[RelayItem]], None],
        run: Run,
    ) -> None:
        super().__init__(chain[0].sink)
        self._services = services
        self._key = key
        self._chain = chain
        self._run_chain = run_chain
        self._run = run

    def steps(self) -> Steps:
        """One quorum read, then all commands."""
        record = yield read_here(self._services, self._key)
        if self._services.route(self._key).coordinator_for(self.relayed) is not None:
            self._run_chain(self._key, self._chain)  # another node coordinates the key by now
            return None
        quorum_records, storage_key = self._services.reads.quorum_records, storage_key_of(self._key)
        fitting = max(1, STEP_BYTES_MAX // max(1, len(record or b"")))
        holds, pending = self._services.state.holds, self._services.state.records.pending
        begun = copies = 0
        quorum_records[storage_key] = record
        try:
            for item in self._chain:
                made = pending.made
                self._run(item.sink, item.number, item.args)
                begun += 1
                copies += pending.made - made + (storage_key not in pending.by_key)
                if holds.is_held(storage_key) or copies >= fitting:
                    break
        finally:
            del quorum_records[storage_key]
        if len(self._chain) > begun:
            self._run_chain(self._key, self._chain[begun:])
        return None

    def answer(self, number: int, reply: Reply) -> None:
        """There was no quorum, or the chain came too late."""
        for item in self._chain:
            spec = find_command(item.args)
            if reply != STALE and spec is not None and spec.kind_of(item.args) == WRITE:
                self._run(item.sink, item.number, item.args)
            else:
                item.sink.answer(item.number, reply)


class _OneByOne(Sink):
    """A chain whose coordinator cannot run chains: each command begins when the one before it is answered."""

    def __init__(self, chain: list[RelayItem], run: Run) -> None:
        super().__init__(chain[0].sink)
        self._chain = deque(chain)
        self._run = run

    def begin(self) -> None:
        """Runs the first command."""
        self._run(self, 0, self._chain[0].args)

    def answer(self, number: int, reply: Reply) -> None:
        """The first command is answered: the next one begins."""
        first = self._chain.popleft()
        first.sink.answer(first.number, reply)
        if self._chain:
            self.begin()

    def command(self, number: int) -> list[bytes] | None:
        """Returns the arguments of the first command."""
        return self._chain[0].args


def next_wave(lane: Lane) -> list[Parked]:
    """HOT. The next commands of a lane that may begin together: a single one, or as many as one chain may hold."""
    if len(lane.parked) == 1:
        return [lane.parked[0]]
    wave: list[Parked] = []
    size_bytes: i64 = 0
    for parked in lane.parked:
        for word in parked.args:
            size_bytes += len(word)
        if wave and (size_bytes > CHAIN_BYTES_MAX or len(wave) == CHAIN_COMMANDS_MAX or not parked.fits_chain):
            break
        wave.append(parked)
        if not parked.fits_chain:
            break
    return wave


def fits_chain(spec: CommandSpec, lanes: list[Lane]) -> bool:
    """HOT. Whether a command can be in a chain: it has one key, no R or W of its own, and is no step (slot_step.py)."""
    return len(lanes) == 1 and spec.group not in _NO_CHAIN and spec.name not in _OF_OTHER_KEYS


def sink_of(parked: Parked, session: Session) -> Sink:
    """HOT. The sink of a command that has waited: it may also stand for others."""
    return SharedReply(session, parked.superseded) if parked.superseded else session


def lanes_in_flight(session: Session) -> Lanes:
    """Lanes with the commands that a session has in flight. They are of one kind, so they needed no lanes so far."""
    lanes = Lanes()
    for number, args in session.unanswered():
        spec = find_command(args)
        if spec is not None and spec.overlap != IMMEDIATE:
            lanes.enter(number, lanes.of_keys(spec.keys_of(args)), session.kind, session.turn)
    return lanes


def runs_beside(kind: int, turn: int, other: int, now: int) -> bool:
    """HOT. Whether a command of kind `other` may begin in turn `now` while commands of `kind` that began in `turn` run."""
    return kind == other and (kind == READ or (kind == WRITE and turn == now))


def may_enter(lane: Lane, kind: int, now: int) -> bool:
    """HOT. Whether a command of that kind may begin in turn `now`, given what the lane holds."""
    return not lane.parked and (not lane.running or runs_beside(lane.kind, lane.turn, kind, now))
