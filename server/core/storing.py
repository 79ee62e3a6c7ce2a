"""Stores the groups of records that coordinators send, and confirms or refuses each group.

    message    what it brings                                         the confirmation
    STORE      a group of records for their owner                     STORED, in the same turn
    KEEP       the same, and no client waits for the confirmation     KEPT, one for all groups since the last tick
    PATCH      the same as STORE, with patches of large records       STORED, or UNFIT if a patch does not fit
    HINT       a group for an owner that cannot be reached            STORED, in the same turn

The confirmation leaves after the commit of the turn. A group that is refused is answered with REFUSED. requests/replica.py
has what a node does to store a group.
"""

from __future__ import annotations

from server.core.base.state import State
from server.core.messages import kinds
from server.core.messages.kinds import Hint
from server.core.repair.mending import Mending
from server.core.requests import replica
from server.core.requests.relays import Relays


class Storing:
    """Handles the messages that bring records to a replica."""

    def __init__(self, state: State, relays: Relays, mending: Mending) -> None:
        self._state = state
        self._relays = relays
        self._mending = mending

    def store(self, peer: str, number: int, pairs: list[bytes], confirms_now: bool, reading: int) -> None:
        """HOT. Handles STORE and KEEP: a coordinator's group of records. It may also answer commands that this node has
        relayed to the coordinator (writes.py). `reading`: the sender's clock, as the message carries it."""
        state = self._state
        ours = state.owns_all(pairs)
        refusal = replica.store(state, pairs) if ours else replica.store_as_former_owner(state, pairs)
        if refusal is not None and ours:
            self._store_when_mended(peer, number, pairs, confirms_now, refusal, state.clock.last, reading)
        else:
            self._confirm(peer, number, confirms_now, refusal)

    def patch(self, peer: str, number: int, pairs: list[bytes], reading: int) -> None:
        """Handles PATCH: as STORE, with patches of large records."""
        if replica.store_patches(self._state, pairs):
            self._confirm(peer, number, True, None)
        elif (records := replica.whole_records(self._state, pairs)) is not None:
            self.store(peer, number, records, True, reading)
        else:
            self._state.send(peer, kinds.encode_unfit(self._state.clock_reading(), number))

    def _confirm(self, peer: str, number: int, confirms_now: bool, refusal: str | None) -> None:
        """HOT. Confirms or refuses a group of records, and answers the relayed commands that it covers."""
        state, relays = self._state, self._relays
        if refusal is not None:
            state.send(peer, kinds.encode_refused(state.clock_reading(), number))
        elif confirms_now:
            state.send(peer, kinds.encode_stored(state.clock_reading(), number))
        else:
            state.kept.setdefault(peer, []).append(number)
        if (peer, number) in relays.covered:
            relays.stored(peer, number, refusal)

    def _store_when_mended(
        self, peer: str, number: int, pairs: list[bytes], confirms_now: bool, refusal: str, stamp: int, reading: int
    ) -> None:
        """Lets a group that could not be stored wait until the damaged records here are repaired: a damaged record must not
        cost the acknowledgement of the others. Without damaged records the group is refused at once. `stamp` is our clock
        when the group arrived, `reading` the sender's when it sent it: if a fence (collection.py) has reached one of them
        meanwhile, the group is refused, too."""
        state, mending = self._state, self._mending

        def again() -> None:
            late = state.fence >= stamp or reading <= state.fences.get(peer, -1)
            reason = refusal if late else replica.store(state, pairs)
            if reason is None or late:
                self._confirm(peer, number, confirms_now, reason)
            else:
                self._store_when_mended(peer, number, pairs, confirms_now, reason, stamp, reading)

        def fail() -> None:
            self._confirm(peer, number, confirms_now, refusal)

        keys = pairs[::2]
        _, damaged = state.records.get_each(keys)  # all are noted, so that they are repaired together
        last = keys[damaged[-1]] if damaged else None
        if not mending.park(last, again, fail):
            fail()

    def hint(self, peer: str, number: int, hint: Hint) -> None:
        """Handles HINT: a coordinator's group of records for an owner that it cannot reach."""
        refusal = replica.store_as_stand_in(self._state, hint.owner, hint.pairs)
        encode = kinds.encode_stored if refusal is None else kinds.encode_refused
        self._state.send(peer, encode(self._state.clock_reading(), number))

    def confirm_kept(self) -> None:
        """Confirms, in one message for each coordinator, all groups that came as KEEP since the last tick."""
        state = self._state
        for peer, numbers in state.kept.items():
            state.send(peer, kinds.encode_kept(state.clock_reading(), numbers))
        state.kept.clear()
