"""A change: what an operator wants of the membership, in words that stay true whatever else has changed meanwhile.

Theory. A layout could be handed on as a document alone. But two of them may be made side by side, on two sides of a
partition, and then neither says what was wanted. So each layout carries the latest changes that made it, each under an
id of its own: whoever meets both makes the changes of one to the other (see succession.py).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from protocol.bounds import EPOCH_MAX, TIME_MS_MAX

JOIN, LEAVE, REMOVE, REPLACE = "join", "leave", "remove", "replace"
WEIGHT, ZONE, ADDRESS = "weight", "zone", "address"
TEXT_MAX = 512  # characters of a field
KIND_MAX = 64
KINDS = (JOIN, LEAVE, REMOVE, REPLACE, WEIGHT, ZONE, ADDRESS)


@dataclass(frozen=True)
class Change:
    """One change. `node` is the id of the member that it is about: the new one for a join, the old one for a replacement.

    `epoch` is that of the layout that it first made, 0 while it is only staged. The rest is what the kind needs; for a
    replacement `other` is the id of the new node, and `gone` says that the old one can give no data any more. A change of
    address carries in `weight` when it was made (see `moved_ms`): a field that earlier versions read and do not use there.
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
        """When a member has taken the address of this change, by its own wall clock: of two the later one is right. 0 if
        a version made the change that did not say so, and for changes of other kinds."""
        return self.weight if self.kind == ADDRESS else 0

    def encode(self) -> dict[str, Any]:
        """The fields that say something, for a JSON document."""
        values = ((name, getattr(self, name)) for name in _NAMES)
        return {name: value for name, value in values if value or name in ("id", "kind", "node")}

    @staticmethod
    def decode(fields: object) -> Change:
        """What `encode` made. Raises ValueError for anything else."""
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


def decode_known(fields: object) -> Change | None:
    """As `decode`; None for a change of a kind, or with fields, that only a newer version knows."""
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
