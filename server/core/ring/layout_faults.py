"""Validates a layout: returns each fault of it as a sentence.

Theory. A layout document comes from another node, from a disk, or from an older version of this program. All its faults
are found here, once, when it becomes a `Layout`. So no other code has to check whether an owner is a member.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import AddressValueError, IPv6Address

from protocol.bounds import EPOCH_MAX, NODE_ID_BYTES_MAX, WEIGHT_MAX, is_node_id
from protocol.slots import SLOTS
from server.core.ring.layout_fields import LayoutFields, Member

PORT_MAX = 65535
NAME_CHARACTERS_MAX = 128


def faults_of(layout: LayoutFields) -> Iterator[str]:
    """Yields the faults of a layout; none if it is valid. The later ones may only follow from the first."""
    if not _is_word(layout.cluster):
        yield f"the cluster's id {layout.cluster!r} is not a printable word"
    if not 0 <= layout.epoch <= EPOCH_MAX:
        yield f"the epoch {layout.epoch} is not from 0 to {EPOCH_MAX}"
    if not 1 <= layout.partitions <= SLOTS or layout.partitions & (layout.partitions - 1):
        yield f"the number of partitions {layout.partitions} is not a power of two from 1 to {SLOTS}"
    if layout.n < 1:
        yield f"n is {layout.n}, but a partition needs at least one owner"
    if layout.n > SLOTS:
        yield f"n is {layout.n}, more than {SLOTS}"
    for name, quorum in (("r", layout.r), ("w", layout.w)):
        if not 1 <= quorum <= layout.n:
            yield f"{name} is {quorum}, not from 1 to n, which is {layout.n}"
    if layout.written_w and not 1 <= layout.written_w < layout.w:
        yield f"written_w is {layout.written_w}, not from 1 to less than w, which is {layout.w}"
    yield from _number_faults(layout.former_numbers)
    for name, count in (
        ("revision", layout.revision),
        ("progress", layout.progress),
        ("merged_epoch", layout.merged_epoch),
    ):
        if not 0 <= count <= EPOCH_MAX:
            yield f"the {name} {count} is not from 0 to {EPOCH_MAX}"
    yield from member_faults(layout.members)
    yield from _owner_faults(layout)
    yield from _change_faults(layout)


def _number_faults(numbers: tuple[int, ...]) -> Iterator[str]:
    """Yields the faults of the former N, R, W and `written_w`."""
    if not numbers:
        return
    if len(numbers) != 4 or not 1 <= numbers[0] <= SLOTS:
        yield f"the former numbers are {list(numbers)}, not n, r, w and written_w"
        return
    n, r, w, written_w = numbers
    if not (1 <= r <= n and 1 <= w <= n and 0 <= written_w < w):
        yield f"the former numbers n={n}, r={r}, w={w}, written_w={written_w} do not go together"


def member_faults(members: Sequence[Member]) -> Iterator[str]:
    """Yields the faults in the list of members alone."""
    if not members:
        yield "the layout has no members"
    for member in members:
        for what, word in (("id", member.id), ("name", member.name)):
            if not _is_word(word):
                yield f"the {what} {word!r} of a member is not a printable word"
        if member.zone and not _is_word(member.zone):
            yield f"the zone {member.zone!r} of member {member.name} is not a printable word"
        if not is_address(member.address):
            yield f"the address {member.address!r} of member {member.name} is not host:port"
        if member.weight < 1:
            yield f"the weight {member.weight} of member {member.name} is not positive"
        if member.weight > WEIGHT_MAX:
            yield f"the weight {member.weight} of member {member.name} is more than {WEIGHT_MAX}"
    for what, words in (
        ("id", [member.id for member in members]),
        ("name", [member.name for member in members]),
        ("address", [member.address for member in members]),
    ):
        if len(set(words)) < len(words):
            for word in words:
                if words.count(word) > 1:
                    yield f"two members have the {what} {word!r}"
    if [member.id for member in members] != sorted(member.id for member in members):
        yield "the members are not sorted by id"


def name_faults(node_id: str, name: str) -> Iterator[str]:
    """Yields the faults in the id and the name of a node that is about to become a member.

    An existing layout may have longer ones, which earlier versions accepted. It stays valid; else its nodes could not
    start.
    """
    if not is_node_id(node_id):
        yield (
            f"the id of a node is 1 to {NODE_ID_BYTES_MAX} printable ASCII characters without blanks, not "
            f"{_shown(node_id)}"
        )
    if not _is_word(name) or len(name) > NAME_CHARACTERS_MAX:
        yield (
            f"the name of a node is 1 to {NAME_CHARACTERS_MAX} printable characters without blanks, not {_shown(name)}"
        )


def _shown(text: str) -> str:
    return repr(text) if len(text) <= NAME_CHARACTERS_MAX else f"one of {len(text)}"


def _owner_faults(layout: LayoutFields) -> Iterator[str]:
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


def _change_faults(layout: LayoutFields) -> Iterator[str]:
    """Yields the faults in the fields that describe a change in progress."""
    known = {member.id for member in layout.members}
    if layout.phase not in ("settled", "transfer", "handover"):
        yield f"the phase {layout.phase!r} is none"
    if (layout.phase == "settled") != (not layout.former):
        yield f"the phase is {layout.phase}, and {len(layout.former)} partitions have former owners"
    partitions = [partition for partition, _ in layout.former]
    if partitions != sorted(set(partitions)) or any(not 0 <= partition < layout.partitions for partition in partitions):
        yield "the partitions with former owners are not partitions in ascending order"
    for partition, owners in layout.former:
        if not owners or len(set(owners)) != len(owners) or not known.issuperset(owners):
            yield f"the former owners of partition {partition} are none, or not distinct members"
    if list(layout.leaving) != sorted(set(layout.leaving)) or not known.issuperset(layout.leaving):
        yield "those who leave are not distinct members, sorted by id"
    if layout.members and len(layout.leaving) == len(layout.members):
        yield "no member stays"
    leaving = frozenset(layout.leaving)
    for partition, row in enumerate(layout.owners):
        if not leaving.isdisjoint(row):
            yield f"partition {partition} is owned by a member that leaves"


def _is_word(text: str) -> bool:
    """Whether a text is not empty, printable and without blanks, so that CLUSTER NODES and shells can use it."""
    return text != "" and text.isprintable() and " " not in text


def is_address(text: str) -> bool:
    """Whether a text is host:port, with an IPv6 host in brackets."""
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
