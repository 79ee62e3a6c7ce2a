"""Addresses: this node tells where it is, and learns the addresses that others tell.

The idea. A node knows its own address best, and the layout spreads it. If a process starts at another address than the
layout has, or later finds another one in the layout, it makes the change (succession.py: `move`). Every node that has a
link with it then gets the new layout, and passes it on.

That does not help if all nodes have moved at once, because then no node reaches another. So a node that misses members
asks at further addresses, its seeds, who is there (`DYN.CLUSTER MYSELF`), and adopts the address that a member tells of
itself. One seed that can be reached, from either side, is enough: the link that follows brings the two layouts together.
A node that answers is recognised by its id and cluster, never by its address, because addresses are reused. An operator
names seeds to a running node by `DYN.CLUSTER READDRESS`.

`troubles` says why a member cannot be reached. Operators treat a process that has stopped differently from an address that
leads nowhere.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from server.core.base.state import State
from server.core.membership.duplicates import DuplicateDetector
from server.core.membership.membership import Membership
from server.core.membership.rollback import SETBACK, RollbackDetector
from server.core.ring.addresses import is_unknown, is_wildcard
from server.core.ring.layout import Layout, Member
from server.core.ring.layout_faults import is_address
from server.core.ring.succession import ChangeError, move, moved_ms, readdress

# Why a member cannot be reached.
STOPPED = "stopped"  # its machine answers, but no process listens there
UNREACHABLE = "unreachable"  # nothing answers
UNRESOLVED = "unresolved"  # the host name leads to no address
SILENT = "silent"  # a connection is accepted, but nothing is sent
ELSEWHERE = "elsewhere"  # another node answers, or the address is unknown
REFUSED = "refused"  # it refuses our connection, and says why
UNPROVEN = "unproven"  # it does not prove the secret of the cluster (authentication.py)

_AGAIN_MS = 1000
_AGAIN_MS_MAX = 60_000

_FOR, _AT = b"FOR", b"AT"  # in an introduction: precede the id of the node that is wanted, and the sender's address

Report = Callable[[list[dict[str, str]]], None]


def looked_for(words: Sequence[bytes]) -> tuple[str, str]:
    """The id of the node that an introduction is for, and the address of its sender; empty from earlier versions.

    `words` are those behind the incarnation.
    """
    found = {word: following for word, following in itertools.pairwise(words) if word in (_FOR, _AT)}
    return found.get(_FOR, b"").decode("utf-8", "replace"), found.get(_AT, b"").decode("utf-8", "replace")


def _is_usable(address: str) -> bool:
    return is_address(address) and not is_unknown(address) and not is_wildcard(address)


class Addresses:
    """Corrects the addresses of this node and of its peers in the layout.

    `searches` holds addresses at which an operator wants this node to ask who is there, each with a function to report the
    outcomes to. The shell removes and runs them at the end of the turn.
    """

    def __init__(
        self, state: State, membership: Membership, duplicates: DuplicateDetector, rollback: RollbackDetector
    ) -> None:
        self._state = state
        self._rollback = rollback
        self._membership = membership
        self._duplicates = duplicates
        self._judged: Layout | None = None  # the layout in which our address was checked last
        self._again_ms = 0
        self._pause_ms = _AGAIN_MS
        # By peer that cannot be reached: one of the words above, and details.
        self.troubles: dict[str, tuple[str, str]] = {}
        self.searches: list[tuple[list[str], Report]] = []
        self._former = ""  # our address in the layout at the start: another node that has moved, too, may be there now

    def begin(self) -> None:
        """At the start of the process: if this node has moved, puts its address into the layout.

        A member that has this address in the layout is there no more.
        """
        layout = self._state.layout
        if layout is not None and self._is_listed_elsewhere(layout):
            self._former = next(member.address for member in layout.members if member.id == self._state.id)
            holders = [member for member in layout.members if member.address == self._state.member.address]
            self._correct(layout, holders)

    def tick(self) -> None:
        """Corrects a layout that has another address for this node, ever more rarely.

        If another member claims our address, an operator has to decide: this node does not contend for it.
        """
        self._duplicates.tick()
        layout, now_ms = self._state.layout, self._state.now_ms
        if layout is None or layout is self._judged or now_ms < self._again_ms:
            return
        self._judged = layout
        here = self._state.member.address
        if self._is_listed_elsewhere(layout) and all(member.address != here for member in layout.members):
            self._again_ms = now_ms + self._pause_ms
            # The pause grows, so that two processes with one id do not load the other nodes.
            self._pause_ms = min(2 * self._pause_ms, _AGAIN_MS_MAX)
            self._correct(layout, [])

    def _is_listed_elsewhere(self, layout: Layout) -> bool:
        here = self._state.member.address
        listed = next((member.address for member in layout.members if member.id == self._state.id), here)
        return listed != here and not is_wildcard(here)

    def _correct(self, layout: Layout, holders: list[Member]) -> None:
        state = self._state
        last_ms = max([moved_ms(layout, node) for node in [state.id, *(member.id for member in holders)]])
        change = move(state.id, state.member.address, max(state.incarnation, last_ms + 1))
        try:
            self._membership.make(readdress(layout, change))
        except ChangeError:
            return  # no address that a layout may have

    @property
    def moved_ms(self) -> int:
        """When this node came to its address, in ms since 1970, by the layout's log; else its incarnation."""
        layout = self._state.layout
        return (moved_ms(layout, self._state.id) if layout is not None else 0) or self._state.incarnation

    # --- others

    def search(self, addresses: list[str], report: Report) -> None:
        """Asks at addresses who is there; `report` gets what came of it, in a later turn."""
        self.searches.append((addresses, report))

    def drain_searches(self) -> list[tuple[list[str], Report]]:
        """What `search` was called with since the last call."""
        searches, self.searches = self.searches, []
        return searches

    def missing(self) -> list[str]:
        """The ids of the members that this node has no link to."""
        layout, state = self._state.layout, self._state
        members = layout.members if layout is not None else ()
        return [member.id for member in members if member.id != state.id and member.id not in state.links]

    def greeting(self, peer: str) -> tuple[bytes | str, ...]:
        """The words behind the introduction to `peer`: its id, our address, and the incarnations of our store.

        Earlier versions ignore them.
        """
        if self._state.layout is None:
            return ()
        return (_FOR, peer, _AT, self._state.member.address, *self._rollback.introduction())

    def mistaken(self, wanted: str) -> str:
        """The error text for a node that wants another node here; empty if it wants this one or does not say."""
        me = self._state.member
        return f"OTHER node {me.name} answers there" if wanted not in ("", me.id) else ""

    def refusal_received(self, peer: str, text: str, now_ms: int) -> bool:
        """Handles the error text with which the node at the address of `peer` refuses our link. False: log it."""
        self._state.at(now_ms)
        text = text.removeprefix("-")
        code, _, rest = text.partition(" ")
        if code == "WAIT":
            return True  # it first checks whether our former process is alive
        if code == "COPY":
            self._duplicates.refusal_of_us = text
        if code == SETBACK:
            self._rollback.refusal_received(peer, text)
        if code == "OTHER":
            self.trouble(peer, ELSEWHERE, rest)
            self._state.liveness.link_refused(peer, now_ms)
        else:
            self.trouble(peer, REFUSED, f"it refuses this node: {text}")
        return self._membership.refusal_received(text)

    def arrived(self, peer: str, incarnation: int, address: str) -> None:
        """A process of `peer` has opened a link to us and said its address. The layout is corrected if it has another one.

        Without that we could not open a link back, if the peer's layout does not have the change either.
        """
        layout = self._state.layout
        member = next((member for member in layout.members if member.id == peer), None) if layout is not None else None
        if layout is not None and member is not None and member.address != address and _is_usable(address):
            self._adopt_address(layout, member, address, incarnation)

    def trouble(self, peer: str, kind: str, text: str) -> None:
        """Notes why no link to `peer` could be opened."""
        self.troubles[peer] = (kind, text)

    def trouble_with(self, peer: str) -> tuple[str, str]:
        """Why a member that is not up cannot be reached. One that has a link to us and sends nothing is SILENT."""
        if peer in self._state.links:
            return SILENT, "it is connected and does not answer"
        return self.troubles.get(peer, ("", ""))

    def places(self) -> list[str]:
        """Addresses where a missing member may be, beside the seeds: those of missing members, and our former one."""
        layout, missing = self._state.layout, self.missing()
        members = layout.members if layout is not None else ()
        listed = [member.address for member in members if member.id in missing and not is_unknown(member.address)]
        return [*listed, self._former] if self._former and missing else listed

    def is_ahead(self, myself: Mapping[str, Any]) -> bool:
        """Whether a node that says this of itself has a later layout than ours: it may have members that we do not know.

        Then it has to learn our address, so that it opens a link and sends its layout.
        """
        layout, epoch = self._state.layout, myself.get("epoch")
        same = layout is not None and myself.get("cluster") == layout.cluster
        return same and layout is not None and isinstance(epoch, int) and epoch > layout.epoch

    def found(self, asked: str, myself: Mapping[str, Any]) -> dict[str, str]:
        """Handles what the node at the address `asked` says of itself (`DYN.CLUSTER MYSELF`).

        If it is a member without a link to us, its address goes into the layout. Returns {"asked", "node" (its id),
        "address", "error"}; the error is empty for this node itself and for members.
        """
        state, layout = self._state, self._state.layout
        node, name, address, cluster = (str(myself.get(field, "")) for field in ("id", "name", "address", "cluster"))
        address = asked if is_address(address) and is_wildcard(address) else address  # an earlier version may say that
        outcome = {"asked": asked, "node": name, "address": address, "error": ""}
        if layout is None:
            return outcome | {"error": f"node {state.member.name} belongs to no cluster itself"}
        if node == state.id:
            is_me = myself.get("incarnation") in (None, state.incarnation)
            return outcome | {"error": "" if is_me else f"a process on a copy of the directory of node {name}: stop it"}
        # A member that has lost its disk, or has not got its first layout yet, knows no cluster.
        if cluster != layout.cluster and (cluster or node not in state.members):
            belongs = f"belongs to cluster {cluster}, not to {layout.cluster}" if cluster else "belongs to no cluster"
            return outcome | {"error": f"node {name} {belongs}"}
        member = next((member for member in layout.members if member.id == node), None)
        if member is None:
            return outcome | {"error": f"node {name} is no member at epoch {layout.epoch}"}
        if member.address != address and _is_usable(address):
            self._adopt_address(layout, member, address, myself.get("moved_ms"))
        return outcome

    def _adopt_address(self, layout: Layout, member: Member, address: str, moved_at_ms: object) -> None:
        """Puts the address that a member says is its own into the layout, unless we have a link to it already."""
        if member.id in self._state.links:
            return
        at_ms = moved_at_ms if isinstance(moved_at_ms, int) else self._state.time_ms
        held = [other.id for other in layout.members if other.address == address]
        if any(other in self._state.links or other == self._state.id for other in held):
            return  # another live node has that address
        last_ms = max([moved_ms(layout, node) for node in [member.id, *held]])
        try:
            self._membership.make(readdress(layout, move(member.id, address, max(at_ms, last_ms))))
        except ChangeError:
            return
