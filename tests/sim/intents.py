"""What an operation of the history meant to write, what it had seen, and what its answer says became of it."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from protocol.tokens import decode_context
from tests.sim.clients import History, Operation
from tests.sim.evidence import Dot


class Fate(Enum):
    """What an answer says of a write."""

    ACKED = "acknowledged"
    REFUSED = "not written"
    UNKNOWN = "perhaps written"


class Intent(NamedTuple):
    """One write of one key. `context` is what a DYN command handed back; None: a plain command, which sees all there is."""

    operation: Operation
    key: bytes
    value: bytes | None  # None: a deletion
    context: dict[bytes, int] | None
    wanted: int  # W
    fate: Fate

    def may_supersede(self, dot: Dot) -> bool:
        """Whether its author has seen the write `dot`."""
        return self.context is None or self.context.get(dot[0], -1) >= dot[1]


def intents_of(history: History, layout_w: int, replicas: int) -> list[Intent]:
    """All writes that clients meant, in the order in which they asked for them."""
    return [intent for operation in history.operations for intent in _intents(operation, layout_w, replicas)]


def _intents(operation: Operation, layout_w: int, replicas: int) -> list[Intent]:
    args = operation.args
    wanted = min(operation.write_quorum or layout_w, replicas)
    fate = _fate(operation)
    if operation.name == "MSET":
        return [
            Intent(operation, key, value, None, wanted, fate) for key, value in zip(args[1::2], args[2::2], strict=True)
        ]
    if operation.name == "SET":
        return [Intent(operation, args[1], args[2], None, wanted, fate)]
    if operation.name == "DEL":
        return [Intent(operation, key, None, None, wanted, fate) for key in args[1:]]
    if operation.name in ("DYN.SET", "DYN.DEL"):
        value = args[2] if operation.name == "DYN.SET" else None
        rest = args[3:] if operation.name == "DYN.SET" else args[2:]
        chosen = dict(zip(rest[::2], rest[1::2], strict=True))
        context = dict(decode_context(args[1], chosen[b"CONTEXT"])) if b"CONTEXT" in chosen else {}
        wanted = min(int(chosen.get(b"W", wanted)), replicas)  # a smaller N takes a W of before for its own
        return [Intent(operation, args[1], value, context, wanted, fate)]
    return []


def _fate(operation: Operation) -> Fate:
    if not operation.answered or "outcome=maybe-written" in operation.error:
        return Fate.UNKNOWN
    if operation.error and len(operation.args) > 3 and operation.name in ("MSET", "DEL"):
        return Fate.UNKNOWN  # the error speaks of one of the keys
    if operation.error or operation.reply in (None, 0):  # SET NX of a key that is there; DEL of one that is not
        return Fate.REFUSED
    return Fate.ACKED
