"""`cluster status`: one verdict, one sentence that says what is wrong and what to type, then the nodes.

Theory. A status is for an operator who was woken at night. The verdict is about requests, not about machines: unavailable
if some partition cannot reach its quorums, degraded if all can but a node is missing. A change of members does not alter
the verdict; the sentence tells its progress.

Progress is counted in seats, one for each partition at each new owner: the layout says how many there are, and each node
that fetches reports how many it still lacks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from protocol.bounds import TIME_MS_MAX
from server.core.base import clock_report
from server.core.liveness.liveness import PeerState
from server.core.operators.documents import Document, behind_of, by_name
from server.core.operators.remarks import (
    damage,
    filling,
    full,
    missed,
    older_writes,
    out_of_room,
    overdue,
    unheard,
    unswapped,
    weak_quorums,
)
from server.core.operators.troubles import (
    NO_TROUBLES,
    RUNNING,
    advice_if_gone,
    advice_on,
    copies,
    copies_of,
    failing,
    held_back,
    own_notices,
    said_of,
    set_aside,
    set_back,
    unauthenticated,
    urgent_notices,
)
from server.core.ring.addresses import shown_address
from server.core.ring.layout import HANDOVER, SETTLED, TRANSFER, Layout
from server.core.services.services import Services

NOTHING: Mapping[str, Document] = {}
NO_STATES: Mapping[str, str] = {}
NO_TIMES: Mapping[str, int | None] = {}


def own_status(services: Services) -> Document:
    """STATUS: what this node reports about itself to the node that makes a status."""
    state = services.state
    return {"keys": state.records.live, "hints_held": state.hints.total, "behind": state.hints.dropped_hints,
                   "damaged": len(services.mending), "mended": state.statistics.records_mended,
                   "lost": state.statistics.records_lost,
                   "unreadable": len(state.records.unreadable) or int(state.store_is_damaged),
                   "rebuild": services.rebuild.waits_for,
                   "disk_full": state.disk_full,
                   "disk_room": state.room,
                   "transfer": services.transfers.document(), "to_let_go": services.cleanup.remaining(),
                   "filling": services.filling.document(),
                   "copies": services.duplicates.seen(), "wall_ms": min(max(0, state.wall_ms), TIME_MS_MAX),
                   "gone_back": services.rollback.refused(), "taken_back": list(services.rollback.accepted),
                   "aside": services.rollback.aside(), "failing": services.background.failing(),
                   "internal_errors": state.statistics.internal_errors + state.statistics.messages_undigested,
                   "held_back": state.quarantine.held(state.wall_ms), "notices": services.process.notices,
                   "urgent": services.process.urgent,
                   "peer_auth": services.authentication.mode, "secrets": services.authentication.fingerprints,
                   "heard_ms": heard_ms(services), "hints_full": state.hints.full,
                   "overdue_s": services.anti_entropy.overdue_s(),
                   }  # fmt: skip


def heard_ms(services: Services) -> dict[str, int]:
    """By member that is down: when its last message came here, in ms since 1970. Empty for what this process has never
    heard from: it does not know since when such a member is down."""
    state = services.state
    last_ms = {node: ms for node, ms in state.last_message_ms.items() if node in state.members}
    return {
        node: min(max(0, state.wall_offset_ms + ms), TIME_MS_MAX)
        for node, ms in last_ms.items()
        if state.liveness.state(node) is PeerState.DOWN
    }


def down_since(reports: Mapping[str, Document], states: Mapping[str, str]) -> dict[str, int | None]:
    """By member that is down: when any member that answers last heard from it; None if none of them ever did."""
    return {
        node: max(
            (told[node] for report in reports.values() if node in (told := report.get("heard_ms", {}))), default=None
        )
        for node, word in states.items()
        if word == "down"
    }


def status(services: Services, answers: Mapping[str, Any], asked_ms: int) -> Document:
    """`cluster status`, from the layout, our view of liveness, and what each node has answered about itself since
    `asked_ms` of our monotonic clock."""
    state, layout = services.state, services.state.layout
    assert layout is not None
    reports: dict[str, Document] = {node_id: answer for node_id, answer in answers.items() if answer}
    states = {member.id: state.liveness.state(member.id).value for member in layout.members}
    troubles = {
        node_id: services.addresses.trouble_with(node_id)
        for node_id, state_word in states.items()
        if state_word != "up"
    }
    since_ms = down_since(reports, states)
    verdict, summary = judge(layout, states, troubles, since_ms)
    remarks = amiss(services, layout, reports, asked_ms)
    if remarks:
        summary = "; ".join(remarks if verdict == "healthy" else [summary, *remarks])
        verdict = "degraded" if verdict == "healthy" else verdict
    change = change_of(layout, reports, states) if layout.phase != SETTLED else None
    staged = len(services.staging.changes())
    notices = [
        *set_aside(layout, reports),
        *unauthenticated(layout, reports),
        *own_notices(layout, reports),
        *news(layout, change, staged, reports, states),
    ]
    document = {
        "epoch": layout.epoch,
        "n": layout.serving_n,
        "r": layout.effective_r,
        "w": layout.effective_w,
        "partitions": layout.partitions,
        "verdict": verdict,
        "summary": "; ".join([summary, *clock_report.time_remarks(state), *notices, *unheard(layout, states, answers)]),
        "staged": staged,
        "clock_bound_ms": state.cluster_time.bound_ms(state.now_ms),
        "nodes": _nodes(layout, states, reports, troubles, since_ms),
    }
    at_times = {"change": change, "written_w": layout.written_w or None, "databases": _databases(services)}
    return document | {name: value for name, value in at_times.items() if value is not None}


def _databases(services: Services) -> tuple[int, ...] | None:
    """Which space each database is, by number; None if each is in its own."""
    return services.state.numbering.spaces if services.numbering.is_swapped else None


def amiss(services: Services, layout: Layout, reports: Mapping[str, Document], asked_ms: int) -> list[str]:
    """Remarks on what an operator should act on, though every key may be served."""
    state = services.state
    readings = [(member.name, reports.get(member.id, {}).get("wall_ms")) for member in by_name(layout)]
    clocks_ms = {name: int(wall_ms) for name, wall_ms in readings if wall_ms is not None}
    low_ms, high_ms = state.cluster_time.reference(state.now_ms)
    off = clock_report.clock_remarks(clocks_ms, asked_ms + low_ms, state.now_ms + high_ms, state.config.clock_warn_ms)
    gone_back = set_back(layout, reports, bool(services.rollback.refusers))
    earlier = [member.name for member in by_name(layout) if state.with_swaps.is_unable(member.id)]
    disks = filling(layout, reports) + full(layout, reports) + damage(layout, reports)
    return (
        missed(behind_of(layout, reports.values()))
        + out_of_room(layout, reports)
        + disks
        + older_writes(layout, is_amiss=True)
        + unswapped(earlier, services.numbering.is_swapped)
        + urgent_notices(layout, reports)
        + overdue(layout, reports)
        + failing(layout, reports)
        + held_back(layout, reports)
        + copies(services, layout, reports)
        + gone_back
        + off
    )


def _nodes(
    layout: Layout,
    states: Mapping[str, str],
    reports: Mapping[str, Document],
    troubles: Mapping[str, tuple[str, str]],
    since_ms: Mapping[str, int | None],
) -> list[Document]:
    owned = layout.owned()
    seats = layout.partitions * layout.effective_n
    reading = dict.fromkeys(node for partition in range(layout.partitions) for node in layout.readers(partition))
    copied = copies_of(reports)
    nodes = []
    for member in by_name(layout):
        report = reports.get(member.id, {})
        entry: Document = {
            "id": member.id,
            "name": member.name,
            "address": shown_address(member.address),
            "zone": member.zone,
            "state": states[member.id],
            "role": role(layout, member.id, reading),
            "owned": owned[member.id],
            "share": round(owned[member.id] / seats, 4),
            "hints_held": report.get("hints_held"),  # null: it did not answer
            "keys": report.get("keys"),
        }
        if member.id in since_ms:
            entry["down_since_ms"] = since_ms[member.id]
        if reason := troubles.get(member.id, ("", ""))[0]:
            entry["reason"] = reason
        if member.id in copied:
            entry["copies"] = copied[member.id]
        for field in ("failing", "internal_errors", "filling", "held_back", "secrets"):
            if report.get(field):
                entry[field] = report[field]
        nodes.append(entry if layout.phase == SETTLED else entry | {"transfer": report.get("transfer")})
    return nodes


def role(layout: Layout, node: str, reading: Collection[str]) -> str:
    """`member`, `leaving`, or `joining` while it has no partition whole. `reading`: all nodes that have one."""
    if node in layout.leaving:
        return "leaving"
    return "joining" if layout.phase == TRANSFER and node not in reading else "member"


def judge(
    layout: Layout,
    states: Mapping[str, str],
    troubles: Mapping[str, tuple[str, str]] = NO_TROUBLES,
    since_ms: Mapping[str, int | None] = NO_TIMES,
) -> tuple[str, str]:
    """The verdict and its sentence, from the state (up, suspect, down) of each member, why those that are not up cannot
    be reached (addresses.py), and since when they are down."""
    quorum = max(layout.effective_r, layout.effective_w)
    short = 0
    for partition in range(layout.partitions):
        readers = layout.readers(partition)
        if sum(states[node] == "up" for node in readers) < min(quorum, len(readers)):
            short += 1
    missing = [member for member in by_name(layout) if states[member.id] != "up"]
    if not missing:
        count = len(layout.members)
        return "healthy", f"all {count} nodes are up" if count > 1 else "the only node is up"
    reasons = [troubles.get(member.id, ("", "")) for member in missing]
    names = ", ".join(
        said_of(member, states[member.id], why, since_ms.get(member.id))
        for member, (_, why) in zip(missing, reasons, strict=True)
    )
    advice = advice_on([reason for reason, _ in reasons]) + advice_if_gone(
        [
            member.name
            for member, (reason, _) in zip(missing, reasons, strict=True)
            if states[member.id] == "down" and reason not in RUNNING
        ]
    )
    if short:
        return "unavailable", (
            f"{names}: {short} of {layout.partitions} partitions have fewer than {quorum} owners up and refuse "
            f"requests; {advice}"
        )
    return "degraded", f"{names}: every key is still served; {advice}"


# --- changes of members


def seats_to_fill(layout: Layout) -> dict[str, int]:
    """How many partitions each node fetches in the present change in all."""
    seats: dict[str, int] = {}
    for partition, former in layout.former:
        for node in layout.owners[partition]:
            if node not in former or (layout.changes_n and former != (node,)):
                seats[node] = seats.get(node, 0) + 1
    return seats


def waits_for(layout: Layout, states: Mapping[str, str]) -> list[str]:
    """The names of the down nodes that the present change waits for: new owners, and former owners of partitions of which
    too few other copies are left to fetch (transfers.py); while N changes, all."""
    if layout.changes_n:
        return [member.name for member in by_name(layout) if states.get(member.id) == "down"]
    needed: dict[str, None] = {}
    for partition, former in layout.former if layout.phase == TRANSFER else ():
        comers = [node for node in layout.owners[partition] if node not in former]
        asked = former if comers else ()
        lost = [node for node in asked if states.get(node) == "down"]
        if len(asked) - len(lost) < min(len(asked), layout.fetch_quorum):
            needed |= dict.fromkeys(lost)
        needed |= dict.fromkeys(node for node in comers if states.get(node) == "down")
    return [member.name for member in by_name(layout) if member.id in needed]


def change_of(layout: Layout, reports: Mapping[str, Document], states: Mapping[str, str] = NO_STATES) -> Document:
    """The progress of the present change. `keys` are those to fetch, as far as the nodes know by now."""
    left = keys = keys_done = 0
    etas: list[int | None] = []
    seats = seats_to_fill(layout)
    for node, count in seats.items():
        transfer: Document | None = reports.get(node, {}).get("transfer")
        if transfer is None:  # the node does not answer, or has not begun
            left += count
            etas.append(None)
            continue
        left += min(count, transfer["partitions"] - transfer["partitions_done"])
        keys += transfer["keys"]
        keys_done += transfer["keys_done"]
        etas.append(transfer["eta_s"])
    paused = [member.name for member in by_name(layout) if _is_paused(reports.get(member.id, {}))]
    moving = sum(seats.values())
    waiting = waits_for(layout, states)
    document: Document = {
        "phase": layout.phase,
        "epoch": layout.epoch,
        "partitions_moving": moving,
        "partitions_moved": moving - (left if layout.phase == TRANSFER else 0),
        "keys": keys,
        "keys_done": keys_done,
        "eta_s": 0 if layout.phase == HANDOVER else longest(etas),
    }
    if _numbers_change(layout):
        document["numbers"] = {"n": layout.n, "r": layout.r, "w": layout.w}
    return document | ({"waits_for": waiting} if waiting else {}) | ({"paused": paused} if paused else {})


def _numbers_change(layout: Layout) -> bool:
    """Whether another N, R or W is under way, and not only fewer owners than N."""
    return layout.changes_n and layout.former_numbers[:3] != (layout.n, layout.r, layout.w)


def _is_paused(report: Mapping[str, Any]) -> bool:
    return bool((report.get("transfer") or {}).get("paused"))


def longest(etas: Iterable[int | None]) -> int | None:
    """The largest of some estimates; None if one of them is not known."""
    known = 0
    for eta_s in etas:
        if eta_s is None:
            return None
        known = max(known, eta_s)
    return known


def _waiting(names: Sequence[str]) -> str:
    return f"this waits for {', '.join(names)}: what is gone for good is taken out by `dyn cluster remove {names[0]}`"


def old_copies(layout: Layout, reports: Iterable[Document]) -> int:
    """How many records are still on nodes that do not own them any more. 0 while hints exist, or if no change was ever
    made: then such records are those of fallbacks."""
    entries = list(reports)
    if not layout.log or any(entry.get("hints_held") for entry in entries):
        return 0
    return sum(entry.get("to_let_go", 0) for entry in entries)


def news(
    layout: Layout,
    change: Mapping[str, Any] | None,
    staged: int,
    reports: Mapping[str, Document] = NOTHING,
    states: Mapping[str, str] = NO_STATES,
) -> list[str]:
    """Remarks on changes of members: under way, ended, or staged."""
    remarks = []
    if change is not None:
        keys = f" and {100 * change['keys_done'] // change['keys']}% of the keys" if change["keys"] else ""
        said = f"{change['partitions_moved']} of {change['partitions_moving']} partitions{keys} have moved"
        eta_s = change["eta_s"]
        if _numbers_change(layout):
            said = f"N becomes {layout.n} with R={layout.r} and W={layout.w}, {said}"
        remarks.append(f"epoch {layout.epoch}: {said}" + (f", about {eta_s} s left" if eta_s else ""))
        if change.get("paused"):
            remarks.append(f"{', '.join(change['paused'])}: paused by an operator, `dyn task resume` goes on")
        if change.get("waits_for"):
            remarks.append(_waiting(change["waits_for"]))
    elif to_let_go := old_copies(layout, reports.values()):
        remarks.append(
            f"epoch {layout.epoch}: everything has moved, {to_let_go} old copies of keys are yet to be let go"
        )
    if change is None and layout.leaving:
        leaving = [member for member in by_name(layout) if member.id in layout.leaving]
        names = ", ".join(member.name for member in leaving)
        remarks.append(f"{names}: on the way out, until it holds nothing any more")
        if lost := [member.name for member in leaving if states.get(member.id) == "down"]:
            remarks.append(_waiting(lost))
    if layout.merged_epoch and layout.merged_epoch == layout.epoch:
        remarks.append(
            f"two layouts were committed side by side and merged into epoch {layout.epoch}: check `dyn ring show`"
        )
    remarks += older_writes(layout, is_amiss=False) + weak_quorums(layout)
    if staged:
        remarks.append(f"{staged} {'change is' if staged == 1 else 'changes are'} staged: see `dyn cluster plan`")
    return remarks
