"""The layout: the versioned document that says who the members are and which of them own each partition.

Theory. Ownership is ordered, not gossiped: one immutable document with an epoch, and of two the higher epoch rules
(P9). A change makes a new document; nothing is edited. So all that follows from a layout (preference lists, slot
ranges, balance) is a pure function of it, computed once, and nodes at the same epoch agree on everything without a
word between them.

The document is canonical JSON (sorted keys, no spaces, ASCII) with an xxh3 checksum over the rest: equal layouts are
equal bytes, and each layout has one form only. Fields that this version does not know are kept, on the document and on
each member, so that an older node hands a newer one's layout on unchanged.

A `Layout` that exists is valid: the constructor refuses any other, with a sentence that says why.

Source: Amazon's Dynamo (SOSP 2007), sections 4.3 and 4.6 (preference list, sloppy quorum), 6.2 (strategy 3).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv6Address
from typing import Any, TypeVar

from xxhash import xxh3_64_hexdigest

from protocol.slots import SLOTS

PORT_MAX = 65535
NO_FIELDS = "{}"

Field = TypeVar("Field")


class LayoutError(ValueError):
    """The document is no valid layout; the message is a sentence that says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Member:
    """One node. `address` is "host:port" (IPv6: "[host]:port"); the empty zone is a zone like the others."""

    id: str
    name: str
    address: str
    zone: str
    weight: int
    extra: str = field(default=NO_FIELDS, repr=False)  # canonical JSON: the fields that this version does not know


@dataclass(frozen=True)
class Layout:
    """`members` are sorted by id; `owners[p]` are the ids of partition p's owners in order, min(n, members) of them.

    Raises LayoutError when the parts do not make a valid layout.
    """

    cluster: str
    epoch: int
    partitions: int
    n: int
    r: int
    w: int
    members: tuple[Member, ...]
    owners: tuple[tuple[str, ...], ...]
    extra: str = field(default=NO_FIELDS, repr=False)  # canonical JSON: the fields that this version does not know
    # Both empty until the first use. (Compiled, a cached_property is computed at every use.)
    _documents: list[bytes] = field(default_factory=list, init=False, repr=False, compare=False)
    _lists: list[tuple[tuple[str, ...], ...]] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for fault in _faults(self):
            raise LayoutError(fault)

    # --- the document

    def encode(self) -> bytes:
        """The canonical document. Equal layouts give equal bytes."""
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
        return _canonical(fields | {"checksum": _checksum(fields)}).encode()

    @staticmethod
    def decode(document: bytes) -> Layout:
        """The layout that `encode` made `document` of. Raises LayoutError for anything else."""
        try:
            fields = _parse(document)
            layout = Layout(
                cluster=_take(fields, "cluster", str),
                epoch=_take(fields, "epoch", int),
                partitions=_take(fields, "partitions", int),
                n=_take(fields, "n", int),
                r=_take(fields, "r", int),
                w=_take(fields, "w", int),
                members=tuple(_member(entry) for entry in _take(fields, "members", list)),
                owners=tuple(_owners(entry) for entry in _take(fields, "owners", list)),
                extra=_canonical(fields),
            )
            if layout.encode() != document:
                raise LayoutError("the layout is not in its canonical form (sorted keys, no spaces, each field once)")
        except RecursionError:
            raise LayoutError("the layout is nested too deeply") from None
        return layout

    def wins_over(self, other: Layout) -> bool:
        """Whether this layout rules where both are known: by epoch, then by the greater document.

        Of two different layouts of a cluster exactly one wins, whoever asks. One of another cluster never does.
        """
        if self.cluster != other.cluster:
            return False
        if self.epoch != other.epoch:
            return self.epoch > other.epoch
        return self.encode() > other.encode()

    # --- what follows from it

    @property
    def effective_n(self) -> int:
        """N, cut to the number of members."""
        return min(self.n, len(self.members))

    @property
    def effective_r(self) -> int:
        """R, cut to the number of members."""
        return min(self.r, len(self.members))

    @property
    def effective_w(self) -> int:
        """W, cut to the number of members."""
        return min(self.w, len(self.members))

    def partition_of(self, slot: int) -> int:
        """HOT. The partition (0 to Q-1) that `slot` (0 to 16383) lies in."""
        return slot * self.partitions >> 14  # slot // (SLOTS // Q), exact because Q is a power of two

    def slot_range(self, partition: int) -> tuple[int, int]:
        """The first and the last slot of `partition`."""
        width = SLOTS // self.partitions
        return partition * width, (partition + 1) * width - 1

    @property
    def preference_lists(self) -> tuple[tuple[str, ...], ...]:
        """For every partition the ids of all members: its owners in order, then its fallbacks in order.

        Computed at the first use: with nine members 1 ms at Q=128, 0.2 s at Q=16384.
        """
        if not self._lists:
            self._lists.append(_preference_lists(self))
        return self._lists[0]

    def preference_list(self, partition: int) -> tuple[str, ...]:
        """HOT. The ids of all members: the owners of `partition` in order, then its fallbacks in order."""
        return self.preference_lists[partition]

    def owned(self) -> dict[str, int]:
        """How many partitions each member owns, by id, in the members' order."""
        count = {member.id: 0 for member in self.members}
        for owners in self.owners:
            for owner in owners:
                count[owner] += 1
        return count

    def balance(self) -> float:
        """Mean over max of owned partitions by weight: 1.0 is perfect, at 0.5 some node owns twice its share."""
        owned = self.owned()
        mean = sum(owned.values()) / sum(member.weight for member in self.members)
        return mean / max(owned[member.id] / member.weight for member in self.members)


# --- reading and writing the document


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _checksum(fields: dict[str, Any]) -> str:
    return xxh3_64_hexdigest(_canonical(fields).encode())


def _parse(document: bytes) -> dict[str, Any]:
    """The fields of the document but its checksum, which holds."""
    try:
        fields = json.loads(document)
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


def _take(fields: dict[str, Any], name: str, kind: type[Field], of: str = "layout") -> Field:
    """Removes the field and returns it. bool is not taken for int."""
    if name not in fields:
        raise LayoutError(f"the {of} has no field {name!r}")
    value = fields.pop(name)
    if type(value) is not kind:
        raise LayoutError(f"the {of}'s field {name!r} is of type {type(value).__name__}, not {kind.__name__}")
    return value


def _member(entry: object) -> Member:
    if not isinstance(entry, dict):
        raise LayoutError("a member of the layout is not a JSON object")
    fields = dict(entry)
    return Member(
        id=_take(fields, "id", str, "member"),
        name=_take(fields, "name", str, "member"),
        address=_take(fields, "address", str, "member"),
        zone=_take(fields, "zone", str, "member"),
        weight=_take(fields, "weight", int, "member"),
        extra=_canonical(fields),
    )


def _owners(entry: object) -> tuple[str, ...]:
    if not isinstance(entry, list) or not all(isinstance(owner, str) for owner in entry):
        raise LayoutError("the owners of a partition are not a list of member ids")
    return tuple(entry)


# --- what makes a layout valid


def _faults(layout: Layout) -> Iterator[str]:
    """What is wrong with the layout, a sentence each; none when it is valid. Only the first is sure to make sense."""
    if not _is_word(layout.cluster):
        yield f"the cluster's id {layout.cluster!r} is not a printable word"
    if layout.epoch < 0:
        yield f"the epoch {layout.epoch} is negative"
    if not 1 <= layout.partitions <= SLOTS or layout.partitions & (layout.partitions - 1):
        yield f"the number of partitions {layout.partitions} is not a power of two from 1 to {SLOTS}"
    if layout.n < 1:
        yield f"n is {layout.n}, but a partition needs at least one owner"
    for name, quorum in (("r", layout.r), ("w", layout.w)):
        if not 1 <= quorum <= layout.n:
            yield f"{name} is {quorum}, not from 1 to n, which is {layout.n}"
    yield from _member_faults(layout.members)
    yield from _owner_faults(layout)


def _member_faults(members: Sequence[Member]) -> Iterator[str]:
    if not members:
        yield "the layout has no members"
    for member in members:
        for what, word in (("id", member.id), ("name", member.name)):
            if not _is_word(word):
                yield f"the {what} {word!r} of a member is not a printable word"
        if member.zone and not _is_word(member.zone):
            yield f"the zone {member.zone!r} of member {member.name} is not a printable word"
        if not _is_address(member.address):
            yield f"the address {member.address!r} of member {member.name} is not host:port"
        if member.weight < 1:
            yield f"the weight {member.weight} of member {member.name} is not positive"
    for what, words in (
        ("id", [member.id for member in members]),
        ("name", [member.name for member in members]),
        ("address", [member.address for member in members]),
    ):
        for word in words:
            if words.count(word) > 1:
                yield f"two members have the {what} {word!r}"
    if [member.id for member in members] != sorted(member.id for member in members):
        yield "the members are not sorted by id"


def _owner_faults(layout: Layout) -> Iterator[str]:
    known = {member.id for member in layout.members}
    if len(layout.owners) != layout.partitions:
        yield f"the layout names owners for {len(layout.owners)} partitions, not for {layout.partitions}"
    for partition, owners in enumerate(layout.owners):
        if len(owners) != layout.effective_n:
            yield f"partition {partition} has {len(owners)} owners, not {layout.effective_n}"
        if len(set(owners)) != len(owners):
            yield f"partition {partition} names an owner twice"
        for owner in owners:
            if owner not in known:
                yield f"partition {partition} is owned by {owner!r}, who is no member"


def _is_word(text: str) -> bool:
    """Not empty, printable, no blanks: fit for a line of CLUSTER NODES and for a shell."""
    return text != "" and text.isprintable() and " " not in text


def _is_address(text: str) -> bool:
    host, colon, port = text.rpartition(":")
    if not colon or not (
        port.isascii() and port.isdigit() and len(port) <= 5 and port[0] != "0" and int(port) <= PORT_MAX
    ):
        return False
    if host.startswith("[") and host.endswith("]"):
        try:
            IPv6Address(host[1:-1])
        except AddressValueError:
            return False
        return True
    return _is_word(host) and not any(mark in host for mark in ":[]")


# --- preference lists


def _preference_lists(layout: Layout) -> tuple[tuple[str, ...], ...]:
    """For each partition its owners, then the others as a ring by id, entered at the member that so far stands in least
    for these owners (by weight): so the partitions of a failed node fall back on all others alike. A member whose zone
    stands in the list less often goes first: so any beginning of the list is spread over the zones as it can be.
    """
    members = layout.members
    place = {member.id: index for index, member in enumerate(members)}
    zones = sorted({member.zone for member in members})
    zone_of = [zones.index(member.zone) for member in members]
    stands_in = [[0] * len(members) for _ in members]  # [owner][other]: partitions with other as the first fallback
    lists = []
    for owners in layout.owners:
        nodes = [place[owner] for owner in owners]
        others = [node for node in range(len(members)) if node not in nodes]
        if others:
            used = [0] * len(zones)
            for node in nodes:
                used[zone_of[node]] += 1
            loads = [stands_in[node] for node in nodes]
            costs = [(used[zone_of[o]], sum(load[o] for load in loads) / members[o].weight) for o in others]
            start = costs.index(min(costs))
            for load in loads:
                load[others[start]] += 1
            others = _by_zone(others[start:] + others[:start], zone_of, used)
        lists.append(owners + tuple(members[node].id for node in others))
    return tuple(lists)


def _by_zone(nodes: list[int], zone_of: list[int], used: list[int]) -> list[int]:
    """The nodes in order, but first those whose zone comes before them least often. `used`, changed: times so far."""
    ranks = []
    for node in nodes:
        ranks.append(used[zone_of[node]])
        used[zone_of[node]] += 1
    return [node for _, node in sorted(zip(ranks, nodes, strict=True), key=lambda pair: pair[0])]
