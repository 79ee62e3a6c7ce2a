"""Early retries: relayed reads and blind writes do not wait long for a coordinator that sends nothing. Off by default.

Theory. If a coordinator hangs, this node gives up its relays to it after `relay_silence_ms` (1.5 s). A shorter time would
make the outcome of an INCR unknown at each short pause of a node. But many commands are reads, or *blind* writes: what
these write does not depend on what is stored (plain SET, DEL, HSET). If their coordinator has sent nothing for about
`relay_retry_ms`, they go to the next owner. If the first coordinator replies later, its reply is ignored.

Two coordinators at once. The coordinator may be live, and run what others have relayed to it. A command that may run
twice, one run after the other, need not be safe at two coordinators at once. Of two SETRANGEs, BITFIELDs, EXPIREs or EXECs
with WATCH that run at two coordinators at once, both are acknowledged, and one is lost, as each has read what was there
before. So only reads and blind writes are retried early.

Why it is off by default. A retried blind write is safe from other blind writes, but not from a SETRANGE or SET NX.
Suppose that the first coordinator has read the key for a SETRANGE and is then suspended. When it resumes, it makes its
record from the older value but gives it the newer dot, and the acknowledged SET is lost. If the retry comes only after
`relay_silence_ms`, the same needs a pause longer than `relay_stale_ms`. After such a pause the coordinator refuses a
relayed SETRANGE with STALE. A SETRANGE that a client sends to the coordinator directly is no relay, so it is never
refused as stale: this risk remains in any case.

No lost update. Suppose that the retry of a SET has been answered, and a second SET of the key has been acknowledged. If
the first coordinator then resumed and ran the old SET, the old value would get a new dot, and would win over the second
SET. So a relay that may be retried early carries an *age limit*, which is shorter than `relay_stale_ms`. A coordinator
refuses a relay that is older than its limit, with the reply STALE. The retry begins when the relay is certainly older
than its limit:

    limit_ms    max(relay_retry_ms - MARGIN_MS, 4 * mean round trip). If that is `relay_stale_ms` or more: no limit
    wait_ms     limit_ms + MARGIN_MS + least round trip: from the sending of the relay to its retry

A relay without a limit is not retried early.

Why that is long enough. The coordinator can only estimate the age of a relay (relay_ages.py). It compares the relay with
the message from this node that had the smallest delay D on this link. So its estimate is too low by D. A round trip
contains the delay of one relay, so D is at most the least round trip of a relay on this link. This is why `wait_ms`
contains the least round trip. Clocks drift, so the coordinator lets D grow by 1 ms in each second; the least round trip
grows in the same way here. Before the first relay on a link has been answered, this node knows no bound of D, so it
sets no limit. `MARGIN_MS` covers old clock readings: both sides read their clocks once in each pass of their loops. (If a
pass takes long, the coordinator reads its clock again before it handles what has arrived: shell/inbound.py.)

Silence, not slowness. A coordinator that is only slow still sends other messages. Relays to it go on waiting, because an
overloaded cluster must not run commands twice. For the same reason a longer mean round trip raises the limit.
`relay_retry_ms` should be longer than TCP's shortest retransmission timeout (200 ms), so that one lost packet does not
count as silence.

A limit that the sender has set is never extended. For other relays only `relay_stale_ms` counts. The coordinator
extends that time while their commands run, and tells the sender so with a RELAYED message (relays.py). For a limit of
the sender, extending would not be safe: if the coordinator is then suspended, this message may still be in its socket,
and reach the sender only after the retry. So a step that begins past the limit is refused with STALE. The sender then
relays the command to the same coordinator again, without a limit. That coordinator is live, and writes are lost only if
a second coordinator runs commands of the key beside it. The coordinator sends RELAYED for a relay with a limit, too,
but does not extend the limit. When the sender receives that message, it no longer retries the relay early. Writes with
more than `WORDS_MAX` words may take long, so they have no limit: otherwise much work would be done twice.

Which commands. Reads, and writes whose spec says that they are `blind` (commands/spec.py). All commands of a key stay in
one RELAY message (relays.py), in their order, and a message has one limit. So a message has a limit only if all its
commands are eligible.

A message has no limit either

- if one of its commands was retried before;
- if one of its commands has more words than `WORDS_MAX`;
- if it travels in pieces, or behind a large message of the same turn;
- if `relay_retry_ms` is not more than `MARGIN_MS`;
- if the coordinator is of an earlier version: it has not announced the capability LIMITS.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from protocol.peer_versions import LIMITS
from server.core.base.state import State
from server.core.requests.relay_ages import DRIFT_DIVISOR
from server.core.requests.relay_rows import RelayItem, RelayRow

MARGIN_MS: Final = 100
WORDS_MAX: Final = 64  # of a write: those of so few words run in one slice (commands/shared_drafts.py)
_NEWEST: Final = 0.1  # weight of the newest round trip in the mean


class RoundTrips:
    """How long one peer has taken to answer relays of eligible commands, over the present link.

    `least_at_zero_ms`: the least round trip, minus 1 ms for each second from time 0 of the clock until it was measured.
    """

    __slots__ = ("least_at_zero_ms", "mean_ms")

    def __init__(self, first_ms: int, now_ms: int) -> None:
        self.mean_ms = float(first_ms)
        self.least_at_zero_ms = first_ms - now_ms // DRIFT_DIVISOR

    def answered(self, taken_ms: int, now_ms: int) -> None:
        """HOT. Notes one more round trip, which has just ended."""
        self.mean_ms += (taken_ms - self.mean_ms) * _NEWEST
        self.least_at_zero_ms = min(self.least_at_zero_ms, taken_ms - now_ms // DRIFT_DIVISOR)

    def least_ms(self, now_ms: int) -> int:
        """HOT. The least round trip, plus 1 ms for each second since it was measured."""
        return self.least_at_zero_ms + now_ms // DRIFT_DIVISOR + 1


class EarlyRetries:
    """Which relays have an age limit, and when they may be retried."""

    def __init__(self, state: State) -> None:
        self.is_eligible: Callable[[list[bytes]], bool] = lambda args: False  # set by retries.py
        self.peers = state.capable[LIMITS]
        self._state = state
        self._round_trips: dict[str, RoundTrips] = {}

    def answered(self, row: RelayRow, now_ms: int) -> None:
        """HOT. Notes a round trip: the coordinator has answered some commands of a row."""
        if not row.is_eligible:
            return  # such commands may take long or block, so their times say nothing of the link
        taken_ms = now_ms - row.sent_ms
        known = self._round_trips.get(row.peer)
        if known is None:
            self._round_trips[row.peer] = RoundTrips(taken_ms, now_ms)
            return
        known.answered(taken_ms, now_ms)

    def forget(self, peer: str) -> None:
        """Forgets the round trips to `peer`: the link broke, or that node may have forgotten the delays of our messages."""
        self._round_trips.pop(peer, None)

    def limit(self, row: RelayRow) -> None:
        """HOT. Sets the age limit of a row that is about to be sent, if all its commands are eligible."""
        if self._state.config.relay_retry_ms <= MARGIN_MS:
            return
        for item in row.items:
            if item is not None:
                args = item.args
                if not (len(args) == 3 and args[0] == b"SET") and not self.is_eligible(args):  # a plain SET: no look-up
                    return
        self._set_limit(row)

    def _set_limit(self, row: RelayRow) -> None:
        """HOT. Sets the limit of a row whose commands are all eligible, unless the module docstring rules a limit out."""
        row.is_eligible = True
        known, config = self._round_trips.get(row.peer), self._state.config
        if known is None or row.begun_ms < row.sent_ms:
            return
        limit_ms = config.relay_retry_ms - MARGIN_MS
        if known.mean_ms * 4 > limit_ms:
            limit_ms = int(known.mean_ms * 4)
        if limit_ms < config.relay_stale_ms:
            row.limit_ms = limit_ms
            row.wait_ms = limit_ms + MARGIN_MS + known.least_ms(self._state.now_ms)

    def take_due(
        self, rows: dict[int, RelayRow], now_ms: int, may_move: Callable[[RelayItem, RelayRow], bool]
    ) -> list[tuple[RelayRow, list[RelayItem]]]:
        """Removes from each row that is due the commands for which `may_move` is true, and drops rows that are empty then.
        Returns each due row with the commands that were removed."""
        taken = []
        for row in [row for row in rows.values() if self._is_due(row, now_ms)]:
            moved: list[RelayItem] = []
            for index, item in enumerate(row.items):
                if item is not None and may_move(item, row):
                    moved.append(item)
                    row.items[index] = None
            row.missing -= len(moved)
            if not row.missing:
                del rows[row.number]
            taken.append((row, moved))
        return taken

    def _is_due(self, row: RelayRow, now_ms: int) -> bool:
        """Whether a row was sent `wait_ms` ago or earlier, and its coordinator has sent nothing at all for `wait_ms`."""
        if not row.limit_ms or now_ms - row.sent_ms < row.wait_ms:
            return False
        return now_ms - self._state.last_message_ms.get(row.peer, row.sent_ms) >= row.wait_ms
