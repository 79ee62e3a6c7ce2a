"""Checkers of answers: each command got exactly one, in order, in time (P5), and reads saw what they had to see."""

from __future__ import annotations

from protocol.tokens import BadContext, decode_context
from server.core.versions import VALUE
from tests.sim.checkers import Writes
from tests.sim.clients import History, Operation
from tests.sim.evidence import Dot, Evidence
from tests.sim.host import Host
from tests.sim.intents import Fate

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
        return reply is None or bytes(reply).startswith(operation.args[1] + b"=")
    if name == "SET":
        return reply is None if b"NX" in operation.args and reply is None else reply == b"OK"
    if name == "DEL":
        return type(reply) is int
    if name == "DYN.GET":
        token, values = reply
        own = all(value.startswith(operation.args[1] + b"=") for value in values)
        return own and (token is None or _is_context_of(operation.args[1], token))
    if name in ("DYN.SET", "DYN.DEL"):
        return _is_context_of(operation.args[1], reply[0])
    return type(reply) is list


def _is_context_of(key: bytes, token: bytes) -> bool:
    try:
        decode_context(key, token)
    except BadContext:
        return False
    return True


def check_in_time(history: History, hosts: list[Host], now_ms: int, limit_ms: int) -> list[str]:
    """P5: an answer by the deadline, counted from when the command's turn came on its connection; while the node lives."""
    faults = []
    by_id = {host.id: host for host in hosts}
    turn_came: dict[tuple[str, int], int] = {}
    stuck: list[tuple[str, int]] = []
    for operation in history.operations:
        connection = (operation.client, operation.connection)
        host = by_id[operation.host]
        begin_ms = max(operation.invoked_ms, turn_came.get(connection, 0))
        end_ms = operation.answered_ms if operation.answered else min(now_ms, host.died_ms(operation.life))
        if connection not in stuck and _awake_ms(host, begin_ms, end_ms) > limit_ms:
            faults.append(f"{'late' if operation.answered else 'no'} answer: {operation}")
        turn_came[connection] = end_ms
        if not operation.answered:
            stuck.append(connection)
    return faults


def _awake_ms(host: Host, begin_ms: int, end_ms: int) -> int:
    awake_ms = end_ms - begin_ms
    for from_ms, to_ms in host.freezes:
        if from_ms < end_ms and to_ms + THAW_GRACE_MS > begin_ms:
            awake_ms -= min(end_ms, to_ms + THAW_GRACE_MS) - max(begin_ms, from_ms)
    return awake_ms


def check_contexts(history: History, evidence: Evidence, writes: Writes) -> list[str]:
    """P3: a context covers only what was shown, or was superseded by something that it covers too."""
    faults = []
    for operation in history.operations:
        if operation.name != "DYN.GET" or not operation.answered or operation.error or operation.reply[0] is None:
            continue
        key, (token, values) = operation.args[1], operation.reply
        context = Context(key, token)
        # Overwritten within the turn of the read: on no disk, so it is not among the superseders.
        unborn = [
            intent
            for intent in writes.of_key(key)
            if _overlap(intent.operation, operation) and (intent.value is None or not writes.dots(intent))
        ]
        for dot, birth in evidence.births.get(key, {}).items():
            version = birth.known.siblings[dot]
            if version.kind != VALUE or version.value in values or not context.covers(dot):
                continue
            superseded = any(context.covers(later) for later in writes.superseders(key, dot))
            if not superseded and not any(intent.may_supersede(dot) for intent in unborn):
                faults.append(f"the context covers {version.value!r}, which it does not show: {operation}")
    return faults


def _overlap(one: Operation, other: Operation) -> bool:
    return all(
        before.invoked_step <= after.answered_step or not after.answered
        for before, after in ((one, other), (other, one))
    )


def check_quorum_reads(history: History, writes: Writes, r: int, replicas: int) -> list[str]:
    """R + W > N: what was acknowledged before a read began is known to its answer."""
    faults = []
    for read in history.operations:
        if read.name != "DYN.GET" or not read.answered or read.error:
            continue
        wanted = int(read.args[3]) if len(read.args) > 3 else read.read_quorum or r
        key, token = read.args[1], read.reply[0]
        context = Context(key, token)
        for intent in writes.of_key(key):
            before = intent.fate is Fate.ACKED and intent.operation.answered_step < read.invoked_step
            if not before or wanted + intent.wanted <= replicas:
                continue
            dots = writes.dots(intent)
            if dots and not any(context.covers(dot) for dot in dots):
                faults.append(f"{read} has not seen {intent.operation}")
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
