"""The merge of two layouts that were made at the same time, on two sides of a network partition (P9).

Theory. Each step makes a new document; of two documents the higher version rules. But two layouts may be made at the
same time, on two sides of a network partition. They have a common ancestor, and each has a log of its changes. `merge`
takes the layout that has seen more phases end, because that one knows which nodes hold the data, and makes the other's
missing changes to it. The result depends on the two documents only. So every node that meets both makes the same third
layout, under the next epoch, and no operator's change is lost.

What is committed together with another N holds as a whole or not at all, and of two N the larger one rules
(replica_change.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from server.core.ring.change import ADDRESS, JOIN, LEAVE, NUMBERS, REMOVE, REPLACE, Change
from server.core.ring.computation import Computation, compute_now
from server.core.ring.layout import Layout
from server.core.ring.quorum_change import gives_up_promise
from server.core.ring.replica_change import copies_of, grouped, with_least_w
from server.core.ring.succession import (
    LOG_MAX,
    REPLACE_UNITS,
    ChangeError,
    check,
    committed,
    drafted,
    moved_ms,
    readdress,
)


def merge(one: Layout, other: Layout) -> Layout:
    """Returns the layout that rules after both: one of them, or a new one if each has changes that the other lacks.

    Commutative and idempotent. Both must be of the same cluster; the caller has checked that.
    """
    return compute_now(merged(one, other))


def merged(one: Layout, other: Layout) -> Computation[Layout]:
    """The same as `merge`, as a computation in steps; only if a new layout is made, it has more than one."""
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
        result = replace(result, **with_least_w(result, min(base.least_w, rest.least_w)))  # type: ignore[arg-type]
        return (yield from _recommitted(result, wanted, copies_of(_missing(rest, base))))
    if base is winner and result.revision == winner.revision:
        return winner  # none of the changes of address could be made
    return replace(result, revision=max(result.revision, winner.revision + 1))


def _missing(base: Layout, rest: Layout) -> list[Change]:
    """Returns the changes of `rest` that `base` lacks.

    `base` is taken to have every change that is older than its whole log, and every move of a member that has moved
    again since.
    """
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


def _can_follow(layout: Layout, made: list[Change], changes: Sequence[Change]) -> bool:
    """Whether `changes` can be made together after the changes `made`."""
    try:
        check(layout, [*made, *changes])
    except ChangeError:
        return False
    draft = drafted(layout, [*made, *changes])
    return changes[0].kind not in NUMBERS or not gives_up_promise(layout, draft.n, draft.r, draft.w)


def _is_chained(layout: Layout, change: Change) -> bool:
    """Whether the change replaces a node that this layout does not know, because it joined in the other layout.

    That node may hold data that was written there.
    """
    return change.kind == REPLACE and all(member.id != change.node for member in layout.members)


def _parts(change: Change) -> list[Change]:
    """Returns the changes to make if a change cannot be made as it is: a replacement becomes a join and a leave.

    For example, the old node may be leaving already. The new node becomes a member all the same, because it may have
    accepted writes in the other layout. Other changes are dropped.
    """
    if change.kind != REPLACE:
        return []
    joining = replace(change, kind=JOIN, node=change.other, other="", gone=False)
    return [joining, Change(change.id, REMOVE if change.gone else LEAVE, change.node)]


def _recommitted(layout: Layout, changes: Sequence[Change], copies: int) -> Computation[Layout]:
    """Returns the layout of the next epoch with those changes that can still be made. Its log has all of them.

    `copies` is the N of a change that only this layout has, or 0: then no smaller N is made."""
    epoch = layout.epoch + 1
    made: list[Change] = []
    for group in grouped(changes):
        if group[0].kind in NUMBERS and 0 < copies_of(group) <= copies:
            continue
        if _is_chained(layout, group[0]) or not _can_follow(layout, made, group):
            for part in _parts(group[0]):
                made += [part] if _can_follow(layout, made, [part]) else []
        else:
            made += group
    log = (*layout.log, *(replace(change, epoch=epoch) for change in changes))[-LOG_MAX:]
    following = yield from committed(layout, made)
    yield REPLACE_UNITS * layout.partitions
    return replace(following, merged_epoch=epoch, log=log)
