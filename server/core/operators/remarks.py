"""The remarks of `cluster status` on the data: missed writes, disks, damage, nodes that are filled, overdue comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from protocol.slots import SLOTS
from server.core.base.room import FOR_DELETIONS, FOR_NOTHING, FOR_WRITES
from server.core.operators.documents import Document, by_name
from server.core.ring.change import REMOVE
from server.core.ring.layout import TRANSFER, Layout
from server.core.ring.quorum_change import is_promised, may_miss_writes


def missed(behind: Sequence[str]) -> list[str]:
    """The remark on owners, by name, for which hints were dropped."""
    if not behind:
        return []
    return [
        f"{', '.join(behind)} missed writes that no hint was kept of (hints_bytes_max or hint_age_ms_max was reached): "
        "Merkle repair brings them in time, `dyn repair` at once when all nodes are up"
    ]


def unheard(layout: Layout, states: Mapping[str, str], answers: Mapping[str, Any]) -> list[str]:
    """The remark on nodes that are not believed suspect and have not answered so far: they are busy, or hang."""
    names = [member.name for member in by_name(layout) if states[member.id] == "up" and member.id not in answers]
    return [f"{', '.join(names)}: no answer yet, so nothing is told of what it holds; ask again"] if names else []


def out_of_room(layout: Layout, reports: Mapping[str, Document]) -> list[str]:
    """The remark on nodes that have no room for another hint. They refuse to stand in for owners that are down."""
    names = [member.name for member in by_name(layout) if reports.get(member.id, {}).get("hints_full")]
    if not names:
        return []
    return [
        f"{', '.join(names)}: no room for more hints (hints_bytes_max); `dyn hints list` shows the owners that they are "
        "for: bring these back, or take out what is gone for good with `dyn cluster remove NAME`"
    ]


def older_writes(layout: Layout, is_amiss: bool) -> list[str]:
    """The remark on writes that have fewer copies than W says, since W was raised. It is amiss if reads may miss them."""
    if not layout.written_w or is_amiss is not may_miss_writes(layout):
        return []
    consequence = f"reads by R={layout.r} may miss them" if is_amiss else "every read by R finds them"
    return [
        f"writes from before W was raised have W={layout.written_w} copies, until all owners have been compared: "
        f"{consequence}; all nodes must be up for it"
    ]


def unswapped(names: Sequence[str], is_swapped: bool) -> list[str]:
    """The remark on members, by name, that run a version without SWAPDB while databases are swapped."""
    if not names or not is_swapped:
        return []
    return [
        f"databases are swapped, and {', '.join(names)} runs a version without SWAPDB, so its clients read and write other "
        "databases than those of the other nodes: stop it, and upgrade it; to go back with all nodes, first upgrade this "
        "one, then swap the databases back, then go back"
    ]


def weak_quorums(layout: Layout) -> list[str]:
    """The remark on R and W that leave it to chance whether a read finds an acknowledged write."""
    if is_promised(layout):
        return []
    return [
        f"R={layout.r} and W={layout.w} are not more than N={layout.n} together: reads may miss acknowledged writes"
    ]


def overdue(layout: Layout, reports: Mapping[str, Document]) -> list[str]:
    """Remarks on pairs of nodes that are up and have not been compared for a long time."""
    return [
        f"{member.name} and {other.name} have not been compared for {_hours(ages_s[other.id])}: `dyn repair` makes them "
        "equal now; if that fails, `dyn task list` says why"
        for member in by_name(layout)
        if (ages_s := reports.get(member.id, {}).get("overdue_s"))
        for other in by_name(layout)
        if other.id in ages_s
    ]


def _hours(age_s: int) -> str:
    return f"{age_s // 60} min" if age_s < 7200 else f"{age_s // 3600} h"


def full(layout: Layout, reports: Mapping[str, Document]) -> list[str]:
    """Remarks on full disks. Such a node takes no writes, nor data that moves; the other nodes do."""
    remarks = []
    for room, refused in (
        (FOR_DELETIONS, "writes are refused there"),
        (FOR_NOTHING, "writes and deletions are refused there"),
    ):
        names = [member.name for member in by_name(layout) if _room(reports.get(member.id, {})) == room]
        if names:
            name = names[0] if len(names) == 1 else "NAME"
            remarks.append(
                f"{', '.join(names)}: no room on the disk, {refused}; free some space (disk_free_bytes_min), then "
                "it goes on by itself. If the disk is too small: `dyn cluster join HOST:PORT` shares the data with a new "
                f"node, `dyn cluster replace {name} HOST:PORT` moves it to a fresh one"
            )
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
                f"{member.name} has {report['damaged']} damaged records that wait for copies of other owners: `dyn repair` "
                "asks for these now"
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
