"""Chains: commands of one key that depend on each other, run in order by the key's coordinator in one step.

Theory. A pipeline that reads and writes one key again and again would need a round trip for each of its commands if each
had to wait for the answer to the one before it. So the commands that have gathered in a lane (lanes.py) travel to
the coordinator together. The coordinator reads the key once with a quorum, and then runs all commands of the chain in one
step, in order. Each sees the join of what the quorum holds and what is stored here by then: the writes of the commands
before it, and none of those after it. Their writes are one group, which every replica stores as one batch.

The effect is that of running them one by one: the quorum read begins after the last command of the chain has arrived, so
it sees every write that was acknowledged before, and concurrent writes of others may come before or after the chain.

If there is no quorum, plain writes run all the same, as always, and the other commands fail. A node of an older version
cannot run chains: it gets their commands one by one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from protocol.resp import Reply
from server.core.base.sinks import Sink
from server.core.commands.spec import WRITE
from server.core.commands.steps import read_here
from server.core.commands.table import find_command
from server.core.records.records import storage_key_of
from server.core.requests.relays import STALE, RelayItem
from server.core.services.services import Services
from server.core.work.procedures import Procedure, Steps

Run = Callable[[Sink, int, list[bytes]], None]


class Chains:
    """Runs chains here, or sends them to their coordinators. `run` runs a single command for a sink."""

    def __init__(self, services: Services, run: Run) -> None:
        self._services = services
        self._run = run

    def run_all(self, items: list[RelayItem]) -> None:
        """Runs commands of one key each: those of the same key in order."""
        chains: dict[bytes, list[RelayItem]] = {}
        for item in items:
            chains.setdefault(_key_of(item[2]), []).append(item)
        for key, chain in chains.items():
            self.run(key, chain)

    def run(self, key: bytes, chain: list[RelayItem]) -> None:
        """Runs commands of `key` in order, for sinks with the same settings."""
        services, first = self._services, chain[0][0]
        coordinator = services.route(key).coordinator_for(first.relayed)
        if coordinator is None:
            here = _Here(services, key, chain, self.run, self._run)
            refusal = lambda: STALE if services.relays.is_stale(first) else None  # noqa: E731
            Procedure(services.state, "chain", here.steps(), here, 0, refusal).start()
        elif coordinator in services.state.orderly:
            for sink, number, args, begun_ms in chain:
                services.relays.forward(sink, number, args, coordinator, begun_ms, True)
        else:
            _OneByOne(chain, self._run).begin()


def _key_of(args: list[bytes]) -> bytes:
    spec = find_command(args)
    assert spec is not None, "only known commands are relayed"
    return spec.keys_of(args)[0]


class _Here:
    """A chain that this node coordinates: the sink of its quorum read."""

    def __init__(
        self,
        services: Services,
        key: bytes,
        chain: list[RelayItem],
        run_chain: Callable[[bytes, list[RelayItem]], None],
        run: Run,
    ) -> None:
        first = chain[0][0]
        self.resp3 = first.resp3
        self.relayed = first.relayed
        self.read_quorum = first.read_quorum
        self.write_quorum = first.write_quorum
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
        agreed, storage_key = self._services.reads.agreed, storage_key_of(self._key)
        agreed[storage_key] = record
        try:
            for sink, number, args, _ in self._chain:
                self._run(sink, number, args)
        finally:
            del agreed[storage_key]
        return None

    def answer(self, number: int, reply: Reply) -> None:
        """There was no quorum, or the chain came too late."""
        for sink, place, args, _ in self._chain:
            spec = find_command(args)
            if reply != STALE and spec is not None and spec.kind_of(args) == WRITE:
                self._run(sink, place, args)
            else:
                sink.answer(place, reply)


class _OneByOne:
    """A chain whose coordinator cannot run chains: each command begins when the one before it is answered."""

    def __init__(self, chain: list[RelayItem], run: Run) -> None:
        first = chain[0][0]
        self.resp3 = first.resp3
        self.relayed = first.relayed
        self.read_quorum = first.read_quorum
        self.write_quorum = first.write_quorum
        self._chain = deque(chain)
        self._run = run

    def begin(self) -> None:
        """Runs the first command."""
        self._run(self, 0, self._chain[0][2])

    def answer(self, number: int, reply: Reply) -> None:
        """The first command is answered: the next one begins."""
        sink, place, _, _ = self._chain.popleft()
        sink.answer(place, reply)
        if self._chain:
            self.begin()
