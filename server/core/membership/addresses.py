"""Where members are: this node says where it is, and takes up where others say they are.

Theory. A node's own word on its address is right, and the layout spreads it: a process that starts at another address
than the layout has, or finds later that the layout has another one, makes the change (succession.py: `move`). Whoever it
reaches, or who reaches it, has the new layout from then on, and so has everybody in turn.

That does not help when all nodes have moved at once, for then nobody reaches anybody. So a node that misses members asks
at further addresses, its seeds, who is there (`DYN.CLUSTER MYSELF`), and takes up the address that a member tells of
itself. One seed that can be reached is enough, from either side: the link that follows brings both layouts together.
Who answers is known by its id and its cluster, never by its address, for addresses change hands. An operator names seeds
to a running node by `DYN.CLUSTER READDRESS`.

`troubles` says why a member cannot be reached: operators do one thing about a process that has stopped, another about
an address that leads nowhere.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from server.core.base.state import State
from server.core.membership.copies import Copies
from server.core.membership.lives import SETBACK, Lives
from server.core.membership.membership import Membership
from server.core.ring.addresses import is_unknown, is_wildcard
from server.core.ring.layout import Layout, Member
from server.core.ring.layout_faults import is_address
from server.core.ring.succession import ChangeError, move, moved_ms, readdress

# Why a member cannot be reached.
STOPPED = "stopped"  # its machine answers, and no process listens there
UNREACHABLE = "unreachable"  # nothing answers
UNRESOLVED = "unresolved"  # the host name leads to no address
SILENT = "silent"  # a connection is taken, and nobody speaks
ELSEWHERE = "elsewhere"  # another node answers, or nobody knows its address
REFUSED = "refused"  # it does not take our connection, and says why

_AGAIN_MS = 1000
_AGAIN_MS_MAX = 60_000

_FOR, _AT = b"FOR", b"AT"  # in an introduction, before whom it looks for and where its sender is

Report = Callable[[list[dict[str, str]]], None]


def looked_for(words: Sequence[bytes]) -> tuple[str, str]:
    """Of the words behind the incarnation in an introduction: the id of the node that it is for, and the address of its
    sender; empty where an earlier version does not say."""
    told = {word: following for word, following in itertools.pairwise(words) if word in (_FOR, _AT)}
    return told.get(_FOR, b"").decode("utf-8", "replace"), told.get(_AT, b"").decode("utf-8", "replace")


def _is_usable(address: str) -> bool:
    return is_address(address) and not is_unknown(address) and not is_wildcard(address)


class Addresses:
    """The addresses of this node and of its peers. `searches` are addresses at which operators want us to ask who is there,
    and where to report what came of it: the shell takes them at the end of the turn."""

    def __init__(self, state: State, membership: Membership, copies: Copies, lives: Lives) -> None:
        self._state = state
        self._lives = lives
        self._membership = membership
        self._copies = copies
        self._judged: Layout | None = None  # the layout of which we know whether it has our address
        self._again_ms = 0
        self._pause_ms = _AGAIN_MS
        self.troubles: dict[
            str, tuple[str, str]
        ] = {}  # of a peer that cannot be reached: one of the words above, details
        self.searches: list[tuple[list[str], Report]] = []
        self._former = ""  # where the layout had this node at the start: somebody who has moved, too, may be there now

    def begin(self) -> None:
        """At the start of the process: a node that has moved says where it is. Who was there before is there no more."""
        layout = self._state.layout
        if layout is not None and self._is_listed_elsewhere(layout):
            self._former = next(member.address for member in layout.members if member.id == self._state.id)
            holders = [member for member in layout.members if member.address == self._state.member.address]
            self._correct(layout, holders)

    def tick(self) -> None:
        """A layout that has another address for us was made by somebody who did not know better: it is put right. Where a
        second member says that it has our address, an operator has to look at that; we do not contend for it."""
        self._copies.tick()
        layout, now_ms = self._state.layout, self._state.now_ms
        if layout is None or layout is self._judged or now_ms < self._again_ms:
            return
        self._judged = layout
        here = self._state.member.address
        if self._is_listed_elsewhere(layout) and all(member.address != here for member in layout.members):
            self._again_ms = now_ms + self._pause_ms
            self._pause_ms = min(2 * self._pause_ms, _AGAIN_MS_MAX)  # two of us must not wear out the others
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
        """When this node came to where it is, as its change of address says it."""
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
        """The members that we have no connection to."""
        layout, state = self._state.layout, self._state
        members = layout.members if layout is not None else ()
        return [member.id for member in members if member.id != state.id and member.id not in state.links]

    def greeting(self, peer: str) -> tuple[bytes | str, ...]:
        """What stands behind the introduction to `peer`: whom it is for, where we are, and the lives of our store. Earlier
        versions ignore it."""
        if self._state.layout is None:
            return ()
        return (_FOR, peer, _AT, self._state.member.address, *self._lives.introduction())

    def mistaken(self, wanted: str) -> str:
        """The error for a node that looks for another one here; empty if it has found whom it wants, or does not say."""
        me = self._state.member
        return f"OTHER node {me.name} answers there" if wanted not in ("", me.id) else ""

    def heard_refusal(self, peer: str, text: str, now_ms: int) -> bool:
        """Who answers at the address of `peer` does not take our connection, with this error text. False if the log should
        say so."""
        self._state.at(now_ms)
        text = text.removeprefix("-")
        code, _, rest = text.partition(" ")
        if code == "WAIT":
            return True  # it first looks whether our former process is alive
        if code == "COPY":
            self._copies.refusal_of_us = text
        if code == SETBACK:
            self._lives.heard_refusal(peer, text)
        if code == "OTHER":
            self.trouble(peer, ELSEWHERE, rest)
            self._state.liveness.link_refused(peer, now_ms)
        else:
            self.trouble(peer, REFUSED, f"it refuses this node: {text}")
        return self._membership.heard_refusal(text)

    def arrived(self, peer: str, incarnation: int, address: str) -> None:
        """A process of `peer` has connected to us and says where it is. Its layout may be older than ours, and have nothing
        to say on that; we could not answer it then."""
        layout = self._state.layout
        member = next((member for member in layout.members if member.id == peer), None) if layout is not None else None
        if layout is not None and member is not None and member.address != address and _is_usable(address):
            self._take_up(layout, member, address, incarnation)

    def trouble(self, peer: str, kind: str, text: str) -> None:
        """No connection to `peer` could be made."""
        self.troubles[peer] = (kind, text)

    def trouble_with(self, peer: str) -> tuple[str, str]:
        """Why a member that is not up cannot be reached. One that has a connection and says nothing stands still."""
        if peer in self._state.links:
            return SILENT, "it is connected and does not answer"
        return self.troubles.get(peer, ("", ""))

    def places(self) -> list[str]:
        """Where a member that is missing may be, beside the seeds: where others were. Addresses change hands."""
        layout, missing = self._state.layout, self.missing()
        members = layout.members if layout is not None else ()
        listed = [member.address for member in members if member.id in missing and not is_unknown(member.address)]
        return [*listed, self._former] if self._former and missing else listed

    def is_ahead(self, told: Mapping[str, Any]) -> bool:
        """Whether a node that tells this of itself goes by a later layout than we, with members that we do not know: then
        it has to hear where we are, and tells us of them."""
        layout, epoch = self._state.layout, told.get("epoch")
        same = layout is not None and told.get("cluster") == layout.cluster
        return same and layout is not None and isinstance(epoch, int) and epoch > layout.epoch

    def found(self, asked: str, told: Mapping[str, Any]) -> dict[str, str]:
        """The node that answered at the address `asked` says this of itself (`DYN.CLUSTER MYSELF`). A member that cannot be
        reached is looked for at the address that it tells. Answers who it is, and what is wrong with that."""
        state, layout = self._state, self._state.layout
        node, name, address, cluster = (str(told.get(field, "")) for field in ("id", "name", "address", "cluster"))
        address = asked if is_address(address) and is_wildcard(address) else address  # an earlier version may say that
        outcome = {"asked": asked, "node": name, "address": address, "error": ""}
        if layout is None:
            return outcome | {"error": f"node {state.member.name} belongs to no cluster itself"}
        if node == state.id:
            is_me = told.get("incarnation") in (None, state.incarnation)
            return outcome | {"error": "" if is_me else f"a process on a copy of the directory of node {name}: stop it"}
        if cluster != layout.cluster:
            belongs = f"belongs to cluster {cluster}, not to {layout.cluster}" if cluster else "belongs to no cluster"
            return outcome | {"error": f"node {name} {belongs}"}
        member = next((member for member in layout.members if member.id == node), None)
        if member is None:
            return outcome | {"error": f"node {name} is no member at epoch {layout.epoch}"}
        if member.address != address and _is_usable(address):
            self._take_up(layout, member, address, told.get("moved_ms"))
        return outcome

    def _take_up(self, layout: Layout, member: Member, address: str, told_ms: object) -> None:
        """A member says that it is at `address`. That does not count while it is where the layout has it."""
        if member.id in self._state.links:
            return
        at_ms = told_ms if isinstance(told_ms, int) else self._state.time_ms
        held = [other.id for other in layout.members if other.address == address]
        if any(other in self._state.links or other == self._state.id for other in held):
            return  # that one is there, and two cannot be
        last_ms = max([moved_ms(layout, node) for node in [member.id, *held]])
        try:
            self._membership.make(readdress(layout, move(member.id, address, max(at_ms, last_ms))))
        except ChangeError:
            return
