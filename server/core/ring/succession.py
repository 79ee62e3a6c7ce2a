"""Which layout follows which: an operator's commit, and the phases of a change (P9).

Theory. A commit makes the layout of the next epoch from the present layout and some changes. It names the future owners
of each partition at once. If a partition gets a new owner, its present *readers*, which hold the whole partition, stay
in the layout as its `former` owners. Then the change goes through its phases:

    TRANSFER   writes go to both, reads to the former owners;       until every new owner has all of its data
               the new owners fetch the data
    HANDOVER   writes go to both, reads to the new owners           until every node reads there
    SETTLED    the former owners delete their data (cleanup.py)     until the next commit

A leaving member goes when it holds no data any more that the owners lack.

A commit in the middle of a change starts from the nodes that hold the data now. Its former owners are the readers of
that moment. A node that was to become an owner, and is none by the new commit, has never served a read. So commits may
follow each other at any time.

Two layouts that were made at the same time are merged: merging.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from xxhash import xxh3_64_hexdigest

from server.core.ring import replica_change
from server.core.ring.addresses import unknown_address
from server.core.ring.change import (
    ADDRESS,
    JOIN,
    LEAVE,
    NUMBERS,
    READ_QUORUM,
    REMOVE,
    REPLACE,
    REPLICA_COUNT,
    WEIGHT,
    ZONE,
    Change,
)  # fmt: skip
from server.core.ring.computation import Computation, compute_now
from server.core.ring.layout import HANDOVER, SETTLED, TRANSFER, Layout, LayoutError, Member
from server.core.ring.layout_faults import member_faults
from server.core.ring.quorum_change import fault_of, written_w_after
from server.core.ring.reassignment import Owners, check_replacements, following_owners

LOG_MAX = 64
REPLACE_UNITS = 3  # units of work (computation.py) for each partition, to make a layout and to validate it


class ChangeError(ValueError):
    """The change cannot be made to that layout; the message is a sentence that says why."""


def commit(present: Layout, changes: Sequence[Change]) -> Layout:
    """Returns the layout of the next epoch, with all changes made. Raises ChangeError if one cannot be made."""
    return compute_now(committed(present, changes))


def committed(present: Layout, changes: Sequence[Change]) -> Computation[Layout]:
    """The same as `commit`, as a computation in steps."""
    epoch = present.epoch + 1
    draft = drafted(present, changes)
    members = draft.sorted_members()
    leaving = tuple(sorted(draft.leaving))
    try:
        owners = yield from following_owners(present, draft.staying(), draft.replaced, draft.n)
    except ValueError as error:
        raise ChangeError(str(error)) from error
    yield present.partitions
    holding = _holding(present, draft.members)
    changes_n = replica_change.changes_n(present, draft.n) or replica_change.are_fewer(owners, holding)
    former = _former(holding, owners, changes_n)
    yield REPLACE_UNITS * present.partitions
    log = (*present.log, *(replace(change, epoch=epoch) for change in changes))[-LOG_MAX:]
    try:
        return replace(
            present,
            epoch=epoch,
            revision=0,
            members=members,
            owners=owners,
            phase=TRANSFER if former else SETTLED,
            former=former,
            leaving=leaving,
            log=log,
            n=draft.n,
            r=draft.r,
            w=draft.w,
            written_w=0 if changes_n else written_w_after(present, draft.w),
            former_numbers=present.numbers if changes_n and former else (),
        )
    except LayoutError as error:
        raise ChangeError(str(error)) from error


def check(present: Layout, changes: Sequence[Change]) -> None:
    """Raises ChangeError if `commit` would, but computes no owners (that takes a third of a second at Q=1024)."""
    draft = drafted(present, changes)
    for fault in member_faults(draft.sorted_members()):
        raise ChangeError(fault)
    try:
        check_replacements(present, draft.replaced)
    except ValueError as error:
        raise ChangeError(str(error)) from error


def drafted(present: Layout, changes: Sequence[Change]) -> Draft:
    """Returns the members and the numbers of the layout that these changes make. Raises ChangeError."""
    draft = Draft(present)
    for change in changes:
        draft.apply(change)
    if not draft.staying():
        raise ChangeError("no node would be left: a cluster needs at least one")
    if replica_change.changes_n(present, draft.n):
        fault = replica_change.fault_of(present, draft.n, draft.r, draft.w, len(draft.staying()))
    else:
        fault = fault_of(present, draft.r, draft.w)
    if fault:
        raise ChangeError(fault)
    return draft


class Draft:
    """The members of a layout, and its N, R and W, while changes are applied to them."""

    def __init__(self, present: Layout) -> None:
        self.members = {member.id: member for member in present.members}
        self._present = dict(self.members)
        self.leaving = dict.fromkeys(present.leaving)
        self.replaced: dict[str, str] = {}
        self.n, self.r, self.w = present.n, present.r, present.w

    def staying(self) -> list[Member]:
        """Returns the members that will own partitions."""
        return [member for member in self.members.values() if member.id not in self.leaving]

    def sorted_members(self) -> tuple[Member, ...]:
        """Returns all members, sorted by id as in a layout."""
        return tuple(sorted(self.members.values(), key=lambda member: member.id))

    def apply(self, change: Change) -> None:
        """Applies one change. Raises ChangeError."""
        if change.kind == JOIN:
            self._add(Member(change.node, change.name, change.address, change.zone, change.weight))
            return
        if change.kind in NUMBERS:
            self._set_number(change)
            return
        member = self.members.get(change.node)
        if member is None:
            raise ChangeError(f"no member of the cluster has the id {change.node}")
        if change.kind == REMOVE:
            del self.members[member.id]
            self.leaving.pop(member.id, None)
        elif member.id in self.leaving and change.kind != ADDRESS:
            raise ChangeError(f"node {member.name} is leaving already")
        elif change.kind == LEAVE:
            self.leaving[member.id] = None
        elif change.kind == REPLACE:
            self._replace(member, change)
        elif change.kind == WEIGHT:
            if change.weight < 1:
                raise ChangeError(f"the weight {change.weight} of node {member.name} is not positive")
            self.members[member.id] = replace(member, weight=change.weight)
        elif change.kind == ZONE:
            self.members[member.id] = replace(member, zone=change.zone)
        elif change.kind == ADDRESS:
            self.members[member.id] = replace(member, address=change.address)
        else:
            raise ChangeError(f"the change {change.kind!r} is not known to this version")

    def _set_number(self, change: Change) -> None:
        if change.kind == REPLICA_COUNT:
            self.n = change.copies
        elif change.kind == READ_QUORUM:
            self.r = change.quorum
        else:
            self.w = change.quorum

    def _add(self, new: Member) -> None:
        for member in self.members.values():
            if member.id == new.id:
                raise ChangeError(f"node {member.name} is a member already")
            if member.name == new.name:
                raise ChangeError(
                    f"there is a node {new.name} already, at {member.address}: give the new one another name"
                )
            if member.address == new.address:
                raise ChangeError(f"node {member.name} has the address {new.address} already")
        if new.weight < 1:
            raise ChangeError(f"the weight {new.weight} of node {new.name} is not positive")
        self.members[new.id] = new

    def _replace(self, old: Member, change: Change) -> None:
        new = self.members.get(change.other)
        if new is None:
            self._add(Member(change.other, change.name, change.address, change.zone, change.weight))
        elif new.id in self._present or new.id in self.replaced.values():
            raise ChangeError(f"node {new.name} has a place already: a replacement is a node that has none")
        if old.id not in self._present:  # the old node is new in this same commit, perhaps as a replacement itself
            del self.members[old.id]
            for gone in [gone for gone, other in self.replaced.items() if other == old.id]:
                self.replaced[gone] = change.other
            return
        self.replaced[old.id] = change.other
        if change.gone:
            del self.members[old.id]
        else:
            self.leaving[old.id] = None


def _holding(present: Layout, members: dict[str, Member]) -> Owners:
    """Returns those readers of each partition that are still members: they hold all of it."""
    return tuple(
        [tuple([node for node in present.readers(each) if node in members]) for each in range(present.partitions)]
    )


def _former(holding: Owners, owners: Owners, changes_n: bool) -> tuple[tuple[int, tuple[str, ...]], ...]:
    """Returns the former owners of each partition whose owners change.

    If N changes, that is each partition, because the numbers change with it.

    If no reader is left, the partition has no former owners, and its new owners begin without data.
    """
    rows = []
    for partition, (former, row) in enumerate(zip(holding, owners, strict=True)):
        moves = any(node not in row for node in former) or any(node not in former for node in row)
        if former and (moves or changes_n):
            rows.append((partition, former))
    return tuple(rows)


# --- the phases of a change, each a revision


def hand_over(layout: Layout) -> Layout:
    """Returns the layout in phase HANDOVER. Every new owner has its data, so reads go to the owners from now on."""
    assert layout.phase == TRANSFER, "only TRANSFER is followed by HANDOVER"
    return _revised(layout, phase=HANDOVER)


def settle(layout: Layout) -> Layout:
    """Returns the layout in phase SETTLED. Every node reads from the owners, so the former owners get no more writes."""
    assert layout.phase == HANDOVER, "only HANDOVER is followed by SETTLED"
    return _revised(layout, phase=SETTLED, former=(), former_numbers=())


def release(layout: Layout, gone: Sequence[str]) -> Layout:
    """Returns the layout without the members `gone`, which were leaving and hold no data any more."""
    assert layout.phase == SETTLED and all(node in layout.leaving for node in gone), "only leaving members may go"
    return _revised(
        layout,
        members=tuple(member for member in layout.members if member.id not in gone),
        leaving=tuple(node for node in layout.leaving if node not in gone),
    )


def end_full_repair(layout: Layout) -> Layout:
    """Returns the layout in which all stored writes have W copies: all owners have made their partitions equal."""
    assert layout.phase == SETTLED and layout.written_w, "a full repair is under way"
    return _revised(layout, written_w=0)


def _revised(layout: Layout, **fields: object) -> Layout:
    return replace(layout, revision=layout.revision + 1, progress=layout.progress + 1, **fields)  # type: ignore[arg-type]


def move(node: str, address: str, moved_ms: int) -> Change:
    """Returns the change that gives a member another address.

    Its id is a hash of all its fields, so that several nodes that announce the same move make the same change.
    """
    change_id = xxh3_64_hexdigest(f"{node} {address} {moved_ms}".encode())
    return Change(change_id, ADDRESS, node, address=address, weight=moved_ms)


def moved_ms(layout: Layout, node: str) -> int:
    """Returns when a member took its address, or 0 if the log does not say."""
    return max([change.moved_ms for change in layout.log if change.node == node], default=0)


def readdress(layout: Layout, change: Change) -> Layout:
    """Returns the layout in which a member has another address. Raises ChangeError.

    If the layout gives that address to another member, that one is no longer there, and its address becomes unknown.
    But if the other one took the address later than this member, the change is refused.
    """
    draft = Draft(layout)
    draft.apply(change)
    for member in layout.members:
        if member.id != change.node and member.address == change.address:
            if moved_ms(layout, member.id) > change.moved_ms:
                raise ChangeError(f"node {member.name} has taken the address {member.address} since")
            draft.members[member.id] = replace(member, address=unknown_address(member.id))
    log = _bounded((*layout.log, replace(change, epoch=layout.epoch)))
    try:
        return replace(layout, revision=layout.revision + 1, members=draft.sorted_members(), log=log)
    except LayoutError as error:
        raise ChangeError(str(error)) from error


def _bounded(log: tuple[Change, ...]) -> tuple[Change, ...]:
    """Cuts the log to LOG_MAX. Changes of address that later ones have replaced are dropped first.

    Otherwise nodes whose addresses change with each start would push operators' commits out of the log.
    """
    void = [c for index, c in enumerate(log) if c.kind == ADDRESS and _has_moved_on(c, log[index + 1 :])]
    gone = [change.id for change in void[: max(0, len(log) - LOG_MAX)]]
    return tuple([change for change in log if change.id not in gone])[-LOG_MAX:]


def _has_moved_on(change: Change, later: Sequence[Change]) -> bool:
    return any(other.kind == ADDRESS and other.node == change.node for other in later)
