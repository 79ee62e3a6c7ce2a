"""Copies: two processes with one node's id, because its directory was copied and both were started.

Theory. To the other nodes a copy looks like the node itself after a restart, or at another address, and neither of those
may ever have to wait for an operator. The difference is that the other process is still alive. So each node knows which
process of a peer it listens to, by the *incarnation* (the wall clock at the start of the process) in its introduction,
and judges each newcomer by the table in `judge`: first come stays. A process that was seen alive after a second one had
introduced itself proves that this is a copy, which is refused from then on for as long as it runs: or the copy would take
over in the moment in which the original is restarted. What cannot be told apart: a copy that is started while the
original is down. Then the original is refused when it comes back.

Whoever refuses a copy tells it so, and tells the original; both log it, and the status names both addresses. A copy that
nobody takes serves no clients: what it acknowledged would be nowhere else. Records take no harm: each process issues dots
under an actor of its own (P2).
"""

from __future__ import annotations

import enum
from typing import Any

from server.core.base.errors import refused_as_copy
from server.core.base.state import State

CONFIRM_MS = 200  # what a dead process has sent before is read by then
AGAIN_MS = 5000  # how often the original is told
FRESH_MS = 10_000  # for how long a copy is shown after it was last seen
OPENED_MS = 2000  # a link that was opened so lately tells that the process at its end is alive
_COPIES_MAX = 64


class Way(enum.Enum):
    """Our own link to a peer's address in the layout: it stands, it could not be made, or that is not known yet."""

    OPEN = "open"
    FAILED = "failed"
    UNTRIED = "untried"


class Verdict(enum.Enum):
    """What becomes of a process that introduces itself: it is listened to, asked to come again, or doubted."""

    TAKEN = "taken"
    LATER = "later"
    DOUBTED = "doubted"


def judge(is_present: bool, moves: bool, connected: bool, way: Way, speaks: bool) -> Verdict:
    """The verdict on a process: whether it is the one that we listen to at `present`, whether it comes from another address
    than the layout has, whether the present one has a connection to us, our own link to the address in the layout, and
    whether the process behind those two has spoken lately.

        present   moves   connected   way       speaks
        yes       -       -           -         -        taken: it connects anew
        no        -       yes         -         yes      doubted: the present process is alive
        no        yes     -           open      yes      doubted: the process at the address in the layout is alive
        no        yes     -           untried   -        later: that one may be alive
        else                                             taken: a restart, at the same address or another
    """
    if is_present:
        return Verdict.TAKEN
    if speaks and (connected or (moves and way is Way.OPEN)):
        return Verdict.DOUBTED
    return Verdict.LATER if moves and way is Way.UNTRIED else Verdict.TAKEN


class Copies:
    """Which process of each peer this node listens to, which others it refuses, and which copies of itself there are."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._is_closed = False
        self._present: dict[str, int] = {}  # the incarnation of the process of a peer that we listen to
        self._opened_ms: dict[str, int] = {}  # when our link to a peer was opened
        self._doubted_ms: dict[tuple[str, int], int] = {}  # processes that may be copies: since when
        self._refused: dict[tuple[str, int], tuple[str, int]] = {}  # copies: address, when last seen
        self._told_ms: dict[tuple[str, int], int] = {}  # when the original was last told of one
        self._of_us: dict[str, int] = {}  # addresses of processes with our id, and when a peer last told us
        self.refusal_of_us = ""  # what a member says that takes us for a copy, until one takes us for the node

    def opened(self, peer: str) -> None:
        """Our link to `peer` has been opened: a process with its id is alive at its address."""
        self._opened_ms[peer] = self._state.now_ms
        self.refusal_of_us = ""

    def refusal(self, peer: str, incarnation: int, address: str, connected: bool, way: Way) -> str:
        """Why a process that introduces itself as the member `peer` is not listened to; empty if it is, from now on.

        `address` is where it says it is (empty: an earlier version does not say), `connected` whether the present process
        has a connection to us, and `way` how it is with our link to the peer.
        """
        listed = self._address_of(peer)
        process = (peer, incarnation)
        if not listed or self._present.get(peer) == incarnation:
            return ""
        if process in self._refused:
            return self._refuse(process, address, listed)
        moves = address not in ("", listed)
        verdict = judge(False, moves, connected, way, self._speaks(peer, moves))
        if verdict is Verdict.TAKEN:
            self._present[peer] = incarnation
            self._doubted_ms.pop(process, None)
            return ""
        later = f"WAIT another process of node {self._state.layout_name(peer)} may be alive at {listed}"
        if verdict is Verdict.LATER:
            return later
        _make_room(self._doubted_ms)
        since_ms = self._doubted_ms.setdefault(process, self._state.now_ms)
        last_ms = max(
            self._state.last_message_ms.get(peer, since_ms), self._opened_ms.get(peer, since_ms) if moves else since_ms
        )
        return self._refuse(process, address, listed) if last_ms - since_ms >= CONFIRM_MS else later

    def _speaks(self, peer: str, moves: bool) -> bool:
        """Whether another process than the one that introduces itself is alive. Our link leads to that other one only if
        the newcomer is somewhere else."""
        state = self._state
        lately = moves and state.now_ms - self._opened_ms.get(peer, -OPENED_MS) < OPENED_MS
        return lately or state.liveness.is_speaking(peer, state.now_ms)

    def _address_of(self, peer: str) -> str:
        members = self._state.layout.members if self._state.layout is not None else ()
        return next((member.address for member in members if member.id == peer), "")

    def _refuse(self, process: tuple[str, int], address: str, listed: str) -> str:
        """It is a copy. The original is told."""
        state, (peer, _) = self._state, process
        _make_room(self._refused)
        self._refused[process] = (address, state.now_ms)
        if peer in state.links and state.now_ms - self._told_ms.get(process, -AGAIN_MS) >= AGAIN_MS:
            _make_room(self._told_ms)
            self._told_ms[process] = state.now_ms
            state.send(peer, state.message(b"COPY", 0, address))
        return (
            f"COPY node {state.layout_name(peer)} runs at {listed} already, and the directory of this process"
            f"{f' at {address}' if address else ''} is a copy: stop it, or stop both and start the one to keep"
        )

    # --- this node

    def tick(self) -> None:
        """Clients are served unless this process is a copy and all members refuse it."""
        closes = self.refusal_of_us != "" and not self._state.links
        if closes and not self._is_closed:
            self._state.refuse_clients(refused_as_copy(self.refusal_of_us))
        elif self._is_closed and not closes:
            self._state.serve_clients()
        self._is_closed = closes

    def told(self, address: str) -> None:
        """A peer has refused a process with our id at `address`."""
        if len(self._of_us) < _COPIES_MAX or address in self._of_us:
            self._of_us[address] = self._state.now_ms

    def of_us(self) -> list[str]:
        """The addresses of other processes with our id that were seen lately."""
        now_ms = self._state.now_ms
        self._of_us = {address: ms for address, ms in self._of_us.items() if now_ms - ms < FRESH_MS}
        return list(self._of_us)

    def seen(self) -> dict[str, list[str]]:
        """The addresses of copies that were seen lately, by the id of the node that they are copies of."""
        found = {self._state.id: self.of_us()} if self._of_us else {}
        for (peer, _), (address, last_ms) in self._refused.items():
            if self._state.now_ms - last_ms < FRESH_MS:
                found.setdefault(peer, []).append(address)
        return found


def _make_room(table: dict[tuple[str, int], Any]) -> None:
    """Processes that come and go must not fill the memory: the oldest entry goes. Called before each new one."""
    if len(table) >= _COPIES_MAX:
        del table[next(iter(table))]
