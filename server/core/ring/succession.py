"""Which layout follows which: an operator's commit, the phases of a change, and two layouts made side by side (P9).

Theory. A commit makes the next epoch out of the present layout and some changes. The owners that are to be are named at
once; for each partition that gets a new one the present *readers*, who hold it whole, stay beside them as `former` owners.

    TRANSFER   writes go to both, reads to the former ones, the new ones fetch     until every new owner has all of its own
    HANDOVER   writes go to both, reads to the new ones                            until every node reads there
    SETTLED    the former ones let go what they have, those that leave go          when all of it is with the owners

A commit in the middle of a change starts from who holds the data now: the readers stay, and who was to become an owner and
is not any more was never asked for anything. So changes may follow each other at any time.

Each step makes a new document; of two, the higher version rules. Made side by side they have a common ancestor and each a
log of its changes, so `merge` takes the one that has seen more phases end, for it knows who holds the data, and makes the
other's changes to it. The result depends on the two documents alone: every node that meets both makes the same one, under
the next epoch, and nothing of what either operator wanted is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from xxhash import xxh3_64_hexdigest

from server.core.ring.addresses import unknown_address
from server.core.ring.change import ADDRESS, JOIN, LEAVE, REMOVE, REPLACE, WEIGHT, ZONE, Change
from server.core.ring.computation import Computation, finish
from server.core.ring.layout import HANDOVER, SETTLED, TRANSFER, Layout, LayoutError, Member
from server.core.ring.layout_faults import member_faults
from server.core.ring.reassignment import Owners, check_replacements, following_owners

LOG_MAX = 64
REPLACE_UNITS = 3  # of work (computation.py) for each partition, to make a layout and to see that it is valid


class ChangeError(ValueError):
    """The change cannot be made to that layout; a sentence says why."""


def commit(present: Layout, changes: Sequence[Change]) -> Layout:
    """The layout of the next epoch, with all changes made. Raises ChangeError if one cannot be made."""
    return finish(committed(present, changes))


def committed(present: Layout, changes: Sequence[Change]) -> Computation[Layout]:
    """As `commit`, step by step."""
    epoch = present.epoch + 1
    draft = _drafted(present, changes)
    members = draft.sorted_members()
    leaving = tuple(sorted(draft.leaving))
    try:
        owners = yield from following_owners(present, draft.staying(), draft.replaced)
    except ValueError as error:
        raise ChangeError(str(error)) from error
    yield present.partitions
    former = _former(present, owners, draft.members)
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
        )
    except LayoutError as error:
        raise ChangeError(str(error)) from error


def check(present: Layout, changes: Sequence[Change]) -> None:
    """Raises ChangeError if `commit` would; without the owners, whose computing takes a third of a second at Q=1024."""
    draft = _drafted(present, changes)
    for fault in member_faults(draft.sorted_members()):
        raise ChangeError(fault)
    try:
        check_replacements(present, draft.replaced)
    except ValueError as error:
        raise ChangeError(str(error)) from error


def _drafted(present: Layout, changes: Sequence[Change]) -> _Draft:
    draft = _Draft(present)
    for change in changes:
        draft.make(change)
    if not draft.staying():
        raise ChangeError("no node would be left: a cluster needs at least one")
    return draft


class _Draft:
    """The members as they will be."""

    def __init__(self, present: Layout) -> None:
        self.members = {member.id: member for member in present.members}
        self._present = dict(self.members)
        self.leaving = dict.fromkeys(present.leaving)
        self.replaced: dict[str, str] = {}

    def staying(self) -> list[Member]:
        """Those who will own something."""
        return [member for member in self.members.values() if member.id not in self.leaving]

    def sorted_members(self) -> tuple[Member, ...]:
        """All of them, as a layout has them."""
        return tuple(sorted(self.members.values(), key=lambda member: member.id))

    def make(self, change: Change) -> None:
        """Makes one change. Raises ChangeError."""
        if change.kind == JOIN:
            self._add(Member(change.node, change.name, change.address, change.zone, change.weight))
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
        if old.id not in self._present:  # it was to come by this very commit, perhaps in the place of a third
            del self.members[old.id]
            for gone in [gone for gone, other in self.replaced.items() if other == old.id]:
                self.replaced[gone] = change.other
            return
        self.replaced[old.id] = change.other
        if change.gone:
            del self.members[old.id]
        else:
            self.leaving[old.id] = None


def _former(present: Layout, owners: Owners, members: dict[str, Member]) -> tuple[tuple[int, tuple[str, ...]], ...]:
    """Who holds each partition whose owners change. Where all of them are gone the new owners begin with nothing."""
    rows = []
    for partition, row in enumerate(owners):
        readers = present.readers(partition)
        holding = tuple(node for node in readers if node in members)
        if holding and (any(node not in row for node in holding) or any(node not in holding for node in row)):
            rows.append((partition, holding))
    return tuple(rows)


# --- the phases of a change, each a revision


def hand_over(layout: Layout) -> Layout:
    """Every new owner has all of its own: it is asked from now on."""
    assert layout.phase == TRANSFER, "what is handed over was transferred"
    return _revised(layout, phase=HANDOVER)


def settle(layout: Layout) -> Layout:
    """Everybody reads from the owners: the former ones are asked for nothing any more."""
    assert layout.phase == HANDOVER, "reads have moved before writes do"
    return _revised(layout, phase=SETTLED, former=())


def release(layout: Layout, gone: Sequence[str]) -> Layout:
    """Nodes that were leaving hold nothing any more: they are no members from now on."""
    assert layout.phase == SETTLED and all(node in layout.leaving for node in gone), "who goes has nothing left"
    return _revised(
        layout,
        members=tuple(member for member in layout.members if member.id not in gone),
        leaving=tuple(node for node in layout.leaving if node not in gone),
    )


def _revised(layout: Layout, **fields: object) -> Layout:
    return replace(layout, revision=layout.revision + 1, progress=layout.progress + 1, **fields)  # type: ignore[arg-type]


def move(node: str, address: str, moved_ms: int) -> Change:
    """The change by which a member gets another address. The id says all there is to it, so that the same move, told by
    several nodes, is one change."""
    change_id = xxh3_64_hexdigest(f"{node} {address} {moved_ms}".encode())
    return Change(change_id, ADDRESS, node, address=address, weight=moved_ms)


def moved_ms(layout: Layout, node: str) -> int:
    """When a member has taken its address, as far as the log remembers; else 0."""
    return max([change.moved_ms for change in layout.log if change.node == node], default=0)


def readdress(layout: Layout, change: Change) -> Layout:
    """A member has come back with another address, and is the same member. Raises ChangeError.

    Another one that has this address by the layout is not there any more, unless it has come there later.
    """
    draft = _Draft(layout)
    draft.make(change)
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
    """The log within its bound. Moves that later ones have made void go first: nodes whose addresses change with each start
    must not push out what operators have committed."""
    void = [c for place, c in enumerate(log) if c.kind == ADDRESS and _has_moved_on(c, log[place + 1 :])]
    gone = [change.id for change in void[: max(0, len(log) - LOG_MAX)]]
    return tuple([change for change in log if change.id not in gone])[-LOG_MAX:]


def _has_moved_on(change: Change, later: Sequence[Change]) -> bool:
    return any(other.kind == ADDRESS and other.node == change.node for other in later)


# --- two layouts


def merge(one: Layout, other: Layout) -> Layout:
    """The layout that rules where both are known: one of them, or a new one if each has changes that the other has not.

    Commutative and idempotent. Layouts of two clusters are not merged: the caller has seen that they are of one.
    """
    return finish(merged(one, other))


def merged(one: Layout, other: Layout) -> Computation[Layout]:
    """As `merge`, step by step: only a layout that is made out of both takes more than one."""
    winner, loser = (one, other) if one.wins_over(other) else (other, one)
    base, rest = (winner, loser) if winner.progress >= loser.progress else (loser, winner)
    missing = _missing(base, rest)
    if base is winner and not missing:
        return winner
    result = replace(base, epoch=winner.epoch, revision=winner.revision)
    yield REPLACE_UNITS * result.partitions
    wanted = [change for change in missing if change.kind != ADDRESS]
    for change in missing:
        if change.kind == ADDRESS:
            result = _readdressed(result, change)
            yield REPLACE_UNITS * result.partitions
    if wanted or base.epoch != winner.epoch:
        return (yield from _recommitted(result, wanted))
    if base is winner and result.revision == winner.revision:
        return winner  # none of the addresses can be had
    return replace(result, revision=max(result.revision, winner.revision + 1))


def _missing(base: Layout, rest: Layout) -> list[Change]:
    """The changes of `rest` that `base` has not seen. Those older than all that `base` remembers it has, and so it has a
    move of a member that has moved on since."""
    known = [change.id for change in base.log]
    oldest = base.log[0].epoch if len(base.log) == LOG_MAX else 0
    missing = [change for change in rest.log if change.id not in known and change.epoch >= oldest]
    last_ms = {c.node: max(moved_ms(base, c.node), moved_ms(rest, c.node)) for c in missing if c.kind == ADDRESS}
    return [change for change in missing if change.kind != ADDRESS or change.moved_ms == last_ms[change.node]]


def _readdressed(layout: Layout, change: Change) -> Layout:
    try:
        return readdress(layout, change)
    except ChangeError:
        return layout


def _can_follow(layout: Layout, made: list[Change], change: Change) -> bool:
    """Whether `change` can be made after those."""
    try:
        check(layout, [*made, change])
    except ChangeError:
        return False
    return True


def _is_chained(layout: Layout, change: Change) -> bool:
    """Whether a node is replaced that has come where this layout is not known: it may hold what was written there."""
    return change.kind == REPLACE and all(member.id != change.node for member in layout.members)


def _parts(change: Change) -> list[Change]:
    """What is left of a replacement that cannot be made as one, for the old node goes already, say: the new node is a
    member all the same, for it may have taken writes where it was one; and the old node goes. Else nothing."""
    if change.kind != REPLACE:
        return []
    joining = replace(change, kind=JOIN, node=change.other, other="", gone=False)
    return [joining, Change(change.id, REMOVE if change.gone else LEAVE, change.node)]


def _recommitted(layout: Layout, changes: Sequence[Change]) -> Computation[Layout]:
    """The next epoch with those of the changes that can still be made, in order. It has seen all of them."""
    epoch = layout.epoch + 1
    made: list[Change] = []
    for change in changes:
        if _is_chained(layout, change) or not _can_follow(layout, made, change):
            for part in _parts(change):
                made += [part] if _can_follow(layout, made, part) else []
        else:
            made.append(change)
    log = (*layout.log, *(replace(change, epoch=epoch) for change in changes))[-LOG_MAX:]
    following = yield from committed(layout, made)
    yield REPLACE_UNITS * layout.partitions
    return replace(following, merged_epoch=epoch, log=log)
