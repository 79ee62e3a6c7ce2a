"""MULTI, EXEC, DISCARD, WATCH and UNWATCH (https://redis.io/docs/latest/develop/interact/transactions/).

Theory. Between MULTI and EXEC the commands of a session are queued (queueing.py); EXEC runs them. It runs alone on its
connection, so that what is pipelined before and behind it keeps its order.

    the keys of the transaction                 how it runs
    are of one slot                             atomically at their coordinator (relayed.py, atomic_run.py): whole or not at
                                                all, with nothing in between
    are of several slots, `multi_slots` is
      relaxed                                   each command by its own quorum, in order (queued_run.py): not isolated, and
                                                if the node ends in between, a part of them has run
      strict                                    CROSSSLOT, and none has run
    none                                        in order

Commands about no key (PING, CLIENT SETNAME, PUBLISH) run at the client's node, once the atomic run is done. Those that are
about all keys (FLUSHALL, KEYS), and scripts, cannot be part of an atomic run: with them the transaction counts as one of
several slots. So does one whose commands reach keys that no argument shows, of another slot (SORT … BY), and one with a
SELECT.

What follows an AUTH runs behind it, checked by the rights of the user who has logged in: so it is an atomic run of its own.

An atomic run of many commands would hold up its coordinator. So more than ATOMIC_COMMANDS_MAX count as of several slots,
too.

Watched keys are compared in the atomic run, if they are of its slot. All others are compared by a quorum read before it.

Rejected: to run a relaxed transaction as an atomic run for each slot. That would keep neither the order of commands nor the
whole.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

from protocol import resp
from protocol.resp import Reply
from protocol.slots import key_slot
from server.core.base.errors import CommandError, ErrorReply
from server.core.base.sinks import Session, Sink
from server.core.base.transaction import Transaction, Watch
from server.core.commands.databases import inner_arguments
from server.core.commands.permissions import NO_CHANNEL, NO_KEY
from server.core.commands.registry import find_command
from server.core.commands.shapes import session_of
from server.core.commands.spec import ALONE, IMMEDIATE, CommandSpec
from server.core.commands.transactions.atomic_run import CROSSSLOT
from server.core.commands.transactions.queued_run import run_queued
from server.core.commands.transactions.relayed import SlotTransaction, run_transaction
from server.core.commands.transactions.snapshot import encoded
from server.core.commands.transactions.watches import Watched, require_transactions, tokens_of
from server.core.services.services import Services
from server.core.work.procedures import Procedure, Step, Steps

_DISCARDED: Final = "EXECABORT Transaction discarded because of previous errors."
_NOPERM: Final = (
    "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This command is no "
    "longer allowed for the following reason: "
)
_REFUSED_COMMAND = "no permission to execute the command or subcommand"
_REFUSED: Final[dict[bytes, str]] = {
    NO_KEY: "no permission to touch the specified keys",
    NO_CHANNEL: "no permission to access one of the channels used as arguments to the command",
}
_OLD_COORDINATOR: Final = (
    "ERR the node that coordinates these keys is of a version without transactions: nothing was written. Upgrade it"
)
_UNKNOWN: Final = b"-ERR unknown command 'DYN.EXEC'"
_LOGINS: Final = (b"auth", b"hello")
_SEVERAL = -1  # slots, or all
ATOMIC_COMMANDS_MAX: Final = 1000
_TOO_MANY: Final = f"ERR a transaction has {ATOMIC_COMMANDS_MAX} commands at most while multi_slots is strict"


def _multi(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """MULTI: queues the commands that follow."""
    session = session_of(sink)
    if session.transaction is not None:
        raise CommandError("ERR MULTI calls can not be nested")
    session.transaction = Transaction()
    return resp.OK


def _discard(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """DISCARD: forgets the queued commands, and what is watched."""
    session = session_of(sink)
    if session.transaction is None:
        raise CommandError("ERR DISCARD without MULTI")
    session.transaction = session.watched = None
    return resp.OK


def _unwatch(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """UNWATCH: forgets what is watched."""
    session_of(sink).watched = None
    return resp.OK


def _watch(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """WATCH key …: EXEC answers null if one of the keys has changed by then. A key that is watched stays as it was seen."""
    session = session_of(sink)
    if session.transaction is not None:
        raise CommandError("ERR WATCH inside MULTI is not allowed")
    require_transactions(services)
    known = {} if session.watched is None else session.watched.tokens
    keys = [key for key in dict.fromkeys(args[1:]) if key not in known]
    config = services.state.config
    if len(known) + len(keys) > config.transaction_keys_max:
        raise CommandError(f"ERR a client may watch transaction_keys_max={config.transaction_keys_max} keys")
    if sum(map(len, known)) + sum(map(len, keys)) > config.transaction_bytes_max:
        raise CommandError(f"ERR a client may watch keys of transaction_bytes_max={config.transaction_bytes_max} bytes")

    space, swaps = session.space, services.clients.swaps[session.space]

    def steps() -> Steps:
        tokens = yield from tokens_of(services, keys)
        session.watched = session.watched or Watch()
        session.watched.tokens |= tokens
        session.watched.swaps.setdefault(space, swaps)
        return resp.OK

    services.run_steps(steps(), sink, number)


def _exec(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """EXEC: an array of the replies, or null if a watched key has changed."""
    session, state = session_of(sink), services.state
    transaction, watched = session.transaction, session.watched or Watch()
    if transaction is None:
        raise CommandError("ERR EXEC without MULTI")
    # What the user may not run any more is refused while the session is in its transaction: ACL LOG tells that.
    execution = _Execution(services, session, transaction.commands, watched)
    session.transaction = session.watched = None
    if transaction.is_refused:
        raise CommandError(_DISCARDED)
    if state.in_flight > state.requests_max and any(_needs_data(args) for args in transaction.commands):
        sink.answer(number, state.refusal)
        return
    services.run_steps(execution.steps(), sink, number)


def _needs_data(args: list[bytes]) -> bool:
    spec = find_command(args)
    return spec is not None and spec.needs_data()


class _Execution:
    """One EXEC of a session."""

    def __init__(self, services: Services, session: Session, commands: list[list[bytes]], watch: Watch) -> None:
        self._services = services
        self._session = session
        self._numbering = services.state.numbering  # as a whole it runs by this one
        self._watched, self._swaps = watch.tokens, watch.swaps
        self._count = len(commands)
        self._replies: dict[int, Reply] = {}  # by place
        self._commands = dict(enumerate(commands))  # by place: those that may run, as the client has sent them
        self._parts = _parts_by_user(commands)
        self._refuse(self._parts[0])

    def _refuse(self, places: list[int]) -> None:
        """Answers those of some commands that the user may not run any more."""
        for place in places:
            refusal = _refusal(self._session, self._commands[place])
            if refusal is not None:
                self._replies[place] = refusal
                del self._commands[place]

    def steps(self) -> Steps:
        """Runs the commands, unless a watched key has changed."""
        state = self._services.state
        while state.holds_commands:
            yield self._services.timers.sleep_until(state.now_ms + state.config.tick_ms)
        self._numbering = state.numbering
        slot, is_strict = _slot_of(list(self._commands.values())), state.config.multi_slots == "strict"
        if slot == _SEVERAL and is_strict:
            raise CommandError(CROSSSLOT)
        if slot is not None and len(self._commands) > ATOMIC_COMMANDS_MAX and is_strict:
            raise CommandError(_TOO_MANY)
        atomic_slot = self._atomic_slot(self._permitted(self._parts[0]))
        swaps = self._services.clients.swaps
        if any(swaps[space] != seen for space, seen in self._swaps.items()):
            return resp.null_array(self._session.resp3)
        here = {key: token for key, token in self._watched.items() if key_slot(key) == atomic_slot}
        others = [key for key in self._watched if key not in here]
        present = yield from tokens_of(self._services, others)
        if any(present[key] != self._watched[key] for key in others):
            return resp.null_array(self._session.resp3)
        refusal = yield from self._run_part(self._parts[0], here)
        if refusal is not None:
            return refusal
        for part in self._parts[1:]:
            self._refuse_as_queued(part)
            refusal = yield from self._run_part(part, {})
            if refusal is not None:  # what is before it has run
                self._replies |= dict.fromkeys(self._permitted(part), refusal)
        return resp.array_of_replies([self._replies[place] for place in range(self._count)])

    def _refuse_as_queued(self, places: list[int]) -> None:
        """Answers what the user who has logged in within the transaction may not run. ACL LOG tells that it is in one."""
        self._session.transaction = Transaction()
        self._refuse(places)
        self._session.transaction = None

    def _permitted(self, part: list[int]) -> list[int]:
        return [place for place in part if place in self._commands]

    def _atomic_slot(self, places: list[int]) -> int | None:
        """The slot of commands that run atomically; None if they run in order."""
        slot = _slot_of([self._commands[place] for place in places])
        return None if slot == _SEVERAL or len(places) > ATOMIC_COMMANDS_MAX else slot

    def _run_part(self, part: list[int], watched: Watched) -> Generator[Step, Any, Reply | None]:
        """Runs commands of one user. Returns the reply of EXEC if there is no array."""
        places = self._permitted(part)
        if self._atomic_slot(places) is None:
            yield from self._run_in_order(places)
            return None
        return (yield from self._run_atomically(places, watched))

    def _run_in_order(self, places: list[int]) -> Generator[Step, Any, None]:
        commands = [self._commands[place] for place in places]
        replies, self._numbering = yield run_queued(self._services, self._session, self._numbering, commands)
        self._replies |= dict(zip(places, replies, strict=True))

    def _run_atomically(self, places: list[int], watched: Watched) -> Generator[Step, Any, Reply | None]:
        """Runs the commands with keys atomically, then those without. Returns the reply of EXEC if there is no array."""
        with_keys = [place for place in places if _keys_of(self._commands[place])]
        commands = [self._inner(self._commands[place]) for place in with_keys]
        transaction = SlotTransaction(commands, watched, self._numbering.spaces)
        relaxes = self._services.state.config.multi_slots == "relaxed"
        if not self._knows_transactions(transaction):
            if not relaxes:
                raise CommandError(_OLD_COORDINATOR)
            reply = CROSSSLOT_REPLY
        else:
            reply = yield _transaction_step(self._services, transaction)
            if reply.startswith(_UNKNOWN):  # the next owner, after another one was lost, is of an earlier version
                reply = CROSSSLOT_REPLY if relaxes else ErrorReply.of(_OLD_COORDINATOR)
        if reply == CROSSSLOT_REPLY and relaxes:
            yield from self._run_in_order(places)
            return None
        if reply[:1] != b"*" or reply == resp.null_array(False):
            return reply
        self._replies |= dict(zip(with_keys, resp.items_of(reply), strict=True))
        yield from self._run_in_order([place for place in places if place not in self._replies])
        return None

    def _inner(self, args: list[bytes]) -> list[bytes]:
        """A command with the inner form of its keys. No SELECT is before it: that would make several slots."""
        spec = find_command(args)
        assert spec is not None, "only known commands are queued"
        return inner_arguments(self._services.state, spec, args, self._numbering.spaces[self._session.database])

    def _knows_transactions(self, transaction: SlotTransaction) -> bool:
        """Whether the coordinator of the keys is this node, or has announced that it runs transactions."""
        coordinator = self._services.route(transaction.all_keys()[0]).coordinator_for(False)
        return coordinator is None or coordinator in self._services.state.transacting


CROSSSLOT_REPLY: Final = ErrorReply.of(CROSSSLOT)


class _Whole(Sink):
    """The sink of a transaction on one slot: an error of it is a result, too."""

    def __init__(self, procedure: Procedure, transaction: SlotTransaction) -> None:
        super().__init__(procedure)
        self.relayed = False
        self._procedure = procedure
        self._transaction = transaction

    def answer(self, number: int, reply: Reply) -> None:
        """The reply of the transaction."""
        self._procedure.resume(bytes(encoded(reply)))

    def command(self, number: int) -> list[bytes] | None:
        """Returns the transaction as a command: EXEC alone would not be known again."""
        return self._transaction.encode()


def _transaction_step(services: Services, transaction: SlotTransaction) -> Step:
    """A step whose result is the encoded reply of a transaction on keys of one slot."""

    def start(procedure: Procedure) -> None:
        sink = _Whole(procedure, transaction)
        try:
            run_transaction(services, sink, 0, transaction)
        except CommandError as error:
            sink.answer(0, error.reply)

    return start


def _refusal(session: Session, args: list[bytes]) -> ErrorReply | None:
    """The error for a command that the user may not run any more, in Redis' words for that case."""
    refusal = None if session.rights is None else session.rights.refusal(session, args)
    if refusal is None:
        return None
    return ErrorReply.of(_NOPERM + _REFUSED.get(refusal, _REFUSED_COMMAND))


def _parts_by_user(commands: list[list[bytes]]) -> list[list[int]]:
    """The places of commands, in runs that end where another user may log in: each run is of one user."""
    parts: list[list[int]] = [[]]
    for place, args in enumerate(commands):
        parts[-1].append(place)
        if args[0].lower() in _LOGINS:
            parts.append([])
    return parts


def _keys_of(args: list[bytes]) -> list[bytes]:
    """The keys of a command. Channels are none."""
    spec = find_command(args)
    return [] if spec is None or spec.group == "pubsub" else spec.keys_of(args)


def _slot_of(commands: list[list[bytes]]) -> int | None:
    """The slot of all keys of the commands; None if they have no keys, and _SEVERAL if one may be about all keys."""
    slot = None
    for args in commands:
        spec = find_command(args)
        assert spec is not None, "only known commands are queued"
        if spec.group == "scripting":
            return _SEVERAL  # a script is an atomic run of its own, and may reach any key
        keys = _keys_of(args)
        if not keys and spec.overlap != IMMEDIATE and not _runs_at_its_node(spec):
            return _SEVERAL
        for key in keys:
            if slot is not None and key_slot(key) != slot:
                return _SEVERAL
            slot = key_slot(key)
    return slot


def _runs_at_its_node(spec: CommandSpec) -> bool:
    return (spec.group in ("connection", "pubsub") and spec.name != "select") or spec.name == "dyn.quorum"


_FAST = "noscript loading stale fast allow_busy"
COMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec(
        "multi",
        1,
        IMMEDIATE,
        _multi,
        "Queues the commands that follow, for EXEC.",
        "transactions",
        _FAST,
        since="1.2.0",
    ),
    CommandSpec(
        "exec",
        1,
        ALONE,
        _exec,
        "Runs the queued commands: as one, if their keys are of one slot.",
        "transactions",
        "noscript loading stale skip_slowlog",
        since="1.2.0",
        complexity="Depends on commands in the transaction",
    ),
    CommandSpec(
        "discard",
        1,
        IMMEDIATE,
        _discard,
        "Forgets the queued commands, and what is watched.",
        "transactions",
        _FAST,
        since="2.0.0",
        complexity="O(N), when N is the number of queued commands",
    ),
    CommandSpec(
        "watch",
        -2,
        ALONE,
        _watch,
        "Lets EXEC run nothing if one of the keys has changed by then.",
        "transactions",
        _FAST,
        (1, -1, 1),
        since="2.2.0",
        complexity="O(1) for every key.",
        access="RO",
        arguments="key [key ...]",
    ),
    CommandSpec("unwatch", 1, ALONE, _unwatch, "Forgets what is watched.", "transactions", _FAST, since="2.2.0"),
)
