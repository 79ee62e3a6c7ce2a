"""The remarks of `cluster status` on members that cannot be reached and on copied directories, with advice.

Theory. What an operator does about a node that is down depends on the reason. A process that has stopped is started again.
If the process runs at another address, the operator tells the cluster that address. If the machine does not answer, the
operator looks at the machine. The reasons are the errors of our own links (addresses.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from server.core.base.state import DAMAGED
from server.core.membership.addresses import (
    ELSEWHERE,
    REFUSED,
    SILENT,
    STOPPED,
    UNPROVEN,
    UNREACHABLE,
    UNRESOLVED,
)
from server.core.membership.authentication import NONE, OPEN
from server.core.operators.documents import Document, by_name
from server.core.ring.addresses import shown_address
from server.core.ring.layout import Layout, Member
from server.core.services.services import Services

NO_TROUBLES: Mapping[str, tuple[str, str]] = {}


def said_of(member: Member, state: str, why: str, since_ms: int | None = None) -> str:
    """The summary's words for a member that is not up. `since_ms`: when it was last heard, in ms since 1970."""
    since = f" since {utc(since_ms)}" if since_ms is not None else ""
    return f"{member.name} ({shown_address(member.address)}) is {state}" + (f" ({why})" if why else "") + since


def utc(time_ms: int) -> str:
    """A time for people: `2026-11-30T09:16:51Z`."""
    return datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


_START = "start it again with `dyn node start --dir DIR` on its machine, or `dyn up --dir DIR` here"
_MOVED = "if it runs at another address, `dyn cluster readdress HOST:PORT` tells the cluster"
RUNNING = (REFUSED, UNPROVEN)  # why a member is down for this node alone: that member runs, and said so
_ADVICE = {
    STOPPED: f"{_START}; {_MOVED}",
    UNREACHABLE: f"look at its machine and at the network to it; {_MOVED}",
    UNRESOLVED: f"look at the host name; {_MOVED}",
    ELSEWHERE: f"start it if it does not run; {_MOVED}",
    SILENT: "its process stands still or its machine is overloaded: look there",
    REFUSED: "the log of this node has more",
    UNPROVEN: "copy the file `secret` from the directory of a node that is up into its directory (mode 600)",
}


def advice_on(reasons: Sequence[str]) -> str:
    """Advice about nodes that cannot be reached for these reasons, each piece once."""
    advice = "; ".join(_ADVICE.get(reason, _START) for reason in reasons)
    return "; ".join(dict.fromkeys(advice.split("; ")))


def advice_if_gone(down: Sequence[str]) -> str:
    """Advice about members, by name, that are down: what follows their return, and what to do if they never return."""
    if not down:
        return ""
    name = down[0] if len(down) == 1 else "NAME"
    return (
        f". If {'it' if len(down) == 1 else 'a node'} comes back, nothing more is needed. If it is gone for good: "
        f"`dyn cluster replace {name} HOST:PORT` with a fresh node, or `dyn cluster remove {name}`, then `dyn cluster plan`"
    )


def failing(layout: Layout, reports: Mapping[str, Document]) -> list[str]:
    """Remarks on background procedures that have met an error lately and begin again."""
    return [
        f"{member.name}: {name} has met {failure['errors']} errors and begins again, the last one: {failure['error']}"
        for member in by_name(layout)
        for name, failure in reports.get(member.id, {}).get("failing", {}).items()
    ]


def own_notices(layout: Layout, reports: Mapping[str, Document]) -> list[str]:
    """Remarks of nodes on themselves (`Process.notices`), without those that `urgent_notices` returns."""
    return _notices(layout, reports, is_urgent=False)


def urgent_notices(layout: Layout, reports: Mapping[str, Document]) -> list[str]:
    """Remarks of nodes on themselves that an operator should act on: little room on a disk, a certificate that ends."""
    return _notices(layout, reports, is_urgent=True)


def _notices(layout: Layout, reports: Mapping[str, Document], is_urgent: bool) -> list[str]:
    """A remark that several nodes make stands there once. Reports of earlier versions call none urgent."""
    names: dict[str, list[str]] = {}
    for member in by_name(layout):
        report = reports.get(member.id, {})
        for notice in report.get("notices", ()):
            if (notice in report.get("urgent", ())) is is_urgent:
                names.setdefault(notice, []).append(member.name)
    return [f"{', '.join(nodes)}: {notice}" for notice, nodes in names.items()]


def held_back(layout: Layout, reports: Mapping[str, Document]) -> list[str]:
    """Remarks on what has ended a node, and is held back for a while (base/quarantine.py)."""
    return [
        f"{member.name} holds back {label} for a while, because it has ended a node ({count} times): the log of that node "
        "has the tracebacks"
        for member in by_name(layout)
        for label, count in reports.get(member.id, {}).get("held_back", {}).items()
    ]


def copies_of(reports: Mapping[str, Document]) -> dict[str, list[str]]:
    """The addresses of processes that run on a copy of a node's directory and were refused lately, by the node's id."""
    found: dict[str, dict[str, None]] = {}
    for report in reports.values():
        for node, seen in report.get("copies", {}).items():
            found.setdefault(node, {}).update(dict.fromkeys(seen))
    return {node: list(seen) for node, seen in found.items()}


def set_back(layout: Layout, reports: Mapping[str, Document], is_refused: bool) -> list[str]:
    """Remarks on members that came back with an older copy of their directory (rollback.py); `is_refused`: this node is
    one."""
    refused = [node for report in reports.values() for node in report.get("gone_back", ())]
    taken = [node for report in reports.values() for node in report.get("taken_back", ())]
    remarks = [
        f"{member.name} came back with an older copy of its directory and is refused: once all other members are up it "
        "begins an empty store by itself, which they fill (`dyn node start --rebuild` does that at once)"
        for member in by_name(layout)
        if member.id in refused
    ]
    names = [member.name for member in by_name(layout) if member.id in taken]
    if names:
        remarks.append(
            f"{', '.join(names)} came back with older copies of their directories, several at once, and were taken as they "
            "are: keys that were deleted since may be back"
        )
    if is_refused:
        remarks.append("this node came back with an older copy of its directory, and other members refuse it")
    return remarks


def set_aside(layout: Layout, reports: Mapping[str, Document]) -> list[str]:
    """Remarks on nodes that have set a store aside lately. The reason is part of the store's name."""
    remarks = []
    for member in by_name(layout):
        aside = reports.get(member.id, {}).get("aside")
        if aside:
            is_damaged = DAMAGED in aside
            why = "could not read all of its store" if is_damaged else "came back with an older copy of its directory"
            remarks.append(
                f"{member.name} {why}: that is now {aside} there, and {member.name} began empty and was filled"
            )
    return remarks


def unauthenticated(layout: Layout, reports: Mapping[str, Document]) -> list[str]:
    """Remarks on nodes that anybody can pass himself off as: they have no secret, or do not require proofs yet. Reports of
    earlier versions do not say."""
    modes = {
        member.name: reports[member.id].get("peer_auth", NONE) for member in by_name(layout) if member.id in reports
    }
    without = [name for name, mode in modes.items() if mode == NONE]
    if modes and len(without) == len(modes):
        return [
            "nodes are not authenticated: whoever reaches a port may act as a node; make a secret with `dyn secret make "
            "FILE`, and give it to all nodes as DIR/secret"
        ]
    if without:
        return [f"nodes are not authenticated before {', '.join(without)} has the secret, too: copy the file `secret` of "
                "another node into its directory (mode 600)"]  # fmt: skip
    lax = [name for name, mode in modes.items() if mode == OPEN]
    return [f"{', '.join(lax)} does not require other nodes to prove the secret yet"] if lax else []


def _places(addresses: Sequence[str], address: str) -> str:
    """Where the copies of a node's directory were started. A copy may have the address that it advertises from that node,
    so that this tells nothing."""
    others = [each for each in addresses if each != address]
    return f"at {' and '.join(others)}" if others else "on some machine with the same advertised address"


def copies(services: Services, layout: Layout, reports: Mapping[str, Document]) -> list[str]:
    """Remarks on copied directories, and on this node if the others take it for a copy."""
    copied = copies_of(reports)
    remarks = [
        f"a copy of the directory of {member.name} ({shown_address(member.address)}) was started "
        f"{_places(copied[member.id], member.address)} and is refused: stop that process and remove the copy"
        for member in by_name(layout)
        if member.id in copied
    ]
    refusal = services.duplicates.refusal_of_us
    return [*remarks, f"the other nodes refuse this process: {refusal}"] if refusal else remarks
