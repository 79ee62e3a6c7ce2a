"""`cluster status`: one verdict, one sentence that says what is wrong and what to type, then the nodes (DESIGN §7).

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
from protocol.slots import SLOTS
from server.core.base import clock_report
from server.core.base.room import FOR_DELETIONS, FOR_NOTHING, FOR_WRITES
from server.core.operators.documents import Document, behind_of, by_name
from server.core.operators.troubles import (
    NO_TROUBLES,
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
)
from server.core.ring.addresses import shown_address
from server.core.ring.change import REMOVE
from server.core.ring.layout import HANDOVER, SETTLED, TRANSFER, Layout
from server.core.services.services import Services

NOTHING: Mapping[str, Document] = {}
NO_STATES: Mapping[str, str] = {}


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
                   "peer_auth": services.authentication.mode, "secrets": services.authentication.fingerprints,
                   }  # fmt: skip


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
    verdict, summary = judge(layout, states, troubles)
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
        "n": layout.effective_n,
        "r": layout.effective_r,
        "w": layout.effective_w,
        "partitions": layout.partitions,
        "verdict": verdict,
        "summary": "; ".join([summary, *clock_report.time_remarks(state), *notices]),
        "staged": staged,
        "clock_bound_ms": state.cluster_time.bound_ms(state.now_ms),
        "nodes": _nodes(layout, states, reports, troubles),
    }
    return document | ({"change": change} if change is not None else {})


def amiss(services: Services, layout: Layout, reports: Mapping[str, Document], asked_ms: int) -> list[str]:
    """Remarks on what an operator should act on, though every key may be served."""
    state = services.state
    behind = behind_of(layout, reports.values())
    missed = [f"{_missed(behind)}; every key is still served"] if behind else []
    readings = [(member.name, reports.get(member.id, {}).get("wall_ms")) for member in by_name(layout)]
    clocks_ms = {name: int(wall_ms) for name, wall_ms in readings if wall_ms is not None}
    low_ms, high_ms = state.cluster_time.reference(state.now_ms)
    off = clock_report.clock_remarks(clocks_ms, asked_ms + low_ms, state.now_ms + high_ms, state.config.clock_warn_ms)
    gone_back = set_back(layout, reports, bool(services.rollback.refusers))
    disks = filling(layout, reports) + full(layout, reports) + damage(layout, reports)
    return (
        missed
        + disks
        + failing(layout, reports)
        + held_back(layout, reports)
        + copies(services, layout, reports)
        + gone_back
        + off
    )


def _nodes(
    layout: Layout, states: Mapping[str, str], reports: Mapping[str, Document], troubles: Mapping[str, tuple[str, str]]
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
            "hints_held": report.get("hints_held", 0),
            "keys": report.get("keys", 0),
        }
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
    layout: Layout, states: Mapping[str, str], troubles: Mapping[str, tuple[str, str]] = NO_TROUBLES
) -> tuple[str, str]:
    """The verdict and its sentence, from the state (up, suspect, down) of each member, and why those that are not up cannot
    be reached (addresses.py)."""
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
    names = ", ".join(said_of(member, states[member.id], troubles.get(member.id, ("", ""))[1]) for member in missing)
    advice = advice_on([troubles.get(member.id, ("", ""))[0] for member in missing])
    if short:
        return "unavailable", (
            f"{names}: {short} of {layout.partitions} partitions have fewer than {quorum} owners up and refuse "
            f"requests; {advice}"
        )
    return "degraded", f"{names}: every key is still served; {advice}"


# --- remarks


def _missed(behind: list[str]) -> str:
    return (f"{', '.join(behind)} missed writes that no hint was kept of (hints_bytes_max or hint_age_ms_max was reached): "
            "Merkle repair brings them in time, `dyn repair` now")  # fmt: skip


def full(layout: Layout, reports: Mapping[str, Document]) -> list[str]:
    """Remarks on full disks. Such a node takes no writes, nor data that moves; the other nodes do."""
    remarks = []
    for room, refused in (
        (FOR_DELETIONS, "writes are refused there"),
        (FOR_NOTHING, "writes and deletions are refused there"),
    ):
        names = [member.name for member in by_name(layout) if _room(reports.get(member.id, {})) == room]
        if names:
            remarks.append(f"{', '.join(names)}: no room on the disk, {refused}; free some space (disk_free_bytes_min)")
    return remarks


def _room(report: Mapping[str, Any]) -> int:
    """What a node's disk has room for; older nodes report only whether it is full."""
    return int(report.get("disk_room", FOR_DELETIONS if report.get("disk_full") else FOR_WRITES))


def filling(layout: Layout, reports: Mapping[str, Document]) -> list[str]:
    """Remarks on nodes that lack data that they own: until they have it, no other copy of it may be lost."""
    remarks = []
    for member in by_name(layout):
        report = reports.get(member.id, {}).get("filling")
        if report is None and is_short_of_copies(layout, member.id):
            report = reports.get(member.id, {}).get("transfer") or {}
        if report is not None:
            keys, eta_s = report.get("keys"), report.get("eta_s")
            percent = report["percent"] if "percent" in report else 100 * report["keys_done"] // keys if keys else 0
            remarks.append(f"{member.name} is being filled, {percent} %" + (f", about {eta_s} s" if eta_s else ""))
    return remarks


def is_short_of_copies(layout: Layout, node: str) -> bool:
    """Whether `node` fetches data of which one copy is lost, with a member that was removed."""
    if layout.phase != TRANSFER or not any(
        change.epoch == layout.epoch and (change.kind == REMOVE or change.gone) for change in layout.log
    ):
        return False
    return any(
        node in layout.owners[partition] and node not in former and len(former) < len(layout.owners[partition])
        for partition, former in layout.former
    )


def damage(layout: Layout, reports: Mapping[str, Document]) -> list[str]:
    """Remarks on damaged records that are not repaired yet, or cannot be."""
    remarks = []
    for member in by_name(layout):
        report = reports.get(member.id, {})
        if report.get("damaged"):
            remarks.append(
                f"{member.name} has {report['damaged']} damaged records that wait for copies of other owners"
            )
        if report.get("unreadable"):
            remarks.append(
                f"{member.name} cannot read all of its store ({report['unreadable']} of {SLOTS} slots are hit): other "
                "owners serve what lay there and it is mended, but the block stays in its file. The node begins an empty "
                f"store by itself, which the others fill{_after(report.get('rebuild', ''))}; `dyn node start --dir DIR "
                "--rebuild` does that at once"
            )
        if report.get("lost"):
            remarks.append(
                f"{member.name} has lost {report['lost']} records since it started: they were damaged and nobody had a "
                "sound copy; look at its disk, and restore them from a backup"
            )
    return remarks


def _after(waits_for: str) -> str:
    return f", and waits for {waits_for}" if waits_for else ", after a repair"


# --- changes of members


def seats_to_fill(layout: Layout) -> dict[str, int]:
    """How many partitions each node fetches in the present change in all."""
    seats: dict[str, int] = {}
    for partition, former in layout.former:
        for node in layout.owners[partition]:
            if node not in former:
                seats[node] = seats.get(node, 0) + 1
    return seats


def waits_for(layout: Layout, states: Mapping[str, str]) -> list[str]:
    """The names of the down nodes that the present change waits for: new owners, and former owners of partitions of which
    too few other copies are left to fetch (transfers.py)."""
    needed: dict[str, None] = {}
    for partition, former in layout.former if layout.phase == TRANSFER else ():
        comers = [node for node in layout.owners[partition] if node not in former]
        asked = former if comers else ()
        lost = [node for node in asked if states.get(node) == "down"]
        if len(asked) - len(lost) < min(len(asked), layout.n - layout.w + 1):
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
    return document | ({"waits_for": waiting} if waiting else {})


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
        remarks.append(f"epoch {layout.epoch}: {said}" + (f", about {eta_s} s left" if eta_s else ""))
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
    if staged:
        remarks.append(f"{staged} {'change is' if staged == 1 else 'changes are'} staged: see `dyn cluster plan`")
    return remarks
