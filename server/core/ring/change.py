"""A change of the membership, as an operator wants it, in terms that stay valid whatever else has changed meanwhile.

Theory. A layout alone says who owns what, but not what an operator wanted. Two layouts may be made at the same time on
two sides of a network partition. To merge them, a node must know what the operators wanted. So each layout carries a log
of the latest changes that made it, each with an id of its own. A node that receives the second layout applies its changes
to the first one (succession.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from protocol.bounds import EPOCH_MAX, TIME_MS_MAX

JOIN, LEAVE, REMOVE, REPLACE = "join", "leave", "remove", "replace"
WEIGHT, ZONE, ADDRESS = "weight", "zone", "address"
READ_QUORUM, WRITE_QUORUM = "read_quorum", "write_quorum"
REPLICA_COUNT = "replica_count"
QUORUMS = (READ_QUORUM, WRITE_QUORUM)
NUMBERS = (REPLICA_COUNT, *QUORUMS)
TEXT_MAX = 512  # characters in a field
KIND_MAX = 64
KINDS = (JOIN, LEAVE, REMOVE, REPLACE, WEIGHT, ZONE, ADDRESS, *NUMBERS)


@dataclass(frozen=True)
class Change:
    """One change. Which fields are used depends on `kind`.

    node      the id of the member that changes: the new one for a join, the old one for a replacement; empty for N, R, W
    epoch     the epoch of the first layout with this change; 0 while it is only staged
    other     for a replacement: the id of the new node
    gone      for a replacement: the old node can give no data any more
    weight    for a change of address: when it was made (`moved_ms`); for N, R and W: the number. So earlier versions can
              read a log with such changes, and ignore them.
    """

    id: str
    kind: str
    node: str
    epoch: int = 0
    name: str = ""
    address: str = ""
    zone: str = ""
    weight: int = 0
    other: str = ""
    gone: bool = False

    @property
    def moved_ms(self) -> int:
        """When the member took the new address, by its own wall clock. Of two such changes the later one is right.

        0 for other kinds, and for changes made by earlier versions.
        """
        return self.weight if self.kind == ADDRESS else 0

    @property
    def newcomer(self) -> str:
        """The id of the node that becomes a member; empty for other kinds."""
        return self.node if self.kind == JOIN else self.other if self.kind == REPLACE else ""

    @property
    def quorum(self) -> int:
        """The R or W that the cluster gets; 0 for other kinds."""
        return self.weight if self.kind in QUORUMS else 0

    @property
    def copies(self) -> int:
        """The N that the cluster gets; 0 for other kinds."""
        return self.weight if self.kind == REPLICA_COUNT else 0

    def encode(self) -> dict[str, Any]:
        """Returns the fields that are not empty, for a JSON document."""
        values = ((name, getattr(self, name)) for name in _NAMES)
        return {name: value for name, value in values if value or name in ("id", "kind", "node")}

    @staticmethod
    def decode(fields: object) -> Change:
        """Returns the change that `encode` has encoded. Raises ValueError for anything else."""
        if not isinstance(fields, dict):
            raise ValueError("a change is not a JSON object")
        change = Change(
            id=_field(fields, "id", str),
            kind=_field(fields, "kind", str),
            node=_field(fields, "node", str),
            epoch=_field(fields, "epoch", int, 0),
            name=_field(fields, "name", str, ""),
            address=_field(fields, "address", str, ""),
            zone=_field(fields, "zone", str, ""),
            weight=_field(fields, "weight", int, 0),
            other=_field(fields, "other", str, ""),
            gone=_field(fields, "gone", bool, False),
        )
        if change.encode() != fields:
            raise ValueError(f"the change {change.id!r} has fields of no meaning, or not in their one form")
        if not (0 <= change.epoch <= EPOCH_MAX and 0 <= change.weight <= TIME_MS_MAX):
            raise ValueError(f"the change {change.id!r} has a number out of range")
        return change


def without_superseded(changes: Sequence[Change]) -> list[Change]:
    """The changes that have an effect: of those that set the same thing, the last one. R = 3 and then R = 2 are R = 2."""
    last = {_set_by(change): change.id for change in changes}
    return [change for change in changes if last[_set_by(change)] == change.id]


def _set_by(change: Change) -> tuple[str, str]:
    """What a change sets: the kind and the node, or the change itself if it is not about one value."""
    return (change.kind, change.node) if change.kind in (WEIGHT, ZONE, *NUMBERS) else (change.id, "")


def decode_known(fields: object) -> Change | None:
    """The same as `decode`, but returns None for a kind or field that only a newer version knows."""
    if not isinstance(fields, dict):
        raise ValueError("a change is not a JSON object")
    kind = _field(fields, "kind", str)
    is_newer = kind not in KINDS or not set(_NAMES).issuperset(fields)
    return None if is_newer and 0 < len(kind) <= KIND_MAX else Change.decode(fields)


_NAMES = tuple(field.name for field in dataclasses.fields(Change))


def _field(fields: dict[str, Any], name: str, kind: type, default: Any = None) -> Any:
    value = fields.get(name, default)
    if type(value) is str and len(value) > TEXT_MAX:
        raise ValueError(f"a change's field {name!r} is {len(value)} characters long")
    if type(value) is not kind:
        raise ValueError(f"a change's field {name!r} is {value!r}, not of type {kind.__name__}")
    return value
