"""Membership: how this node comes to a layout, changes it for the one that rules, spreads what it knows, and leaves.

Theory (Dynamo, section 4.8; P9). A layout is a document, and whoever meets another one than its own merges both
(succession.py): so all nodes that talk to each other come to the same one, whatever was committed where. Three ways bring
layouts together: a new link begins with them, whoever makes one sends it to all, and with each gossip a *view* goes out
(views.py), so that no difference lasts for longer than gossip takes.

What a layout takes long to compute (the owners of one that is made of two, preference lists) is computed over many turns
(work/computing.py) before it is adopted. If another layout is adopted meanwhile, it begins anew from that one.

A layout is stored with the batch of the turn that adopts it, before anybody hears of it. `adopted` answers the question
that every phase of a change waits for: whether this node acts by that very document, and nothing that it began under
another one is still under way.

Who connects tells the version of its layout. One that is no member here and goes by an older layout is told that it has
been removed (GONE); what it says is not taken, for it may be old (P7). Only a layout is: it may be newer than ours, and on
two sides of a partition there may be members that have never heard of each other. A node that finds itself removed has
*left*: it knows no layout any more, and a mark on disk says so. Should it be joined again it lets go first whatever it
holds from its former life, for the cluster may have forgotten since what was deleted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from typing import Any

from server.core.base.errors import has_left
from server.core.base.room import FOR_NOTHING
from server.core.base.state import Item, State
from server.core.liveness.liveness import State as Life
from server.core.membership.views import Views
from server.core.messages import shapes
from server.core.messages.kinds import View
from server.core.messages.stored import stored
from server.core.records.records import RECORDS_END
from server.core.records.versions import DamagedRecord
from server.core.requests.groups import GroupTable
from server.core.ring.layout import SETTLED, Layout
from server.core.ring.succession import LOG_MAX, merged
from server.core.work.background import Background
from server.core.work.computing import Computing
from server.core.work.procedures import Step, Steps

DOWN_MS = 6000  # a member of whom nothing was heard since we know of it is not held for down before
GONE = "GONE"
YES, NO = b"1", b"0"
_LEFT, _LAYOUT = b"left", b"layout"
_LEFT_SOMETHING: tuple[str, int] | None = ("", 0)  # whatever is held is from a former life, as ever after a shutdown
_CLEARED_KEYS = 200
_AGAIN_MS = 1000
_DIGITS_MAX = 18
ADOPT_UNITS = 8  # of work (ring/computation.py) for each partition of a layout that is adopted: its routes, mostly
DECODE_UNITS = 8  # the same, of a layout that is decoded
OFFERS_MAX = 32  # layouts that wait to be merged; gossip brings further ones again


class Membership:
    """This node's layout, and how it changes. `tables` are the requests in flight; `changed` is called after a change."""

    def __init__(
        self,
        state: State,
        background: Background,
        computing: Computing,
        tables: Sequence[GroupTable[Any]],
        changed: Callable[[], None],
    ) -> None:
        self._state = state
        self._background = background
        self._computing = computing
        self._tables = tables
        self._changed = changed
        self._adopted_number = 0
        self._known_ms: dict[str, int] = {}  # since when we have looked out for a member, in this life
        self._left: tuple[str, int] | None = None  # the cluster that this node has left, and at which epoch
        self._offered: Layout | None = None  # what is adopted once the records of a former life are gone
        self._offers: list[Layout] = []  # that are still to be merged with the present one
        self.views = Views(state)

    def begin(self) -> None:
        """At the start of the process: what the last one has stored."""
        state = self._state
        left = stored(state.records, _LEFT, _left_in, None, _LEFT_SOMETHING)
        if left is not None:
            self._note_left(*left)
        layout = stored(state.records, _LAYOUT, _layout_in, None, None)  # a damaged one is learned anew from a member
        if layout is not None:
            self._adopt(layout)

    @property
    def left(self) -> tuple[str, int] | None:
        """The cluster that this node has left, and at which epoch; None if it has not, or is a member again."""
        return self._left

    # --- coming to a layout

    def offer(self, layout: Layout) -> bool:
        """Adopts what `layout` and the present one make together, now or once that is computed; whether that changes
        anything, as far as it is known by now."""
        present = self._state.layout
        if self._state.room == FOR_NOTHING:
            return False  # it could not be stored; gossip brings it again
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
        """Makes one layout out of the present one and each that was offered."""
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
                self._take(following)
            elif following != present:
                self.publish(following)
        return None

    def prepare(self, layout: Layout) -> Generator[Step, Any, None]:
        """Computes, over some turns, what `layout` needs before it is adopted: `yield from membership.prepare(layout)`. Is
        over at once if that was done before."""
        if layout.is_prepared:
            return
        yield from self._computing.run(layout.prepared())
        yield from self._computing.reserve(ADOPT_UNITS * layout.partitions)

    def make(self, layout: Layout) -> None:
        """A layout that was made here is published once it is prepared, unless another one is adopted meanwhile."""
        self._background.run("layout publication", self._make(layout))

    def _make(self, layout: Layout) -> Steps:
        present = self._state.layout
        yield from self.prepare(layout)
        if self._state.layout is present:
            self.publish(layout)
        return None

    def publish(self, layout: Layout) -> None:
        """A layout that was made here: stored, adopted, and sent to all, at last to those that are no members by it: they
        forget it, and must not be the only ones who have heard of it."""
        state = self._state
        before = state.layout
        members = [*layout.members, *(before.members if before is not None else ())]
        self._take(layout)
        self.views.publish(layout, [member.id for member in members])

    def _enter(self, layout: Layout) -> bool:
        """The first layout of this node, or of another life of it."""
        state = self._state
        if all(member.id != state.id for member in layout.members):
            return False
        if self._left is None:
            self._background.run("layout entry", self._enter_first(layout))
            return True
        cluster, epoch = self._left
        # Two stewards may let different nodes go side by side; who loses that way is a member still, and asked once more.
        still_leaves = layout.phase == SETTLED and state.id in layout.leaving and layout.epoch == epoch
        if layout.cluster == cluster and layout.epoch <= epoch and not still_leaves:
            return False  # it is from before
        idle = self._offered is None
        if self._offered is None or layout.wins_over(self._offered):
            self._offered = layout
        if idle:
            self._background.run_to_end("clearing", self._clear)
        return True

    def _enter_first(self, layout: Layout) -> Steps:
        yield from self.prepare(layout)
        if self._state.layout is None and self._left is None:
            self._take(layout)
        else:
            self.offer(layout)
        return None

    def _clear(self) -> Steps:
        """Lets go what is held from a former life, then adopts the layout that was offered last."""
        records = self._state.records
        self._state.hints.drop_all()
        while True:
            try:
                pairs = records.page(b"", RECORDS_END, _CLEARED_KEYS)
                for key, _ in pairs:
                    self._drop(key)
            except DamagedRecord:  # a range that the engine cannot read: somebody must look at this disk
                yield self._background.pause(_AGAIN_MS)
                continue
            if not pairs:
                break
            turn = self._state.turn
            while self._state.turn == turn:  # that it is gone is on disk before this node is a member again
                yield self._background.pause(1)
        layout = self._offered
        while layout is not None:
            yield from self.prepare(layout)
            if layout is self._offered:  # else a later one was offered meanwhile
                break
            layout = self._offered
        self._offered = None
        if layout is not None and self._state.layout is None:
            self._take(layout)
        return None

    def _drop(self, key: bytes) -> None:
        try:
            self._state.records.remove(key)
        except DamagedRecord:
            self._state.records.mend(key, None)

    def _take(self, layout: Layout) -> None:
        """From this turn's commit on `layout` rules here, or this node is no member any more."""
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
        self._adopted_number = state.number()
        if before is not None and _loses_some(before, layout, state.id):
            state.renew_actor()  # records with its dots are let go from now on (P2)
        self._changed()

    # --- leaving

    def told_gone(self, epoch: int, revision: int) -> None:
        """A member refuses our link: by its layout, of that version, we have been removed."""
        layout = self._state.layout
        if layout is not None and (epoch, revision) > layout.version:
            self._leave(layout.cluster, epoch)

    def _leave(self, cluster: str, epoch: int) -> None:
        state = self._state
        state.records.put_document(_LAYOUT, None)
        state.records.put_document(_LEFT, json.dumps([cluster, epoch]).encode())
        state.leave()
        state.renew_actor()  # should it be joined again, it has let go what it had written (P2)
        self._known_ms = {}
        self._note_left(cluster, epoch)
        self._changed()

    def _note_left(self, cluster: str, epoch: int) -> None:
        self._left = (cluster, epoch)
        self._state.no_layout = has_left(self._state.member.name, epoch)

    def introduction(self) -> tuple[str | int, ...]:
        """What this node says first on a link: cluster, id and incarnation, and the version of its layout if it has one."""
        state, layout = self._state, self._state.layout
        if layout is None:
            return "", state.id, state.incarnation
        return layout.cluster, state.id, state.incarnation, layout.epoch, layout.revision

    def refusal(self, peer: str, cluster: str, version: Sequence[bytes] = ()) -> str:
        """Why a node that introduces itself as `peer` of `cluster`, whose layout has that version, is not taken for a
        fellow; empty if it is.

        One that was removed, or could not be joined, is told so with the version that says it, unless it goes by a layout
        that is as new as ours: then it may have been joined again. That one, and one of whom we know nothing, may go by a
        layout that was made elsewhere: it is taken, so that we hear of that, and of nothing else before.
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

    def heard_refusal(self, text: str) -> bool:
        """A node has refused our link with this error text; whether it says that we are no member there."""
        words = text.removeprefix("-").split()
        if words[:1] == [GONE] and len(words) > 2 and words[1].isdigit() and words[2].isdigit():
            self.told_gone(int(words[1]), int(words[2]))
            return True
        return "is no member of cluster" in text

    # --- views

    def view(self) -> tuple[Item, ...]:
        """Epoch, revision and checksum of the present layout; nothing without one."""
        return self.views.present()

    def heard_layout(self, peer: str, layout: Layout) -> None:
        """`peer` has sent its layout."""
        if self.views.heard_layout(peer, layout):
            self._computing.charge(DECODE_UNITS * layout.partitions)
            self.offer(layout)

    def heard_view(self, peer: str, epoch: int, revision: int, checksum: bytes) -> None:
        """What `peer` has for a layout."""
        self.views.heard(peer, (epoch, revision), checksum)

    def is_present(self, view: View | None) -> bool:
        """Whether this is the view of the present layout."""
        return self.views.is_present(view)

    def adopted(self, view: View | None) -> list[bytes]:
        """ADOPTED: whether that layout rules here, and nothing is under way any more that was begun under another.

        Nothing is answered where another layout rules.
        """
        return [NO if self.in_flight() else YES] if self.is_present(view) else []

    def in_flight(self) -> bool:
        """Whether requests that were begun before the present layout was adopted are still under way."""
        return any(table.has_group_before(self._adopted_number) for table in self._tables)

    def is_down(self, member: str) -> bool:
        """Whether nothing is to be expected of a member. Who has just begun to look out for it does not say so yet."""
        state = self._state
        since_ms = self._known_ms.setdefault(member, state.now_ms)
        return state.liveness.state(member) is Life.DOWN and state.now_ms - since_ms > DOWN_MS

    def expected(self) -> list[str]:
        """The members that are not down, this node included."""
        layout = self._state.layout
        members = layout.members if layout is not None else ()
        return [member.id for member in members if not self.is_down(member.id)]


def _left_in(document: bytes) -> tuple[str, int] | None:
    cluster, epoch = shapes.parse(document, shapes.LEFT, "the cluster that was left")
    return cluster, epoch


def _layout_in(document: bytes) -> Layout | None:
    return Layout.decode(document)


def _loses_some(before: Layout, after: Layout, node: str) -> bool:
    """Whether `node` keeps some partition no more."""
    if before.partitions != after.partitions:
        return True
    return any(
        node in before.keepers(partition) and node not in after.keepers(partition)
        for partition in range(before.partitions)
    )


def _version_in(words: Sequence[bytes]) -> tuple[int, int] | None:
    """The version in an introduction; older nodes tell none."""
    numbers = [int(word) for word in words[:2] if word.isdigit() and len(word) <= _DIGITS_MAX]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else None


def _is_forgotten(layout: Layout, theirs: tuple[int, int] | None) -> bool:
    """Whether a layout of that version is older than all that the log remembers: then it has nothing that we have not seen,
    and who was a member by it, and is none any more, has been removed."""
    return theirs is not None and len(layout.log) == LOG_MAX and theirs[0] < layout.log[0].epoch
