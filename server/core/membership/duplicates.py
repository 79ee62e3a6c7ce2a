"""Detects duplicate nodes: two processes with one node id, because a data directory was copied and both were started.

The problem. To the other nodes a duplicate looks like the node itself after a restart, or like the node at another
address. Neither of those may ever wait for an operator.

The idea. The difference is that the other process is still alive. So each node knows to which process of a peer it
listens, by the *incarnation* in the introduction (the wall clock at the start of the process), and judges each new
process by the table in `judge`: the first one stays. If the present process was seen alive after a second one introduced
itself, the second one is a duplicate, and the first one the original. The duplicate is refused from then on for as long
as it runs. Otherwise it would replace the original at the moment when the original is restarted.

What cannot be distinguished: a duplicate that is started while the original is down. Then the original is refused when
it returns.

A node that refuses a duplicate reports it to both processes. Both log it, and the status names both addresses. A
duplicate that every member refuses serves no clients, because what it acknowledged would be stored nowhere else. Records
are safe in any case: each process issues dots under an actor of its own (P2).
"""

from __future__ import annotations

import enum
from typing import Any

from server.core.base.errors import refused_as_duplicate
from server.core.base.state import State
from server.core.messages.announcements import encode_duplicate

CONFIRM_MS = 200  # by then this node has read everything that a process sent before it died
AGAIN_MS = 5000  # from one message to the original to the next
FRESH_MS = 10_000  # for so long the status shows a duplicate after it was last seen
OPENED_MS = 2000  # a link that was opened within so long shows that the process at its end is alive
_DUPLICATES_MAX = 64


class LinkState(enum.Enum):
    """The state of our own link to a peer's address in the layout: open, failed, or not tried yet."""

    OPEN = "open"
    FAILED = "failed"
    UNTRIED = "untried"


class AddressVerdict(enum.Enum):
    """What happens to a process that introduces itself: accepted, told to connect again later, or suspected."""

    ACCEPTED = "accepted"
    LATER = "later"
    SUSPECTED = "suspected"


def judge(is_present: bool, moves: bool, connected: bool, link_state: LinkState, speaks: bool) -> AddressVerdict:
    """The verdict on a process that introduces itself as a member.

    is_present   it is the process that we listen to at present
    moves        its address differs from the one in the layout
    connected    the present process has a connection to us
    link_state   the state of our own link to the address in the layout
    speaks       the process behind that connection or link has sent something lately

        is_present   moves   connected   link_state   speaks
        yes          -       -           -            -        accepted: it connects again
        no           -       yes         -            yes      suspected: the present process is alive
        no           yes     -           open         yes      suspected: the one at the address in the layout is alive
        no           yes     -           untried      -        later: the process at that address may be alive
        else                                                   accepted: a restart, at the same address or another
    """
    if is_present:
        return AddressVerdict.ACCEPTED
    if speaks and (connected or (moves and link_state is LinkState.OPEN)):
        return AddressVerdict.SUSPECTED
    return AddressVerdict.LATER if moves and link_state is LinkState.UNTRIED else AddressVerdict.ACCEPTED


class DuplicateDetector:
    """Knows which process of each peer is the present one, the duplicates that it refuses, and the duplicates of itself."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._is_closed = False
        # A process is (peer, incarnation).
        self._present: dict[str, int] = {}  # by peer: the incarnation of the process that we listen to
        self._opened_ms: dict[str, int] = {}  # by peer: when our link was opened
        self._suspected_ms: dict[tuple[str, int], int] = {}  # by process that may be a duplicate: since when
        # By duplicate: its address, and when it was last seen.
        self._refused: dict[tuple[str, int], tuple[str, int]] = {}
        self._notified_ms: dict[tuple[str, int], int] = {}  # by duplicate: when we last sent COPY to its original
        self._of_us: dict[str, int] = {}  # by address of a process with our id: when a peer last reported it
        # The error of a member that considers this process a duplicate; empty once a link opens.
        self.refusal_of_us = ""

    def opened(self, peer: str) -> None:
        """Our link to `peer` is open: a process with its id is alive at its address in the layout."""
        self._opened_ms[peer] = self._state.now_ms
        self.refusal_of_us = ""

    def refusal(self, peer: str, incarnation: int, address: str, connected: bool, link_state: LinkState) -> str:
        """The error text for a process that introduces itself as the member `peer`; empty if it is accepted from now on.

        `address` is its own address as it says it; earlier versions say none. See `judge` for the other two.
        """
        listed = self._address_of(peer)
        process = (peer, incarnation)
        if self._state.layout is None and len(self._present) < _DUPLICATES_MAX:
            self._present[peer] = incarnation  # perhaps a member by the first layout of this node, which comes next
        if not listed or self._present.get(peer) == incarnation:
            return ""
        if process in self._refused:
            return self._refuse(process, address, listed)
        moves = address not in ("", listed)
        verdict = judge(False, moves, connected, link_state, self._speaks(peer, moves))
        if verdict is AddressVerdict.ACCEPTED:
            self._present[peer] = incarnation
            self._suspected_ms.pop(process, None)
            return ""
        later = f"WAIT another process of node {self._state.layout_name(peer)} may be alive at {listed}"
        if verdict is AddressVerdict.LATER:
            return later
        _make_room(self._suspected_ms)
        since_ms = self._suspected_ms.setdefault(process, self._state.now_ms)
        last_ms = max(
            self._state.last_message_ms.get(peer, since_ms), self._opened_ms.get(peer, since_ms) if moves else since_ms
        )
        return self._refuse(process, address, listed) if last_ms - since_ms >= CONFIRM_MS else later

    def _speaks(self, peer: str, moves: bool) -> bool:
        """Whether another process than the one that introduces itself is alive.

        Our own link leads to that other process only if the one that introduces itself has another address.
        """
        state = self._state
        lately = moves and state.now_ms - self._opened_ms.get(peer, -OPENED_MS) < OPENED_MS
        return lately or state.liveness.is_speaking(peer, state.now_ms)

    def _address_of(self, peer: str) -> str:
        members = self._state.layout.members if self._state.layout is not None else ()
        return next((member.address for member in members if member.id == peer), "")

    def _refuse(self, process: tuple[str, int], address: str, listed: str) -> str:
        """Notes a duplicate, reports it to the original at most once in `AGAIN_MS`, and returns the error text for it."""
        state, (peer, _) = self._state, process
        _make_room(self._refused)
        self._refused[process] = (address, state.now_ms)
        if peer in state.links and state.now_ms - self._notified_ms.get(process, -AGAIN_MS) >= AGAIN_MS:
            _make_room(self._notified_ms)
            self._notified_ms[process] = state.now_ms
            state.send(peer, encode_duplicate(state.clock_reading(), address))
        place = f" at {address}" if address not in ("", listed) else ""
        return (
            f"COPY node {state.layout_name(peer)} runs at {listed} already, and the directory of this process{place} is a "
            "copy: stop it, or stop both and start the one to keep"
        )

    # --- this node

    def tick(self) -> None:
        """Stops to serve clients while a member refuses this process as a duplicate and no link is open."""
        closes = self.refusal_of_us != "" and not self._state.links
        if closes and not self._is_closed:
            self._state.refuse_clients(refused_as_duplicate(self.refusal_of_us))
        elif self._is_closed and not closes:
            self._state.serve_clients()
        self._is_closed = closes

    def duplicate_reported(self, address: str) -> None:
        """Handles COPY: a peer has refused a process with our id at `address`."""
        if len(self._of_us) < _DUPLICATES_MAX or address in self._of_us:
            self._of_us[address] = self._state.now_ms

    def of_us(self) -> list[str]:
        """The addresses of other processes with our id that peers refused within `FRESH_MS`."""
        now_ms = self._state.now_ms
        self._of_us = {address: ms for address, ms in self._of_us.items() if now_ms - ms < FRESH_MS}
        return list(self._of_us)

    def seen(self) -> dict[str, list[str]]:
        """Returns the addresses of duplicates that were seen within `FRESH_MS`, by the id of their original."""
        found = {self._state.id: self.of_us()} if self._of_us else {}
        for (peer, _), (address, last_ms) in self._refused.items():
            if self._state.now_ms - last_ms < FRESH_MS:
                found.setdefault(peer, []).append(address)
        return found


def _make_room(table: dict[tuple[str, int], Any]) -> None:
    """Removes the oldest entry of a full table before a new one is added: processes that come and go fill no memory."""
    if len(table) >= _DUPLICATES_MAX:
        del table[next(iter(table))]
