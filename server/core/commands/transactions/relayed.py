"""DYN.EXEC: a transaction on the keys of one slot, as it travels to their coordinator and runs there.

Theory. It is one command with one reply, so it is relayed, retried and refused as other commands are (requests/relays.py).
Only nodes that have announced the capability get one.

If its coordinator is lost, and may have run it, the next owner runs it again where that does the same and answers the same
as for each of its commands alone. Else the client hears that the outcome is unknown:

    a command that must not run twice   as it is alone (CommandSpec.once): INCR, a push, SET NX
    reads and writes                    the reads would see what the first run has written: LRANGE and DEL would answer an
                                        empty list, and the items would be gone
    writes what it has read             as above: SUNIONSTORE d s and DEL s would store an empty set. RENAME, SMOVE, and
                                        commands with a condition (NX) read, too
    writes a key after its EXPIRE       the key would get an expiry although it did not exist when the client set one
    only reads, or only other writes    runs again: so Celery stores a result (SETEX; the client's node runs the PUBLISH)

If it watches keys and writes, it runs again only if they have not changed: then its first run has reached none of the
quorum, or was none. If they have changed, the null of the second run would say that nothing was written, but perhaps the
first run has changed them. So the client hears that the outcome is unknown (`CommandSpec.null_is_unsure`).

    DYN.EXEC key watches[.spaces] [key token …] words word … words word …

`key` is any key of the slot: it says where the command goes. `words` is how many words the next command has. `spaces` are
those of the databases, by which MOVE and COPY find the one that they name. They are left out as they are before the first
swap: so earlier versions, which know no swaps, see none.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final, NamedTuple

from protocol import resp
from protocol.databases import UNSWAPPED, numbering_of, spaces_in, spaces_word
from protocol.resp import Reply
from protocol.slots import key_slot
from server.core.base.errors import CommandError
from server.core.base.sinks import Sink
from server.core.commands.internal import internal
from server.core.commands.registry import find_command
from server.core.commands.slices import in_slices, next_turn
from server.core.commands.spec import EXCLUSIVE, CommandSpec
from server.core.commands.transactions.atomic_run import CROSSSLOT, run_atomically
from server.core.commands.transactions.snapshot import Snapshot
from server.core.commands.transactions.watches import Watched, token_of
from server.core.services.services import Services
from server.core.work.procedures import Step

COMMANDS_PER_TURN: Final = 200  # about 5 ms
_WORK_BYTES_PER_TURN: Final = 8 << 20  # of records that the commands of a turn may copy or go through
_MALFORMED: Final = "ERR malformed transaction"
_CONDITIONS: Final = (b"NX", b"XX", b"GT", b"LT", b"FNX", b"FXX")
_EXPIRING: Final = ("expire", "expireat", "pexpire", "pexpireat")
_TOO_LARGE: Final = "ERR the replies of the transaction have more than gathered_bytes_max=%d bytes: nothing was written"


class SlotTransaction(NamedTuple):
    """Commands on keys of one slot, the keys of that slot that are watched, and the spaces of all databases, by number,
    when it began."""

    commands: list[list[bytes]]
    watched: Watched
    spaces: tuple[int, ...] = UNSWAPPED.spaces

    def all_keys(self) -> list[bytes]:
        """All keys, each once."""
        keys = dict.fromkeys(self.watched)
        for args in self.commands:
            spec = find_command(args)
            keys |= dict.fromkeys(spec.keys_of(args) if spec is not None else ())
        return list(keys)

    def encode(self) -> list[bytes]:
        """The transaction as a call of DYN.EXEC."""
        spaces = b"" if self.spaces == UNSWAPPED.spaces else b"." + spaces_word(self.spaces)
        call = [b"DYN.EXEC", self.all_keys()[0], b"%d%b" % (len(self.watched), spaces)]
        for pair in self.watched.items():
            call += pair
        for args in self.commands:
            call.append(b"%d" % len(args))
            call += args
        return call


def decode(call: list[bytes]) -> SlotTransaction:
    """Reads a call of DYN.EXEC. Raises CommandError if it is malformed, or if its keys are of several slots."""
    watches, _, word = call[2].partition(b".")
    spaces = UNSWAPPED.spaces if not word else spaces_in(word)
    place = 3 + 2 * _count(watches)
    if place > len(call) or spaces is None:
        raise CommandError(_MALFORMED)
    pairs = call[3:place]
    commands = []
    while place < len(call):
        count = _count(call[place])
        commands.append(call[place + 1 : place + 1 + count])
        place += 1 + count
        if not count or place > len(call):
            raise CommandError(_MALFORMED)
    transaction = SlotTransaction(commands, dict(zip(pairs[::2], pairs[1::2], strict=True)), spaces)
    slot = key_slot(call[1])
    if any(key_slot(key) != slot for key in transaction.all_keys()):
        raise CommandError(CROSSSLOT)
    return transaction


def _count(word: bytes) -> int:
    if not word.isdigit() or len(word) > 9:
        raise CommandError(_MALFORMED)
    return int(word)


def must_run_once(call: list[bytes]) -> bool:
    """Whether a call of DYN.EXEC must not run twice: see above."""
    transaction = decode(call)
    reads = writes = 0
    expired: dict[bytes, None] = {}  # keys that got an expiry
    for args in transaction.commands:
        spec = find_command(args)
        if spec is None or spec.once(args):
            return True
        is_write = "write" in spec.flags.split()
        writes += is_write
        reads += not is_write or _looks_first(spec, args)
        if is_write and any(key in expired for key in spec.keys_of(args)):
            return True
        if spec.name in _EXPIRING:
            expired |= dict.fromkeys(spec.keys_of(args))
    return reads > 0 and writes > 0 and len(transaction.commands) > 1


def watches_and_writes(call: list[bytes]) -> bool:
    """Whether a call of DYN.EXEC watches keys, and writes any."""
    transaction = decode(call)
    specs = [find_command(args) for args in transaction.commands]
    return bool(transaction.watched) and any(spec is None or "write" in spec.flags.split() for spec in specs)


def _looks_first(spec: CommandSpec, args: list[bytes]) -> bool:
    """Whether what a command writes depends on what keys hold."""
    accesses = [each.access_of(args) if each.access_of else each.access for each in spec.key_specs] or [spec.access]
    has_condition = any(
        arg.upper() in _CONDITIONS for arg in args[2:]
    )  # perhaps it is a value: then this is too careful
    return has_condition or any(word in ("RO", "access") for access in accesses for word in access.split())


def _exec(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    run_transaction(services, sink, number, decode(args))


class _Numbered(Sink):
    """The sink of a transaction, whose commands find databases by its spaces."""

    def __init__(self, sink: Sink, spaces: tuple[int, ...]) -> None:
        super().__init__(sink)
        self.kept_numbering = numbering_of(spaces)
        self._sink = sink

    def answer(self, number: int, reply: Reply) -> None:
        """The reply of the transaction."""
        self._sink.answer(number, reply)

    def command(self, number: int) -> list[bytes] | None:
        """Returns the transaction as a command."""
        return self._sink.command(number)


def run_transaction(services: Services, sink: Sink, number: int, transaction: SlotTransaction) -> None:
    """Runs a transaction at the coordinator of its keys: an array of replies, or null if a watched key has changed."""
    keys = transaction.all_keys()
    coordinator = services.route(keys[0]).coordinator_for(sink.relayed)
    if coordinator is not None:
        services.relays.forward(sink, number, transaction.encode(), coordinator)
        return
    sink = _Numbered(sink, transaction.spaces)

    def body(snapshot: Snapshot) -> Generator[Step, Any, Reply]:
        return (yield from _run(services, sink, transaction, snapshot))

    services.run_steps(run_atomically(services, sink, number, keys, body, transaction.encode()), sink, number)


def _run(
    services: Services, sink: Sink, transaction: SlotTransaction, snapshot: Snapshot
) -> Generator[Step, Any, Reply]:
    state = services.state
    for key, token in transaction.watched.items():
        if token_of(key, snapshot.record(key), state.time_ms) != token:
            return resp.null_array(sink.resp3)
    replies: list[Reply] = []
    begun, done_bytes, reply_bytes = 0, 0, 0
    for args in transaction.commands:
        if begun == COMMANDS_PER_TURN or snapshot.work_bytes - done_bytes > _WORK_BYTES_PER_TURN:
            yield next_turn(services)
            begun, done_bytes = 0, snapshot.work_bytes
        reply = yield from in_slices(services, snapshot.run_in_slices(args))
        begun += 1
        reply_bytes += len(reply) if isinstance(reply, bytes) else reply.cost_bytes
        if reply_bytes > state.config.gathered_bytes_max:
            raise CommandError(_TOO_LARGE % state.config.gathered_bytes_max)
        replies.append(reply)
    return resp.array_of_replies(replies)


UNLISTED: tuple[CommandSpec, ...] = (
    CommandSpec(
        "dyn.exec",
        -3,
        EXCLUSIVE,
        internal(_exec),
        "Runs a transaction on keys of one slot.",
        "dyn",
        "write",
        (1, 1, 1),
        once=must_run_once,
        null_is_unsure=watches_and_writes,
    ),
)
