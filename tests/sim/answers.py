"""Checkers of answers: each command got exactly one, in order, in time (P5), and reads saw what they had to see."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from protocol.tokens import BadContext, decode_context
from tests.sim.checkers import Losses, Writes
from tests.sim.clients import History, Operation
from tests.sim.evidence import Dot, Evidence
from tests.sim.host import Host
from tests.sim.intents import Fate, Intent
from tests.sim.rings import Ring

GRACE_MS = 1000  # relays wait 500 ms more than what they relay; slow journeys and late ticks
THAW_GRACE_MS = 1500  # a node that has been frozen judges no deadline before it has read what had come


def check_in_order(history: History) -> list[str]:
    """P5: one answer a command, and that command's own, as far as values, tokens and types tell."""
    faults = list(history.stray_replies)
    faults += [
        f"not this command's answer: {operation}"
        for operation in history.operations
        if operation.answered and not operation.error and not _fits(operation)
    ]
    return faults


def _fits(operation: Operation) -> bool:
    name, reply = operation.name, operation.reply
    if name == "GET":
        return reply is None or _is_value_of(operation.args[1], reply)
    if name == "SET":
        return reply == b"OK" or (reply is None and b"NX" in operation.args)
    if name == "DEL":
        return type(reply) is int
    if name == "DYN.QUORUM":
        return type(reply) is list and len(reply) == 3
    if type(reply) is not list or not (reply[0] is None or _is_context_of(operation.args[1], reply[0])):
        return False
    if name == "DYN.GET":
        return len(reply) == 2 and all(_is_value_of(operation.args[1], value) for value in reply[1])
    return len(reply) == 3 and reply[0] is not None


def _is_value_of(key: bytes, value: object) -> bool:
    return isinstance(value, bytes) and value.startswith(key + b"=")


def _is_context_of(key: bytes, token: object) -> bool:
    try:
        return isinstance(token, bytes) and len(decode_context(key, token)) >= 0
    except BadContext:
        return False


def check_in_time(history: History, hosts: list[Host], now_ms: int, timeout_ms: int, attempts: int) -> list[str]:
    """P5: an answer by the deadline, counted from when the command's turn came on its connection; while the node lives.

    A command that reads and then writes has a deadline for each; one that goes to another coordinator has a new one.
    """
    faults = []
    by_id = {host.id: host for host in hosts}
    turn_came: dict[tuple[str, int], int] = {}
    stuck: list[tuple[str, int]] = []
    for operation in history.operations:
        connection = (operation.client, operation.connection)
        host = by_id[operation.host]
        begin_ms = max(operation.invoked_ms, turn_came.get(connection, 0))
        end_ms = operation.answered_ms if operation.answered else min(now_ms, host.died_ms(operation.life))
        limit_ms = timeout_ms * (attempts - 1 + _steps(operation)) + GRACE_MS
        if connection not in stuck and _awake_ms(host, begin_ms, end_ms) > limit_ms:
            faults.append(f"{'late' if operation.answered else 'no'} answer: {operation}")
        turn_came[connection] = end_ms
        if not operation.answered:
            stuck.append(connection)
    return faults


def _steps(operation: Operation) -> int:
    return 2 if operation.name == "DEL" or b"NX" in operation.args else 1


def _awake_ms(host: Host, begin_ms: int, end_ms: int) -> int:
    awake_ms = end_ms - begin_ms
    for from_ms, to_ms in host.freezes:
        if from_ms < end_ms and to_ms + THAW_GRACE_MS > begin_ms:
            awake_ms -= min(end_ms, to_ms + THAW_GRACE_MS) - max(begin_ms, from_ms)
    return awake_ms


def check_contexts(history: History, evidence: Evidence, writes: Writes, wall_ms_at: Callable[[int], int]) -> list[str]:
    """P3: a context covers only what its holder has been shown, handed in or written, or what was superseded or dead."""
    faults = []
    for operation in history.operations:
        if not operation.name.startswith("DYN.") or operation.name == "DYN.QUORUM" or _without_token(operation):
            continue
        key, token = operation.args[1], operation.reply[0]
        context = Context(key, token)
        own = writes.of_operation(operation)
        values = operation.reply[1] if own is None else [own.value]
        unborn = _unborn_in_turn(operation, context, [] if own is not None else values, writes)
        births, wall_ms = evidence.births.get(key, {}), wall_ms_at(operation.answered_ms)
        for dot, birth in births.items():
            version = birth.known.siblings[dot]
            if version.value in values or not context.covers(dot) or version.is_dead(wall_ms):
                continue
            if own is not None and own.may_supersede(dot):
                continue
            superseded = any(
                births[later].step <= operation.answered_step and (own is not None or context.covers(later))
                for later in writes.superseders(key, dot)
            )
            if not superseded and not any(intent.may_supersede(dot) for intent in unborn):
                faults.append(f"the context covers {version.value!r}, which its holder has not seen: {operation}")
    return faults


def _without_token(operation: Operation) -> bool:
    return not operation.answered or bool(operation.error) or operation.reply[0] is None


def _unborn_in_turn(operation: Operation, context: Context, shown: list[bytes], writes: Writes) -> list[Intent]:
    """Writes that may have been overwritten within the turn of the operation: on no disk, so no dot tells of them.

    A second attempt, too: the dot that is known of such a write is the first one's, from the coordinator that was lost. Who
    is shown the value by a context that does not cover that dot has been shown the second attempt.
    """
    return [
        intent
        for intent in writes.of_key(operation.args[1])
        if _overlap(intent.operation, operation)
        and (
            intent.value is None
            or not (dots := writes.dots(intent))
            or (intent.value in shown and not any(context.covers(dot) for dot in dots))
        )
    ]


def _overlap(one: Operation, other: Operation) -> bool:
    return all(
        before.invoked_step <= after.answered_step or not after.answered
        for before, after in ((one, other), (other, one))
    )


def check_quorum_reads(history: History, writes: Writes, losses: Losses, r: int, ring: Ring) -> list[str]:
    """R + W > N: what was acknowledged before a read began is known to its answer.

    That holds while the owners stay the same (check_calm sees to it while they change),
    where W *owners* had the write on disk when it was acknowledged, no disk was lost since, the write has not
    been forgotten, and no stand-in had a record of the key, perhaps an older one, with which it could vote for an owner.
    While a key moves only some of its owners are asked; with W=1 any of them may have been the one that took the write.
    """
    faults = []
    for read in history.operations:
        if read.name != "DYN.GET" or not read.answered or read.error:
            continue
        wanted = int(read.args[3]) if len(read.args) > 3 else read.read_quorum or r
        key, token = read.args[1], read.reply[0]
        context = Context(key, token)
        rows = ring.rows(key, read.invoked_step, read.answered_step)
        if len(rows) != 1 or ring.is_gone(read.host, read.answered_step):
            continue
        owners = rows[0]
        readers = [asked for asked, _ in ring.quorum_rows(key, read.invoked_step, read.answered_step)]
        if writes.evidence.is_held_by_others(owners, key, read.invoked_step, read.answered_step):
            continue
        for intent in writes.of_key(key):
            write = intent.operation
            before = intent.fate is Fate.ACKED and write.answered_step < read.invoked_step
            if not before or losses.between(write.invoked_step, read.answered_step):
                continue
            if ring.rows(key, write.invoked_step, read.answered_step) != rows:
                continue
            dots = writes.dots(intent)
            if not dots or any(
                context.covers(dot) or writes.forgotten.knew(key, dot, read.answered_step) for dot in dots
            ):
                continue
            holders = writes.evidence.holders(key, dots, write.answered_step)
            if all(_overlap_within(asked, wanted, holders) for asked in readers):
                faults.append(f"{read} has not seen {write}")
    return faults


def _overlap_within(asked: Sequence[str], wanted: int, holders: Sequence[str]) -> bool:
    """Whether a read that asks these nodes meets one of the holders, whichever answer first."""
    return min(wanted, len(asked)) + sum(node in asked for node in holders) > len(asked)


def check_values(history: History, writes: Writes) -> list[str]:
    """P11: whatever a client gets to read, somebody has written, down to the last bit."""
    faults = []
    for read in history.operations:
        if read.name not in ("GET", "DYN.GET") or not read.answered or read.error:
            continue
        values = read.reply[1] if read.name == "DYN.GET" else [] if read.reply is None else [read.reply]
        faults += [f"{value!r} was written by nobody: {read}" for value in values if not writes.of(read.args[1], value)]
    return faults


class Context:
    """A token, decoded; None covers nothing."""

    def __init__(self, key: bytes, token: bytes | None) -> None:
        self._clock = {} if token is None else dict(decode_context(key, token))

    def covers(self, dot: Dot) -> bool:
        """Whether the token's reader has seen the write."""
        return self._clock.get(dot[0], -1) >= dot[1]


def check_calm(history: History) -> list[str]:
    """In a cluster without faults, keys that one client alone writes, through any nodes: reads see its last write."""
    faults = []
    present: dict[bytes, bytes] = {}
    for operation in history.operations:
        name, key = operation.name, operation.args[1]
        expected: object = b"OK"
        if name == "GET":
            expected = present.get(key)
        elif name == "DEL":
            expected = int(present.pop(key, None) is not None)
        elif b"NX" in operation.args and key in present:
            expected = None
        else:
            present[key] = operation.args[2]
        if operation.reply != expected:
            faults.append(f"expected {expected!r}: {operation}")
    return faults
