"""The layout: the versioned document that names the members and the owners of each partition.

Theory. Ownership is ordered, not gossiped. It is one immutable document with an epoch; of two documents the one with
the higher epoch rules (P9). A change makes a new document. So everything that follows from a layout (preference lists,
slot ranges, balance) is a pure function of it and is computed once. Nodes with the same epoch agree on all of it
without messages.

The document is canonical JSON (sorted keys, no spaces, ASCII) with an xxh3 checksum. So equal layouts are equal bytes.
If a newer version has added fields, to the document or to a member, this version keeps them. So an older node passes
the layout of a newer one on unchanged.

A `Layout` object is always valid. The constructor refuses anything else, with a sentence that says why.

While partitions move, the document has the future owners of each partition and, beside them, its `former` owners:

    phase       writes go to              reads go to         it ends when
    TRANSFER    owners and former ones    former owners       every new owner has fetched its data
    HANDOVER    owners and former ones    owners              every node knows of this phase
    SETTLED     owners                    owners              an operator commits the next change

Phases are `revision`s of the layout under the same epoch; only an operator's commit raises the epoch. succession.py has
the phases, membership/transfers.py moves the data.

Source: Amazon's Dynamo (SOSP 2007), sections 4.3 and 4.6 (preference list, sloppy quorum), 6.2 (strategy 3).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, TypeVar

from xxhash import xxh3_64_hexdigest

from protocol.json_documents import parse
from protocol.slots import SLOTS
from server.core.ring.change import Change
from server.core.ring.computation import Computation, compute_now
from server.core.ring.layout_faults import faults_of
from server.core.ring.layout_fields import HANDOVER, NO_FIELDS, SETTLED, TRANSFER, LayoutFields, Member
from server.core.ring.preference import Fallbacks

__all__ = ["HANDOVER", "NO_FIELDS", "SETTLED", "TRANSFER", "Layout", "LayoutError", "Member"]
DOCUMENT_BYTES_MAX = 64 << 20
NOTHING: list[Any] = []

Field = TypeVar("Field")


class LayoutError(ValueError):
    """The document is not a valid layout; the message is a sentence that says what is wrong."""


@dataclass(frozen=True)
class Layout(LayoutFields):
    """The layout of a cluster. The constructor raises LayoutError if its fields do not make a valid layout."""

    # Caches, filled at the first use. (mypyc computes a cached_property at every use.)
    _documents: list[bytes] = field(default_factory=list, init=False, repr=False, compare=False)
    _fallbacks: list[Fallbacks] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for fault in faults_of(self):
            raise LayoutError(fault)
        self._former.update(self.former)

    # --- the document

    def encode(self) -> bytes:
        """Returns the canonical document. Equal layouts give equal bytes."""
        if not self._documents:
            self._documents.append(self._encode())
        return self._documents[0]

    def _encode(self) -> bytes:
        fields: dict[str, Any] = json.loads(self.extra)
        for name in ("cluster", "epoch", "partitions", "n", "r", "w", "owners"):
            fields[name] = getattr(self, name)
        fields["members"] = [
            json.loads(member.extra)
            | {name: getattr(member, name) for name in ("id", "name", "address", "zone", "weight")}
            for member in self.members
        ]
        fields |= {name: value for name, value in self._change_fields() if value}
        return _canonical(fields | {"checksum": _checksum(fields)}).encode()

    def _change_fields(self) -> list[tuple[str, Any]]:
        """Returns the fields that describe changes; the document omits those that are empty."""
        return [
            ("revision", self.revision),
            ("progress", self.progress),
            ("phase", "" if self.phase == SETTLED else self.phase),
            ("former", self.former),
            ("leaving", self.leaving),
            ("log", [change.encode() for change in self.log]),
            ("merged_epoch", self.merged_epoch),
            ("written_w", self.written_w),
            ("former_numbers", self.former_numbers),
        ]

    @staticmethod
    def decode(document: bytes) -> Layout:
        """Returns the layout that `encode` has encoded. Raises LayoutError for anything else."""
        try:
            fields = _parse(document)
            layout = Layout(
                cluster=_pop_field(fields, "cluster", str),
                epoch=_pop_field(fields, "epoch", int),
                partitions=_pop_field(fields, "partitions", int),
                n=_pop_field(fields, "n", int),
                r=_pop_field(fields, "r", int),
                w=_pop_field(fields, "w", int),
                members=tuple(_member(entry) for entry in _pop_field(fields, "members", list)),
                owners=tuple(_owners(entry) for entry in _pop_field(fields, "owners", list)),
                revision=_pop_field_or(fields, "revision", 0),
                progress=_pop_field_or(fields, "progress", 0),
                phase=_pop_field_or(fields, "phase", SETTLED),
                former=tuple(_former(entry) for entry in _pop_field_or(fields, "former", NOTHING)),
                leaving=_owners(_pop_field_or(fields, "leaving", NOTHING)),
                log=tuple(_change(entry) for entry in _pop_field_or(fields, "log", NOTHING)),
                merged_epoch=_pop_field_or(fields, "merged_epoch", 0),
                written_w=_pop_field_or(fields, "written_w", 0),
                former_numbers=_numbers(_pop_field_or(fields, "former_numbers", NOTHING)),
                extra=_canonical(fields),
            )
            if layout.encode() != document:
                raise LayoutError("the layout is not in its canonical form (sorted keys, no spaces, each field once)")
        except RecursionError:
            raise LayoutError("the layout is nested too deeply") from None
        return layout

    def wins_over(self, other: Layout) -> bool:
        """Whether this layout rules over `other`: by epoch, then by revision, then by the greater document.

        Of two different layouts of one cluster exactly one wins, on every node. A layout of another cluster never wins.
        """
        if self.cluster != other.cluster:
            return False
        if self.version != other.version:
            return self.version > other.version
        return self.encode() > other.encode()

    @property
    def version(self) -> tuple[int, int]:
        """Epoch and revision. Layouts are ordered by them."""
        return self.epoch, self.revision

    # --- functions of the layout

    def partition_of(self, slot: int) -> int:
        """HOT. Returns the partition (0 to Q-1) of a slot (0 to 16383)."""
        return slot * self.partitions >> 14  # slot // (SLOTS // Q), exact because Q is a power of two

    def slot_range(self, partition: int) -> tuple[int, int]:
        """Returns the first and the last slot of `partition`."""
        width = SLOTS // self.partitions
        return partition * width, (partition + 1) * width - 1

    @property
    def fallbacks(self) -> Fallbacks:
        """The order of the fallbacks of each partition.

        Computed at the first use unless `prepared` has done it: 5 µs a partition with 9 members, 30 µs with 1,000.
        """
        if not self._fallbacks:
            compute_now(self.prepared())
        return self._fallbacks[0]

    @property
    def is_prepared(self) -> bool:
        """Whether the order of the fallbacks has been computed."""
        return bool(self._fallbacks)

    def prepared(self) -> Computation[None]:
        """Computes the order of the fallbacks, in steps, because that takes long."""
        if not self._fallbacks:
            fallbacks = Fallbacks(self)
            yield len(self.members)
            yield from fallbacks.compute(self)
            self._fallbacks[:] = [fallbacks]

    def preference_list(self, partition: int) -> tuple[str, ...]:
        """Returns the ids of the keepers of `partition` in order, then of its fallbacks in order."""
        keepers = self.keepers(partition)
        return keepers + tuple(self.fallbacks.order(partition, keepers))

    def owned(self) -> dict[str, int]:
        """Returns how many partitions each member owns, by id, in the members' order."""
        count = {member.id: 0 for member in self.members}
        for owners in self.owners:
            for owner in owners:
                count[owner] += 1
        return count

    def balance(self) -> float:
        """Returns the mean of partitions owned per weight, divided by the maximum.

        1.0 is perfect. At 0.5 some node owns twice its share.
        """
        owned = self.owned()
        mean = sum(owned.values()) / sum(member.weight for member in self.staying)
        return mean / max(owned[member.id] / member.weight for member in self.staying)


# --- reading and writing the document


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _checksum(fields: dict[str, Any]) -> str:
    return xxh3_64_hexdigest(_canonical(fields).encode())


def _parse(document: bytes) -> dict[str, Any]:
    """Returns the fields of the document without its checksum. Raises LayoutError if that is wrong."""
    try:
        fields = parse(document, DOCUMENT_BYTES_MAX)
        if type(fields) is not dict:
            raise LayoutError("the layout is not a JSON object")
        stated = fields.pop("checksum", None)
        actual = _checksum(fields)
    except LayoutError:
        raise
    except ValueError as error:
        raise LayoutError(f"the layout is not JSON: {error}") from None
    if stated != actual:
        raise LayoutError(f"the layout is damaged: its checksum is {stated!r}, that of its content {actual!r}")
    return fields


def _pop_field(fields: dict[str, Any], name: str, kind: type[Field], of: str = "layout") -> Field:
    """Removes a field and returns it. A bool is not accepted as an int."""
    if name not in fields:
        raise LayoutError(f"the {of} has no field {name!r}")
    value = fields.pop(name)
    if type(value) is not kind:
        raise LayoutError(f"the {of}'s field {name!r} is of type {type(value).__name__}, not {kind.__name__}")
    return value


def _pop_field_or(fields: dict[str, Any], name: str, default: Field) -> Field:
    """The same, for a field that may be missing."""
    return _pop_field(fields, name, type(default)) if name in fields else default


def _former(entry: object) -> tuple[int, tuple[str, ...]]:
    if not isinstance(entry, list) or len(entry) != 2 or type(entry[0]) is not int:
        raise LayoutError("the former owners of a partition are not a pair of partition and owners")
    return entry[0], _owners(entry[1])


def _numbers(entry: list[object]) -> tuple[int, ...]:
    if any(type(number) is not int for number in entry):
        raise LayoutError("the former numbers are not numbers")
    return tuple([number for number in entry if isinstance(number, int)])


def _change(entry: object) -> Change:
    try:
        return Change.decode(entry)
    except ValueError as error:
        raise LayoutError(str(error)) from None


def _member(entry: object) -> Member:
    if not isinstance(entry, dict):
        raise LayoutError("a member of the layout is not a JSON object")
    fields = dict(entry)
    return Member(
        id=_pop_field(fields, "id", str, "member"),
        name=_pop_field(fields, "name", str, "member"),
        address=_pop_field(fields, "address", str, "member"),
        zone=_pop_field(fields, "zone", str, "member"),
        weight=_pop_field(fields, "weight", int, "member"),
        extra=_canonical(fields),
    )


def _owners(entry: object) -> tuple[str, ...]:
    if not isinstance(entry, list) or not all(isinstance(owner, str) for owner in entry):
        raise LayoutError("the owners of a partition are not a list of member ids")
    return tuple(entry)
