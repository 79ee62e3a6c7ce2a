"""Chains: commands of one key that depend on each other, run in order by the key's coordinator without a pause.

Theory. A pipeline that reads and writes one key again and again would need a round trip for each of its commands if each
had to wait for the reply to the one before it. So the commands that have gathered in a lane (lanes.py) are sent to the
coordinator together. The coordinator reads the key once with a quorum. Then it runs all commands of the chain, in order,
without a pause. Each command sees the merge of the quorum's records and of the record that is stored here by then. So it
sees the writes of the commands before it, and none of those after it. Their writes are one group, which every replica
stores as one batch.

The effect is the same as if they ran one by one. The quorum read begins after the last command of the chain has arrived, so
it sees every write that was acknowledged before. Concurrent writes of others may come before or after the chain.

Limits of a chain. A command that changes a large record copies it, unless it shares a draft with others
(commands/shared_drafts.py). So a chain pauses when its copies add up to `COPIED_BYTES_MAX`. The rest of the chain becomes
another chain; while its quorum read is under way, other clients are served. If a command needs several turns to change the
key, the commands behind it become another chain, too. Its read waits until the key is released (base/holds.py).

Shortened chains. If a chain has several plain SETs with nothing but GETs between them, only the last SET runs (`shorten`).
The client's node removes the others before it sends the chain. The result is one record, and nobody but these GETs could
have read the values before. When W replicas hold the last value, each SET gets its reply, and each GET gets the value of
the SET before it. That counts as a read of R replicas as long as R is not more than W. The value of a SET that did not run
was never stored. It existed only for its own client, and the next SET replaced it at once.

If the quorum read fails, plain writes run all the same, as they need no read; the others fail. A node of an older version
cannot run chains, or does not know a command of the chain. It gets the commands one by one, and answers those that it does
not know with an error.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from mypy_extensions import i64

from protocol.resp import Reply
from server.core.base.errors import ErrorReply, Failure
from server.core.base.lanes import Lane, Lanes, Parked
from server.core.base.sinks import Session, SharedReply, Sink
from server.core.commands.spec import IMMEDIATE, READ, WRITE, CommandSpec
from server.core.commands.steps import KeyRead
from server.core.commands.strings import value_reply
from server.core.commands.table import commands_by_name, find_command
from server.core.requests.relay_rows import RelayItem
from server.core.requests.relays import STALE
from server.core.services.services import Services

_NO_CHAIN: Final = ("dyn", "scripting")  # groups of commands that are in no chain
_OF_OTHER_KEYS: Final = ("move",)  # MOVE also writes a key that has no lane here
CHAIN_COST_MAX: Final = 1024  # a longer chain would hold up the turn of its coordinator
_OTHER_COST: Final = 4  # the cost of a command; that of a plain SET or GET is 1
CHAIN_BYTES_MAX: Final = 1 << 20  # of arguments
Run = Callable[[Sink, int, list[bytes]], None]
COPIED_BYTES_MAX: Final = 8 << 20  # of copies that commands make of their record without a pause: some 5 ms


class Chains:
    """Runs chains here, or sends them to their coordinators. `run_one` runs a single command for a sink."""

    def __init__(self, services: Services, run: Run) -> None:
        self._services = services
        self.run_one = run
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

    def begin(self, key: bytes, chain: list[RelayItem]) -> None:
        """Begins commands of a session that have waited in the lane of `key`, in order."""
        state, first = self._services.state, chain[0].sink
        quorum = first.read_quorum or state.read_quorum
        if (
            quorum <= (first.write_quorum or state.write_quorum)
            and state.noted is None
            and not state.quarantine.commands
        ):
            chain = shorten(chain, state.config.value_bytes_max, self.run_one)
        if len(chain) > 1:
            self.run(key, chain)
        else:
            self.run_one(chain[0].sink, chain[0].number, chain[0].args)

    def run(self, key: bytes, chain: list[RelayItem]) -> None:
        """Runs commands of `key` in order, for sinks with the same settings."""
        services, first = self._services, chain[0].sink
        coordinator = services.route(key).coordinator_for(first.relayed)
        if coordinator is None:
            _LocalChain(services, key, chain, self).begin()
        elif coordinator in services.state.orderly and services.state.readers.has_announced(coordinator):
            for item in chain:
                services.relays.forward(item.sink, item.number, item.args, coordinator, item.begun_ms, True)
        else:
            _SequentialChain(chain, self.run_one).begin()


def _key_of(args: list[bytes]) -> bytes:
    spec = find_command(args)
    assert spec is not None, "only known commands are relayed"
    return spec.keys_of(args)[0]


class _LocalChain(KeyRead):
    """A chain that this node coordinates: the quorum read of its key, then its commands."""

    def __init__(self, services: Services, key: bytes, chain: list[RelayItem], chains: Chains) -> None:
        super().__init__(services, key, chain[0].sink)
        self._chain = chain
        self._begun = 0  # how many of its commands have begun, or are answered
        self._chains = chains

    def begin(self) -> None:
        """Reads the key, unless the chain is stale. An unexpected exception is the reply to its commands."""
        unexpected = self.services.state.unexpected
        changes = unexpected.changes
        try:
            refusal = self.services.relays.renew_or_refuse(self._chain[0].sink)
            if refusal is None:
                self.start()
            else:
                self._refuse(refusal)
        except Exception as error:  # noqa: BLE001
            self._refuse(unexpected.contain(error, changes, "a chain", "unread", self))

    def joined(self, record: bytes | None) -> bytes | None:
        """Returns `record` as it is if a change of this turn includes it: each command of the chain joins that change when
        it runs. Else as KeyRead."""
        pending = self.services.state.records.pending.by_key.get(self.storage_key)
        if pending is not None and pending.includes(record):
            return record
        return super().joined(record)

    def read_ended(self, result: bytes | ErrorReply | None) -> None:
        """Runs all commands with the record that was read, or answers them with an error."""
        services = self.services
        refusal = services.relays.renew_or_refuse(self._chain[0].sink)
        if refusal is not None:
            self._refuse(refusal)
        elif isinstance(result, ErrorReply):
            self._refuse(result)
        elif services.route(self.key).coordinator_for(self.relayed) is not None:
            self._chains.run(self.key, self._chain)  # another node coordinates the key by now
        else:
            self._run(result)

    def _run(self, record: bytes | None) -> None:
        """Runs as many commands as copy COPIED_BYTES_MAX together. Stops behind a command that holds the key."""
        chain, storage_key, state = self._chain, self.storage_key, self.services.state
        quorum_records, pending = self.services.reads.quorum_records, state.records.pending
        if state.unexpected.planted:
            state.unexpected.pass_by("chain")
        waiting = pending.by_key.get(storage_key)  # its record may be longer than the one that was read: see `joined`
        stored = None if waiting is None else waiting.old
        fitting = max(1, COPIED_BYTES_MAX // max(1, len(record or b""), len(stored or b"")))
        copies = 0
        quorum_records[storage_key] = record
        try:
            while self._begun < len(chain) and copies < fitting and not state.holds.is_held(storage_key):
                made, item = pending.made, chain[self._begun]
                self._begun += 1
                self._chains.run_one(item.sink, item.number, item.args)
                copies += pending.made - made + (storage_key not in pending.by_key)
        finally:
            del quorum_records[storage_key]
        if self._begun < len(chain):
            self._chains.run(self.key, chain[self._begun :])

    def _refuse(self, reply: ErrorReply) -> None:
        """Answers the commands that have not begun. If there is no quorum, plain writes run all the same."""
        begun, self._begun = self._begun, len(self._chain)
        for item in self._chain[begun:]:
            spec = find_command(item.args)
            if reply != STALE and spec is not None and spec.kind_of(item.args) == WRITE:
                self._chains.run_one(item.sink, item.number, item.args)
            else:
                item.sink.answer(item.number, reply)

    def command(self, number: int) -> list[bytes] | None:
        """Returns the arguments of the command that runs, or else of the first one."""
        return self._chain[max(0, self._begun - 1)].args


def shorten(chain: list[RelayItem], value_bytes_max: int, run: Run) -> list[RelayItem]:
    """Replaces each run of plain SETs and GETs that begins with a SET by its last SET. A SET with too large a value stays
    in the chain, where it is refused, and ends the run."""
    short: list[RelayItem] = []
    joined: list[RelayItem] = []
    for item in chain:
        args = item.args
        is_set = len(args) == 3 and args[0] in (b"SET", b"set") and len(args[2]) <= value_bytes_max
        if is_set or (joined and _is_plain_get(args)):
            joined.append(item)
            continue
        if joined:
            short.append(_joined(joined, run))
            joined = []
        short.append(item)
    if joined:
        short.append(_joined(joined, run))
    return short


def _joined(items: list[RelayItem], run: Run) -> RelayItem:
    """Returns the last SET of these SETs and GETs, as a command that stands for all of them."""
    if len(items) == 1:
        return items[0]
    place: i64 = len(items) - 1
    while len(items[place].args) < 3:
        place -= 1
    return RelayItem(_LastSet(items, items[place], run), 0, items[place].args)


def _is_plain_get(args: list[bytes]) -> bool:
    """HOT. Whether a command is a GET, in one of the usual spellings."""
    return len(args) == 2 and args[0] in (b"GET", b"get")


class _LastSet(Sink):
    """The sink of the last one of several SETs of a session, which runs for all of them and for the GETs behind them."""

    def __init__(self, items: list[RelayItem], last: RelayItem, run: Run) -> None:
        super().__init__(last.sink)
        self._items = items
        self._last = last
        self._run = run

    def answer(self, number: int, reply: Reply) -> None:
        """The reply to all SETs. Each GET gets the value of the SET before it."""
        if isinstance(reply, bytes) and reply[:1] == b"-":
            self._fail(reply)
            return
        value: Reply = b""
        for item in self._items:
            if len(item.args) == 3:
                item.sink.answer(item.number, reply)
                value = value_reply(item.args[2])
            else:
                item.sink.answer(item.number, value)

    def _fail(self, reply: bytes) -> None:
        """If nothing was written, the GETs run. Else nobody knows what they would have read, so they fail, too."""
        failure = Failure.read(reply)
        unread = Failure(failure.what, failure.counts, "unread", failure.reason).reply()
        for item in self._items:
            if len(item.args) == 3:
                item.sink.answer(item.number, reply)
            elif failure.outcome == "maybe-written":
                item.sink.answer(item.number, unread)
            else:
                self._run(item.sink, item.number, item.args)

    def command(self, number: int) -> list[bytes] | None:
        """Returns the arguments of the last SET."""
        return self._last.args


class _SequentialChain(Sink):
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
    """HOT. Returns the next commands of a lane that may begin together: one, or as many as a chain may have."""
    if len(lane.parked) == 1:
        return [lane.parked[0]]
    wave: list[Parked] = []
    size_bytes: i64 = 0
    cost: i64 = 0
    for parked in lane.parked:
        for word in parked.args:
            size_bytes += len(word)
        cost += 1 if parked.overwrites or _is_plain_get(parked.args) else _OTHER_COST
        if wave and (size_bytes > CHAIN_BYTES_MAX or cost > CHAIN_COST_MAX or not parked.fits_chain):
            break
        wave.append(parked)
        if not parked.fits_chain:
            break
    return wave


def fits_chain(spec: CommandSpec, lanes: list[Lane]) -> bool:
    """HOT. Whether a command can be in a chain: it has one key, as its first argument (a large relay is split by it), uses
    the R and W of its connection, and is no transaction or script (transactions/atomic_run.py)."""
    return len(lanes) == 1 and spec.keys[0] == 1 and spec.group not in _NO_CHAIN and spec.name not in _OF_OTHER_KEYS


def sink_of(parked: Parked, session: Session) -> Sink:
    """HOT. Returns the sink of a command that has waited. If the command replaced others, its reply goes to them, too."""
    return SharedReply(session, parked.superseded) if parked.superseded else session


def lanes_in_flight(session: Session) -> Lanes:
    """Makes lanes for the commands that a session has in flight. They are of one kind, so they needed no lanes so far."""
    lanes = Lanes()
    for number, args in session.unanswered():
        spec = find_command(args)
        if spec is not None and spec.overlap != IMMEDIATE:
            lanes.enter(number, lanes.of_keys(spec.keys_of(args)), session.kind, session.turn)
    return lanes


def runs_beside(kind: int, turn: int, other: int, now: int) -> bool:
    """HOT. Whether a command of kind `other` may begin in turn `now` while commands of `kind` that began in `turn` run."""
    return kind == other and (kind == READ or (kind == WRITE and turn == now))


def needs_no_lanes(session: Session, kind: int, turn: int) -> bool:
    """HOT. Whether a command may begin whatever its keys are, given what the session has in flight."""
    return not session.in_flight or runs_beside(session.kind, session.turn, kind, turn)


def may_enter(lane: Lane, kind: int, now: int) -> bool:
    """HOT. Whether a command of that kind may begin in turn `now`, given what the lane holds."""
    return not lane.parked and (not lane.running or runs_beside(lane.kind, lane.turn, kind, now))
