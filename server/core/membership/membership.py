"""Membership: how this node gets a layout, replaces it by a newer one, publishes its own, and leaves the cluster.

The idea (Dynamo, section 4.8; P9). A layout is a document. A node that receives another layout than its own merges the two
(merging.py). The merge gives the same result everywhere, so all nodes that can reach each other end with the same
layout, whatever was committed where. Layouts meet in three ways: when a link opens, when a node makes a layout and sends it
to all others, and when a gossip message carries the *view* of a layout (views.py). So no difference lasts longer than
gossip takes.

Some parts of a layout take long to compute: the owners after a merge, and the preference lists. They are computed over many
turns (work/computing.py) before the layout is adopted. If another layout is adopted meanwhile, the computation begins anew
from that one.

The turn that adopts a layout stores it in its batch, before any other node hears of it. `adopted` answers the question that
every phase of a change waits for: has this node adopted exactly this document, and has it finished all requests that it
began under an earlier one?

A node that opens a link tells the version of its layout. If it is no member by this node's layout and its own layout is
older, it is told that it has been removed (GONE). Its records and hints are refused, because they may be old, and would
bring back what was deleted since (P7). Its layout is accepted: it may be newer, and two sides of a partition may each
have members that the other side does not know. A node that finds itself removed has *left*: it has no layout any more,
and a mark on its disk says so. If it is joined again, it first deletes everything that it stored as a member, because the
cluster may have collected tombstones since.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from typing import Any

from server.core.base.errors import has_left
from server.core.base.room import FOR_NOTHING
from server.core.base.state import State
from server.core.liveness.liveness import PeerState
from server.core.membership.views import Views
from server.core.messages import shapes
from server.core.messages.announcements import LayoutView
from server.core.messages.stored import stored
from server.core.records.records import RECORDS_END
from server.core.records.versions import DamagedRecord
from server.core.requests.groups import GroupTable
from server.core.ring.layout import SETTLED, Layout
from server.core.ring.merging import merged
from server.core.ring.succession import LOG_MAX
from server.core.work.background import Background
from server.core.work.computing import Computing
from server.core.work.procedures import Step, Steps

DOWN_MS = 6000  # a member that this process has watched for less is not considered down
GONE = "GONE"
_LEFT, _LAYOUT = b"left", b"layout"
_LEFT_UNKNOWN: tuple[str, int] | None = ("", 0)  # stands for a damaged mark: the node left some cluster
_CLEARED_KEYS = 200  # deleted in a turn
_AGAIN_MS = 1000
_DIGITS_MAX = 18
ADOPT_UNITS = 8  # units of work (ring/computation.py) per partition to adopt a layout; most of it is for routes
DECODE_UNITS = 8  # units of work per partition to decode a layout
OFFERS_MAX = 32  # layouts that wait to be merged; further ones are dropped, and gossip brings them again


class Membership:
    """Holds this node's layout and changes it. `tables` are the requests in flight; `listeners` run after each change."""

    def __init__(
        self,
        state: State,
        background: Background,
        computing: Computing,
        tables: Sequence[GroupTable[Any]],
        listeners: Sequence[Callable[[], None]],
    ) -> None:
        self._state = state
        self._background = background
        self._computing = computing
        self._tables = tables
        self._listeners = listeners
        self._adopted_number = 0
        self._known_ms: dict[str, int] = {}  # by member: since when this process watches it
        self._left: tuple[str, int] | None = None  # the cluster that this node has left, and the epoch
        self._rejoined: Layout | None = None  # the layout to adopt once the records from before are deleted
        self._offers: list[Layout] = []  # layouts still to be merged with the present one
        self.views = Views(state)

    def begin(self) -> None:
        """Loads what the last process on this store has stored."""
        state = self._state
        left = stored(state.records, _LEFT, _left_in, None, _LEFT_UNKNOWN)
        if left is not None:
            self._note_left(*left)
        layout = stored(state.records, _LAYOUT, _layout_in, None, None)  # if it is damaged, a member sends it again
        if layout is not None:
            self._adopt(layout)

    def _notify_listeners(self) -> None:
        for listener in self._listeners:
            listener()

    @property
    def left(self) -> tuple[str, int] | None:
        """The cluster that this node has left, and the epoch; None if it has left none or is a member again."""
        return self._left

    # --- adopting a layout

    def offer(self, layout: Layout) -> bool:
        """Adopts the merge of `layout` and the present layout once it is computed. False if that changes nothing."""
        present = self._state.layout
        if self._state.room == FOR_NOTHING:
            return False  # it cannot be stored; gossip brings it again
        if present is None:
            return self._enter(layout)
        if present.cluster != layout.cluster:
            return False
        if layout == present or layout in self._offers or len(self._offers) >= OFFERS_MAX:
            return False
        self._offers.append(layout)
        if len(self._offers) == 1:
            self._background.run_to_end("layout merge", self._merge_offers)
        return self._state.layout is not present or bool(self._offers)

    def _merge_offers(self) -> Steps:
        """Merges each layout that was offered with the present one."""
        state = self._state
        while self._offers:
            present, offered = state.layout, self._offers[0]
            if present is None or present.cluster != offered.cluster or state.room == FOR_NOTHING:
                self._offers.pop(0)
                if present is None and state.room != FOR_NOTHING:  # this node has left meanwhile
                    self._enter(offered)
                continue
            following = yield from self._computing.run(merged(present, offered))
            if following != present:
                yield from self.prepare(following)
            if state.layout is not present:
                continue
            self._offers.pop(0)
            if following == offered:
                self._adopt_or_leave(following)
            elif following != present:
                self.publish(following)
        return None

    def prepare(self, layout: Layout) -> Generator[Step, Any, None]:
        """Computes over several turns what `layout` needs before it is adopted, unless that was done before."""
        if layout.is_prepared:
            return
        yield from self._computing.run(layout.prepared())
        yield from self._computing.reserve(ADOPT_UNITS * layout.partitions)

    def make(self, layout: Layout) -> None:
        """Prepares and publishes a layout that was made here, unless another one is adopted meanwhile."""
        self._background.run("layout publication", self._make(layout))

    def _make(self, layout: Layout) -> Steps:
        present = self._state.layout
        yield from self.prepare(layout)
        if self._state.layout is present:
            self.publish(layout)
        return None

    def publish(self, layout: Layout) -> None:
        """Stores and adopts a layout that was made here, and sends it to all members, then to former members.

        Former members are last because they forget the layout: they must not be the only nodes that received it."""
        state = self._state
        before = state.layout
        members = [*layout.members, *(before.members if before is not None else ())]
        self._adopt_or_leave(layout)
        self.views.publish(layout, [member.id for member in members])

    def _enter(self, layout: Layout) -> bool:
        """Adopts the first layout of this node, or the first one since it left. False if the layout is refused.

        this node is a member by it   it has left a cluster   the layout
        no                            -                       refused
        yes                           no                      adopted
        yes                           yes, another one        adopted after the old records are deleted
        yes                           yes, the same           the same, if it is newer than the one by which the node left,
                                                              or still lists the node as leaving
        """
        state = self._state
        if all(member.id != state.id for member in layout.members):
            return False
        if self._left is None:
            self._background.run("layout entry", self._enter_first(layout))
            return True
        cluster, epoch = self._left
        # Two coordinators may release different nodes at once. One release loses the merge: its node is still a member.
        still_leaves = layout.phase == SETTLED and state.id in layout.leaving and layout.epoch == epoch
        if layout.cluster == cluster and layout.epoch <= epoch and not still_leaves:
            return False  # it is older than the removal
        idle = self._rejoined is None
        if self._rejoined is None or layout.wins_over(self._rejoined):
            self._rejoined = layout
        if idle:
            self._background.run_to_end("clearing", self._clear)
        return True

    def _enter_first(self, layout: Layout) -> Steps:
        yield from self.prepare(layout)
        if self._state.layout is None and self._left is None:
            self._adopt_or_leave(layout)
        else:
            self.offer(layout)
        return None

    def _clear(self) -> Steps:
        """Deletes all records from before this node left, then adopts the layout that was offered last."""
        records = self._state.records
        self._state.hints.drop_all()
        while True:
            try:
                pairs = records.page(b"", RECORDS_END, _CLEARED_KEYS)
                for key, _ in pairs:
                    self._drop(key)
            except DamagedRecord:  # the engine cannot read a range: an operator has to look at this disk
                yield self._background.sleep(_AGAIN_MS)
                continue
            if not pairs:
                break
            turn = self._state.turn
            while self._state.turn == turn:  # the deletion is on disk before this node is a member again
                yield self._background.sleep(1)
        layout = self._rejoined
        while layout is not None:
            yield from self.prepare(layout)
            if layout is self._rejoined:  # else a later one was offered meanwhile
                break
            layout = self._rejoined
        self._rejoined = None
        if layout is not None and self._state.layout is None:
            self._adopt_or_leave(layout)
        return None

    def _drop(self, key: bytes) -> None:
        try:
            self._state.records.remove(key)
        except DamagedRecord:
            self._state.records.mend(key, None)

    def _adopt_or_leave(self, layout: Layout) -> None:
        """Stores and adopts a prepared layout; if this node is no member by it, the node leaves."""
        state = self._state
        if all(member.id != state.id for member in layout.members):
            self._leave(layout.cluster, layout.epoch)
            return
        state.records.put_document(_LAYOUT, layout.encode())
        if self._left is not None:
            self._left = None
            state.records.put_document(_LEFT, None)
        self._adopt(layout)

    def _adopt(self, layout: Layout) -> None:
        state = self._state
        before = state.layout
        state.adopt(layout)
        self._known_ms = {node: since_ms for node, since_ms in self._known_ms.items() if node in state.members}
        self.views.forget_strangers()
        self._adopted_number = state.next_number()
        if before is not None and _loses_some(before, layout, state.id):
            state.renew_actor()  # an actor must know all its dots (P2): cleanup will delete records that have some
        self._notify_listeners()

    # --- leaving

    def removal_received(self, epoch: int, revision: int) -> None:
        """Leaves, because a member refuses our link: by its layout of that version, this node has been removed."""
        layout = self._state.layout
        if layout is not None and (epoch, revision) > layout.version:
            self._leave(layout.cluster, epoch)

    def _leave(self, cluster: str, epoch: int) -> None:
        state = self._state
        state.records.put_document(_LAYOUT, None)
        state.records.put_document(_LEFT, json.dumps([cluster, epoch]).encode())
        state.leave()
        state.renew_actor()  # an actor must know all its dots (P2): if this node is joined again, it deletes its records
        self._known_ms = {}
        self._note_left(cluster, epoch)
        self._notify_listeners()

    def _note_left(self, cluster: str, epoch: int) -> None:
        self._left = (cluster, epoch)
        self._state.no_layout = has_left(self._state.member.name, epoch)
        self._state.serve_clients()  # with that refusal

    def introduction(self) -> tuple[str | int, ...]:
        """The first words of this node on a link: cluster, id, incarnation, and its layout's epoch and revision if any."""
        state, layout = self._state, self._state.layout
        if layout is None:
            return "", state.id, state.incarnation
        return layout.cluster, state.id, state.incarnation, layout.epoch, layout.revision

    def refusal(self, peer: str, cluster: str, version: Sequence[bytes] = ()) -> str:
        """The error text for a node that introduces itself as `peer` of `cluster`; empty if its link is accepted.

        `version` is the epoch and revision of its layout; nodes of earlier versions do not say it.

        this node      the peer                                                             answer
        has no layout  -                                                                    accepted
        has one        names another cluster                                                ERR
        has one        is a member                                                          accepted
        has one        is no member; its layout is as new as ours, or newer                 accepted: it may have joined
        has one        is no member; our log names it, or is complete since its layout      GONE, with our layout's version
        has one        is no member, our log says nothing of it; it names our cluster       accepted, to hear of its layout
        has one        is no member, our log says nothing of it; it names no cluster        ERR
        """
        layout = self._state.layout
        if layout is None:
            return ""
        if cluster and cluster != layout.cluster:
            return f"ERR this node belongs to cluster {layout.cluster}, not to {cluster}"
        if peer in self._state.members:
            return ""
        theirs = _version_in(version)
        if theirs is not None and theirs >= layout.version:
            return ""
        if any(peer in (change.node, change.other) for change in layout.log) or _is_forgotten(layout, theirs):
            return f"{GONE} {layout.epoch} {layout.revision} node {peer} has been removed from cluster {layout.cluster}"
        return "" if cluster else f"ERR node {peer} is no member of cluster {layout.cluster} at epoch {layout.epoch}"

    def refusal_received(self, text: str) -> bool:
        """Handles the error text with which a node refused our link. True if it says that this node is no member there."""
        words = text.removeprefix("-").split()
        if words[:1] == [GONE] and len(words) > 2 and words[1].isdigit() and words[2].isdigit():
            self.removal_received(int(words[1]), int(words[2]))
            return True
        return "is no member of cluster" in text

    # --- views

    def view(self) -> LayoutView | None:
        """Returns the view of the present layout; None without a layout."""
        return self.views.present()

    def layout_received(self, peer: str, layout: Layout) -> None:
        """Merges the layout that `peer` sent, if it is another one than ours."""
        if self.views.layout_received(peer, layout):
            self._computing.charge(DECODE_UNITS * layout.partitions)
            self.offer(layout)

    def view_received(self, peer: str, view: LayoutView) -> None:
        """Handles the view that `peer` sent: see views.py."""
        self.views.view_received(peer, view)

    def is_present(self, view: LayoutView | None) -> bool:
        """Whether this is the view of the present layout."""
        return self.views.is_present(view)

    def adopted(self, view: LayoutView | None) -> bool | None:
        """Answers ADOPTED: whether no request from before that layout is in flight; None under another layout."""
        return not self.in_flight() if self.is_present(view) else None

    def in_flight(self) -> bool:
        """Whether requests that began before the present layout was adopted are still in flight."""
        return any(table.has_group_before(self._adopted_number) for table in self._tables)

    def is_down(self, member: str) -> bool:
        """Whether a member is down, and this process has watched it for more than `DOWN_MS`."""
        state = self._state
        since_ms = self._known_ms.setdefault(member, state.now_ms)
        return state.liveness.state(member) is PeerState.DOWN and state.now_ms - since_ms > DOWN_MS

    def expected(self) -> list[str]:
        """The members that a phase waits for: those that are not down, this node included; while N changes, all."""
        layout = self._state.layout
        if layout is None:
            return []
        return [member.id for member in layout.members if layout.changes_n or not self.is_down(member.id)]


def _left_in(document: bytes) -> tuple[str, int] | None:
    cluster, epoch = shapes.parse(document, shapes.LEFT, "the cluster that was left")
    return cluster, epoch


def _layout_in(document: bytes) -> Layout | None:
    return Layout.decode(document)


def _loses_some(before: Layout, after: Layout, node: str) -> bool:
    """Whether `node` keeps fewer partitions by `after` than by `before`."""
    if before.partitions != after.partitions:
        return True
    return any(
        node in before.keepers(partition) and node not in after.keepers(partition)
        for partition in range(before.partitions)
    )


def _version_in(words: Sequence[bytes]) -> tuple[int, int] | None:
    """The epoch and revision in an introduction; None from nodes of earlier versions."""
    numbers = [int(word) for word in words[:2] if word.isdigit() and len(word) <= _DIGITS_MAX]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else None


def _is_forgotten(layout: Layout, theirs: tuple[int, int] | None) -> bool:
    """Whether a layout of that version is older than the whole log: then ours includes it, removals since it included."""
    return theirs is not None and len(layout.log) == LOG_MAX and theirs[0] < layout.log[0].epoch
