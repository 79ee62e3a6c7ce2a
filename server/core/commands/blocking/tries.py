"""Attempts to pop or read for a client that may wait (DYN.TRY), and what puts elements back (DYN.PUTBACK).

Theory. An attempt runs at the coordinator of its key. It pops or moves like the plain command, or leaves a row for the
client in the step in which it finds nothing (core/waiting/). Its reply is an array:

    coordinator                               nothing was there; there is a row now
    coordinator, number of the delivery, …    the elements (of a sorted set: member, packed score, …), on their way
    coordinator, "", element                  the element that was moved
    coordinator, "", entries                  the entries of a stream, encoded: nothing was removed
    ""                                        nothing was there, and the coordinator keeps no rows for those who read

The last one says the client's own node, which reads by itself while the coordinator has not announced `xreads`.
An attempt may run twice, if the node that ran it was lost: what the first one has popped is put back (deliveries.py), and
what it has moved is in the destination. If fewer than W replicas confirm the removal, the elements are delivered all the
same: they may be delivered once more, and an error would lose them.
"""

from __future__ import annotations

from itertools import chain, islice
from typing import NamedTuple

from protocol import resp
from protocol.bounds import NUMBER_MAX, is_node_id
from protocol.peer_versions import XREADS
from protocol.resp import LargeReply, Reply, bulk
from server.core.base.errors import WRONGTYPE, CommandError
from server.core.base.sinks import Sink
from server.core.commands.blocking.operations import OPERATIONS, SCORES, Operation
from server.core.commands.draft_writes import record_of, takes_turns, write_draft, write_in_slices, write_record
from server.core.commands.internal import internal
from server.core.commands.lists.edits import push_left, push_right
from server.core.commands.lists.several import Move, is_left, move_steps
from server.core.commands.sliced_replies import joined_reply
from server.core.commands.slices import in_slices
from server.core.commands.spec import EXCLUSIVE, CommandSpec
from server.core.commands.steps import read_here
from server.core.commands.streams.ids import LAST, parse_id
from server.core.commands.streams.queries import entries_from, entry_reply
from server.core.commands.typed import ATTEMPTS_MAX, OVERTAKEN, begun, check_type, is_other_type
from server.core.messages.queues import PUT_BACK
from server.core.records.draft import Draft
from server.core.records.kinds import LIST, NONE, STREAM, ZSET
from server.core.records.records import storage_key_of
from server.core.records.slicing import SLICE_CHANGES, Pace, Slices, collected, run_through
from server.core.records.versions import DamagedRecord
from server.core.records.views import View
from server.core.services.services import Services
from server.core.waiting.blocked import AGAIN, FIRST, NEEDS_QUEUES, READ, TRY
from server.core.waiting.deliveries import word_of_row
from server.core.work.procedures import Step, Steps

_MALFORMED = "ERR malformed attempt"
_CANNOT_WAIT = (  # a temporary error: the client's node tries again (blocked.py)
    "ERR node{} runs an earlier version, which cannot wait for new entries of a stream"
)
_MOVE = b"LMOVE"
_COUNTED_BYTES_MAX = 18


class _Attempt(NamedTuple):
    """An attempt for a client, by the node that it is connected to and its number there."""

    key: bytes
    home: str
    number: int
    is_again: bool
    name: bytes
    words: list[bytes]


def _parse(args: list[bytes]) -> _Attempt:
    """DYN.TRY key home number FIRST|AGAIN operation …, as words or digits. Raises CommandError."""
    home = args[2].decode("ascii", "replace")
    words, name = args[6:], args[5]
    if not is_node_id(home) or not args[3].isdigit() or int(args[3][:20]) > NUMBER_MAX or args[4] not in (FIRST, AGAIN):
        raise CommandError(_MALFORMED)
    if not _is_sound(name, words):
        raise CommandError(_MALFORMED)
    return _Attempt(args[1], home, int(args[3]), args[4] == AGAIN, name, words)


def _is_sound(name: bytes, words: list[bytes]) -> bool:
    """Whether these are the words of an operation: LMOVE destination from to, XREAD count id, or a removal and a count."""
    if name == _MOVE:
        return len(words) == 3
    if len(words) != (2 if name == READ else 1) or not words[0].isdigit() or len(words[0]) > _COUNTED_BYTES_MAX:
        return False
    if name == READ:
        parse_id(words[1], 0)
    return name == READ or name in OPERATIONS


def _try(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    attempt = _parse(args)
    state, is_reader = services.state, attempt.name == READ
    coordinator = services.route(attempt.key, attempt.name in OPERATIONS).coordinator_for(sink.relayed)
    if coordinator is not None:
        capable = state.capable[XREADS] if is_reader else state.queueing
        if coordinator not in state.links or coordinator in capable:
            services.relays.forward(sink, number, args, coordinator)
            return
        if sink.relayed or not is_reader:
            needs = _CANNOT_WAIT if is_reader else NEEDS_QUEUES
            raise CommandError(needs.format(f" {state.layout_name(coordinator)}"))
    if is_reader:
        steps = _read(services, attempt, leaves_row=coordinator is None)
    else:
        steps = _in_order(services, sink, number, attempt)
    services.run_steps(steps, sink, number)


def _check_home(services: Services, attempt: _Attempt) -> None:
    """Pops nothing for a client whose node was lost meanwhile. Nobody reads the error."""
    if attempt.home != services.state.id and attempt.home not in services.state.links:
        raise CommandError("ERR the node of this client is not connected")


def _nothing(services: Services, attempt: _Attempt, key_type: int) -> bytes:
    """Leaves a row for the client."""
    services.waiting.rows.enter(attempt.home, attempt.number, attempt.key, storage_key_of(attempt.key), key_type)
    return resp.array([bulk(services.state.id.encode())])


def _in_order(services: Services, sink: Sink, number: int, attempt: _Attempt) -> Steps:
    """Moves or pops when it is the client's turn (waiting/order.py)."""
    key_type = LIST if attempt.name == _MOVE else OPERATIONS[attempt.name].key_type
    storage_key = storage_key_of(attempt.key)
    passed = yield from services.waiting.order.passed(attempt.home, attempt.number, storage_key, key_type)
    if passed is None:
        return _nothing(services, attempt, key_type)
    return (yield from (_move if attempt.name == _MOVE else _pop)(services, sink, number, attempt))


def _move(services: Services, sink: Sink, number: int, attempt: _Attempt) -> Steps:
    destination, from_end, to_end = attempt.words

    def nothing() -> bytes:
        return _nothing(services, attempt, LIST)

    def moved(item: bytes) -> bytes:
        services.waiting.rows.forget(attempt.home, attempt.number)
        return resp.array([bulk(services.state.id.encode()), bulk(b""), bulk(item)])

    other_type = nothing if attempt.is_again else None
    move = Move(attempt.key, destination, is_left(from_end), is_left(to_end), nothing, moved, other_type)
    return move_steps(services, sink, number, move)


def _read(services: Services, attempt: _Attempt, leaves_row: bool) -> Steps:
    record = yield read_here(services, attempt.key)
    _check_home(services, attempt)
    view = View(record, services.state.time_ms)
    if view.key_type not in (NONE, STREAM) and not attempt.is_again:
        raise CommandError(WRONGTYPE)
    start = parse_id(attempt.words[1], 0).following()
    entries = entries_from(view, start, LAST) if start is not None and view.key_type == STREAM else iter(())
    first = next(entries, None)
    if first is None:
        return _nothing(services, attempt, STREAM) if leaves_row else resp.array([bulk(b"")])
    services.waiting.rows.forget(attempt.home, attempt.number)
    others = islice(entries, int(attempt.words[0]) - 1) if int(attempt.words[0]) else entries
    found = yield from in_slices(services, collected(chain((first,), others)))
    body = yield from in_slices(services, joined_reply(b"*%d\r\n" % len(found), entry_reply, found))
    return resp.array([bulk(services.state.id.encode()), bulk(b""), bulk(body)])


def _pop(services: Services, sink: Sink, number: int, attempt: _Attempt) -> Steps:
    operation, key = OPERATIONS[attempt.name], attempt.key
    for _ in range(ATTEMPTS_MAX):
        record = yield read_here(services, key)
        _check_home(services, attempt)
        draft = Draft(record, services.state.time_ms, operation.key_type)
        if is_other_type(draft, operation.key_type) and not attempt.is_again:
            raise CommandError(WRONGTYPE)
        if draft.key_type != operation.key_type or not len(draft):
            return _nothing(services, attempt, operation.key_type)
        popping = _Popping(services, sink, attempt, operation)
        work = begun(popping.popped(draft, min(int(attempt.words[0]), len(draft))))
        if isinstance(work, bytes | LargeReply) and not takes_turns(services, draft):
            popping.write(number, draft)
            return None
        try:
            told = yield from write_in_slices(services, popping, number, key, draft, work, True, popping.sealed)
        except (CommandError, DamagedRecord):
            popping.give_up()
            raise
        if told is not None:
            return None
    raise CommandError(OVERTAKEN)


class _Popping(Sink):
    """One removal of elements for a client: the sink of its write. A missed quorum is no reason to keep them back."""

    def __init__(self, services: Services, sink: Sink, attempt: _Attempt, operation: Operation) -> None:
        super().__init__(sink)
        self._services = services
        self._sink = sink
        self._attempt = attempt
        self._operation = operation
        self._values: list[bytes] = []
        self._encoded_values = b""
        self._row = b""  # the values as a stored delivery has them
        self._delivery = 0
        self._reply: Reply = b""

    def popped(self, draft: Draft, count: int) -> Slices[Reply]:
        """Pops from a draft."""
        self._values = yield from self._operation.pop(draft, self._attempt.key, count, self._services.state)
        self._encoded_values = yield from joined_reply(b"", bulk, self._values)
        self._row = yield from joined_reply(b"", word_of_row, self._values)
        return b""

    def write(self, number: int, draft: Draft) -> None:
        """Writes what was popped."""
        services, key = self._services, self._attempt.key
        old = services.state.records.get(storage_key_of(key))
        record = run_through(record_of(services, key, draft, True))  # a failure so far has changed nothing
        reply = self.sealed(b"")
        try:
            write_record(services, self, number, key, record, old, reply, True)
        except (CommandError, DamagedRecord):
            self.give_up()
            raise

    def sealed(self, reply: Reply) -> Reply:
        """The removal is about to be written: its delivery begins."""
        services, attempt, deliveries = self._services, self._attempt, self._services.waiting.deliveries
        plan = services.route(attempt.key, True).plan
        end, values = self._operation.end, self._values
        self._delivery = deliveries.open(attempt.home, plan, attempt.key, end, values, self._row)
        first = bulk(services.state.id.encode()) + bulk(b"%d" % self._delivery)
        self._reply = b"*%d\r\n%b%b" % (2 + len(self._values), first, self._encoded_values)
        services.waiting.rows.forget(attempt.home, attempt.number)
        return self._reply

    def give_up(self) -> None:
        """Nothing was written."""
        self._services.waiting.deliveries.cancel(self._delivery)

    def answer(self, number: int, reply: Reply) -> None:
        """W replicas have the removal, or fewer."""
        self._sink.answer(number, self._reply if isinstance(reply, bytes) and reply[:1] == b"-" else reply)

    def command(self, number: int) -> list[bytes] | None:
        """Returns the arguments of the attempt."""
        return self._sink.command(number)


def _put_back(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """DYN.PUTBACK key id LEFT|RIGHT|SCORES value …: 1, or 0 if it was done before.

    It needs no quorum: it joins the record that is stored here, and one replica that has it is better than none.
    """
    end, values = args[3], args[4:]
    if end not in (b"LEFT", b"RIGHT", SCORES) or (end == SCORES and (len(values) % 2 or _wrong_scores(values))):
        raise CommandError("ERR malformed return")
    coordinator = services.route(args[1]).coordinator_for(sink.relayed)
    if coordinator is not None:
        services.relays.forward(sink, number, args, coordinator)
        return
    returning = _Returning(services, sink, args[2])
    services.run_steps(returning.steps(number, args), sink, number)


def _wrong_scores(values: list[bytes]) -> bool:
    return any(len(score) != 8 for score in values[1::2])


class _Returning(Sink):
    """One return: the sink of its write. Its id is known once that has begun; if it fails, the id is forgotten, and the
    return is tried again."""

    def __init__(self, services: Services, sink: Sink, name: bytes) -> None:
        super().__init__(sink)
        self.write_quorum = 1
        self._services = services
        self._sink = sink
        self._name = name

    def steps(self, number: int, args: list[bytes]) -> Steps:
        """Joins what is stored here."""
        services, key, end = self._services, args[1], args[3]
        key_type, change = (ZSET, _scores) if end == SCORES else (LIST, _items)
        storage_key = storage_key_of(key)
        while services.state.holds.is_held(storage_key):
            yield _released(services, storage_key)
        draft = Draft(services.state.records.get(storage_key), services.state.time_ms, key_type)
        check_type(draft, key_type)
        if services.waiting.deliveries.is_known(self._name):
            return resp.integer(0)
        run_through(change(draft, args))
        if not draft.changed:
            return resp.integer(1)
        write_draft(services, self, number, key, draft, resp.integer(1))
        services.waiting.deliveries.note_known(self._name)
        return None

    def answer(self, number: int, reply: Reply) -> None:
        """It is done, or it failed."""
        if isinstance(reply, bytes) and reply[:1] == b"-":
            self._services.waiting.deliveries.forget_known(self._name)
        self._sink.answer(number, reply)

    def command(self, number: int) -> list[bytes] | None:
        """Returns the arguments of the return."""
        return self._sink.command(number)


def _released(services: Services, storage_key: bytes) -> Step:
    """A step that waits until a key is released."""
    return lambda procedure: services.state.holds.wait(storage_key, lambda: procedure.resume(None))


def _items(draft: Draft, args: list[bytes]) -> Slices[None]:
    """They were popped one after the other from this end."""
    if args[3] == b"LEFT":
        yield from push_left(draft, reversed(args[4:]))
    else:
        yield from push_right(draft, reversed(args[4:]))


def _scores(draft: Draft, args: list[bytes]) -> Slices[None]:
    """A member that was added meanwhile keeps its score."""
    pace = Pace(SLICE_CHANGES)
    for member, score in zip(args[4::2], args[5::2], strict=True):
        if pace.is_full():
            yield
        if draft.key_type == NONE or not draft.has(member):
            draft.put(member, score)


UNLISTED: tuple[CommandSpec, ...] = (
    CommandSpec(
        TRY.decode().lower(),
        -7,
        EXCLUSIVE,
        internal(_try),
        "Pops, moves or reads for a client that may wait.",
        "dyn",
        "write",
        (1, 1, 1),
    ),
    CommandSpec(
        PUT_BACK.decode().lower(),
        -5,
        EXCLUSIVE,
        internal(_put_back),
        "Puts elements back that have not reached their client.",
        "dyn",
        "write",
        (1, 1, 1),
    ),
)
