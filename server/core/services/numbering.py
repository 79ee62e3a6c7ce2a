"""Which space each database of the cluster is, as this node knows it: SELECT looks here, and SWAPDB changes it.

Theory. All nodes keep the document (shared/numberings.py, services/sharing.py). The present numbering is `State.numbering`.
It is looked at when a client chooses a database, not by its commands: a session has the space of its database, and when the
numbering changes, all sessions of this node get theirs anew, in the same turn. What has begun before keeps its space.

Swaps in an order. Two nodes that ordered swaps at the same moment would apply them in different orders until they hear of
each other's. So one node orders all swaps: of the members that can be reached, the one with the least id
(commands/swapdb.py asks it). So all nodes apply the swaps in one order; a node that is behind lacks only the latest ones.
Nobody is told OK before all members that are not known to be down have the swap.

Nodes may disagree about who orders swaps: for a moment, on two sides of a partition, or while one is suspended or its links
are held up. Then two nodes order swaps without knowing of each other's. Their documents merge into one that has all of
them (shared/numberings.py says how). So no swap that was answered OK is undone, but a node that has shown one order may
show another one then. A question that was long on its way, because a link was held up, orders nothing: nobody waits for it.

Away. A node that starts holds its clients' commands until it has heard from another member (base/cluster_time.py), and the
document is the first thing that a member sends, also to a node that has no layout yet. The document counts at once, also if
the disk has no room for it; it is stored as soon as there is some.
"""

from __future__ import annotations

from typing import Final

from protocol.databases import UNSWAPPED
from server.core.base.errors import CommandError
from server.core.base.state import State
from server.core.membership.staging import Staging
from server.core.messages import numberings as messages
from server.core.messages.numberings import Swap, Swapped
from server.core.messages.stored import stored
from server.core.pubsub.tracking import Tracking
from server.core.services.clients import ClientSessions
from server.core.services.sharing import Sharing
from server.core.shared.numberings import SWAPS_MAX, NumberingEntry, Numberings, OrderedSwap, asked_ms
from server.core.waiting.blocked import Blocked

_DOCUMENT: Final = b"numberings"
_CLOCKS_MS: Final = 1000  # by so much the clocks of two nodes may differ


class DatabaseNumbering:
    """The document of numberings, and the one in force."""

    def __init__(
        self, state: State, clients: ClientSessions, blocked: Blocked, tracking: Tracking, staging: Staging
    ) -> None:
        self._state = state
        self._staging = staging
        self._clients = clients
        self._blocked = blocked
        self._tracking = tracking
        document = stored(state.records, _DOCUMENT, messages.numberings_in, Numberings(), Numberings())
        self.sharing = Sharing(state, _DOCUMENT, document, state.knowing_swaps, messages.encode_numbers)

    @property
    def _cluster(self) -> str:
        layout = self._state.layout
        return "" if layout is None else layout.cluster

    @property
    def is_swapped(self) -> bool:
        """Whether some database is in another space than its own."""
        return self._state.numbering.spaces != UNSWAPPED.spaces

    def has_swap(self, swap: str) -> bool:
        """Whether a swap, one of the latest, is in force here."""
        return self.sharing.document.has_swap(self._cluster, swap)

    def review(self) -> None:
        """The layout has changed: the numbering of its cluster is in force, and those of others do not matter."""
        if self._state.layout is not None:
            own = self.sharing.document.only(self._cluster)
            if own != self.sharing.document:
                self.sharing.adopt(own)
        self._bring_into_force()

    def merge(self, document: Numberings) -> None:
        """Merges the document of another node."""
        if self._state.layout is not None:
            document = document.only(self._cluster)
        following = self.sharing.merged_with(document, needs_room=False)
        if following is not None and (kept := following.bounded()) != self.sharing.document:
            self.sharing.adopt(kept)
            self._bring_into_force()

    def answer_numbered(self, document: Numberings) -> Numberings:
        """Answers NUMBERED: merges the document of another node, and returns ours."""
        self.merge(document)
        return self.sharing.document

    def swap(self, swap: Swap) -> Swapped | None:
        """Swaps two databases, for a node that takes this one for the one that orders swaps. None: ask again later."""
        state = self._state
        self.merge(swap.document)
        if state.layout is None:
            return None
        if not self.has_swap(swap.id):
            try:
                self._order(swap)
            except CommandError as error:
                return Swapped(self.sharing.document, error.reply[1:-2].decode())
        return Swapped(self.sharing.document)

    def _order(self, swap: Swap) -> None:
        """Raises CommandError, and has done nothing then."""
        self._check_age(swap)
        self.check_members()
        self._check_newcomers()
        self.sharing.check_room()
        document, cluster = self.sharing.document, self._cluster.encode()
        present = document.entries.get(cluster)
        entry = NumberingEntry() if present is None else present
        self._check_pace(entry)
        counter = self.sharing.next_counter(entry)
        ordered = OrderedSwap(counter, self._state.id, swap.id, swap.first, swap.second)
        self.sharing.adopt(document.with_entry(cluster, entry.with_swap(ordered)))
        self._bring_into_force()

    @property
    def _kept_ms(self) -> int:
        """How long a swap may be asked for again, by the clock of another node."""
        return self._state.config.request_timeout_ms + _CLOCKS_MS

    def _check_age(self, swap: Swap) -> None:
        """Raises CommandError if nobody may wait for this swap any more: the question was on its way for long."""
        state = self._state
        age_ms = state.time_ms - asked_ms(swap.id)
        if age_ms > self._kept_ms:
            raise CommandError(
                f"ERR node {state.member.name}, which orders swaps, was asked for this one {age_ms} ms ago by its clock, "
                "which is too late; if it was asked just now, the clocks of the nodes differ: let NTP correct them"
            )

    def _check_pace(self, entry: NumberingEntry) -> None:
        """Raises CommandError if the document would forget a swap whose node may still ask whether it was done."""
        state, swaps, kept_ms = self._state, entry.ids(), self._kept_ms
        # One of the far future was asked for by a clock that was wrong: it must not stop all swaps until then.
        if len(swaps) == SWAPS_MAX and abs(asked_ms(swaps[0]) - state.time_ms) < kept_ms:
            raise CommandError(
                f"BUSY node {state.member.name} orders {SWAPS_MAX} swaps of databases within {kept_ms} ms at most, and "
                "has not done this one: try again later"
            )

    def check_members(self) -> None:
        """Raises CommandError if a member may not know numberings."""
        state = self._state
        unable = [state.layout_name(node) for node in state.with_swaps.missing(state.layout)]
        if unable:
            raise CommandError(
                "ERR SWAPDB needs a version that knows it on every node, and these nodes have not announced one: "
                + ", ".join(unable)
            )

    def _check_newcomers(self) -> None:
        """Raises CommandError if a node that is staged to become a member may not know numberings."""
        state = self._state
        newcomers = {change.newcomer: change.name for change in self._staging.changes() if change.newcomer}
        strangers = [name or node for node, name in newcomers.items() if not state.with_swaps.has_announced(node)]
        if strangers:
            raise CommandError(
                "ERR SWAPDB needs a version that knows it on every node, and these are staged to become members and have "
                f"not announced one to node {state.member.name}: {', '.join(strangers)}; commit or abort first"
            )

    def _bring_into_force(self) -> None:
        state, before = self._state, self._state.numbering
        numbering = UNSWAPPED if state.layout is None else self.sharing.document.numbering_of(self._cluster)
        if numbering.spaces == before.spaces:
            return
        state.numbering = state.records.listeners.numbering = numbering
        self._clients.renumber(before)
        self._blocked.renumber()
        if self._tracking.is_used:
            self._tracking.invalidate_all()
