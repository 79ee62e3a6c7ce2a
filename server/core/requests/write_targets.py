"""Which nodes a group of writes is sent to: the owners that can be reached, and a fallback for each other owner.

Theory: writes.py. All functions here only read the state.
"""

from __future__ import annotations

from server.core.base.routing import Plan
from server.core.base.state import State
from server.core.liveness.liveness import PeerState
from server.core.requests.write_groups import WriteGroup


def can_reach(state: State, plan: Plan, owner: str) -> bool:
    """HOT. Whether a write may be sent to the owner itself.

    A suspected owner is tried, too, if it has no stand-in. An owner that is believed down is not tried.
    """
    if owner not in state.links or (owner in state.full and not state.has_room_for(plan, owner)):
        return False
    return owner not in plan.absent or (
        (owner, "") in plan.stand_ins and state.liveness.state(owner) is not PeerState.DOWN
    )


def is_sent_to(state: State, group: WriteGroup, owner: str) -> bool:
    """HOT. Whether this group is sent to the owner itself."""
    return can_reach(state, group.plan, owner) and not (state.backlogged and _may_skip(state, group, owner))


def _may_skip(state: State, group: WriteGroup, owner: str) -> bool:
    """Whether to leave out `owner`: the group is large, `owner` has a backlog, and the other owners are enough for W."""
    plan, backlogged = group.plan, state.backlogged
    if owner not in backlogged or group.size_bytes < state.config.large_message_bytes // 2 or plan.owner_sets:
        return False
    others = [peer for peer in plan.peers if peer not in backlogged and can_reach(state, plan, peer)]
    return len(others) + plan.owned >= group.tally.wanted


def names_without_room(state: State, plan: Plan) -> list[str]:
    """Returns the names of the plan's nodes whose disks are too full for this write."""
    return [state.layout_name(node) for node in (state.id, *plan.peers) if not state.has_room_for(plan, node)]


def is_pending_or_former(plan: Plan, owner: str) -> bool:
    """Whether `owner` is a pending or former owner of a moving partition.

    Once a hint is kept for such an owner, the quorum does not wait for it.
    """
    return bool(plan.owner_sets) and owner not in plan.owner_sets[0]


def next_fallback(state: State, group: WriteGroup) -> str:
    """Returns the next live fallback of the group's keys that has not been sent the group; "" if there is none."""
    layout = state.layout
    if layout is None or not group.payload:
        return ""
    slot = int.from_bytes(group.payload[0][:2], "big")
    partition = layout.partition_of(slot)
    fallbacks = layout.fallbacks.order(partition, layout.keepers(partition))
    # The layout may have changed since the group was sent. A node that was sent the group as an owner must not be
    # counted a second time as a fallback: both acknowledgements would stand for one disk.
    excluded = [state.id, *group.plan.peers, *group.hint_holders.values()]
    others = (node for node in fallbacks if node not in excluded)
    return next((node for node in others if state.is_usable(node) and state.has_room_for(group.plan, node)), "")
