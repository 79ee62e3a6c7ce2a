"""Early retries: relayed commands that may run twice do not wait long for a coordinator from which nothing comes.

Theory. A relay to a node that hangs is given up after `relay_silence_ms` (1.5 s), so that a short pause of a node does not
make the outcome of an INCR unknown. But most commands may run twice: reads, plain SET, DEL, HSET. If their coordinator has
sent nothing for `relay_retry_ms` (250 ms), they go to the next owner. If the first coordinator was only late, its reply is
ignored.

No lost update. Suppose that the first coordinator resumes and runs the old SET when the client has its reply already, and
another SET has been acknowledged since. Then the old value would get a new dot, and would win. So such a relay carries an
*age limit*, and a coordinator refuses it (STALE) when it is older. The retry begins only when the limit is over for sure:

    limit_ms    max(relay_retry_ms - MARGIN_MS, 4 * mean round trip), and not more than `relay_stale_ms`
    wait_ms     limit_ms + MARGIN_MS + least round trip

Why that suffices. The coordinator estimates a relay's age (relay_ages.py). The estimate is too low by the delay of the
least delayed message that it has had from us over this link, and that is not more than the least round trip of a relay over
this link. So there is no limit, and no early retry, until such a relay has been answered. `MARGIN_MS` covers that both
sides read their clocks once a pass of their loops; the coordinator does so anew if a pass takes long (shell/inbound.py).

Silence, not lateness. A coordinator that is slow sends other messages, and relays to it go on waiting: to run all its
commands twice would double the load just when there is too much of it. The mean round trip raises the limit for the same
reason. `relay_retry_ms` is more than TCP's shortest retransmission timeout (200 ms), so that one lost packet is no silence.

Which commands. All whose spec says that they may run twice. A RELAY message has one limit, so it has such commands only;
in a mixed turn the other keys' commands have a message of their own. All commands of a key stay in one message (relays.py),
and a command that was retried before, or travels in pieces, has no limit.

A node of an earlier version knows no limits, and does not announce the capability LIMITS. Relays to it wait as before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from protocol.peer_versions import LIMITS
from server.core.base.state import State
from server.core.requests.relay_rows import RelayItem, RelayRow

MARGIN_MS: Final = 100
_NEWEST: Final = 0.1  # weight of the newest round trip in the mean


class RoundTrips:
    """How long one peer has taken to answer relays over the present link."""

    __slots__ = ("least_ms", "mean_ms")

    def __init__(self, first_ms: int) -> None:
        self.mean_ms = float(first_ms)
        self.least_ms = first_ms


class EarlyRetries:
    """Which relays have an age limit, and when they may be retried."""

    def __init__(self, state: State) -> None:
        self.may_repeat: Callable[[list[bytes]], bool] = lambda args: False  # retries.py knows the commands
        self.peers = state.capable[LIMITS]
        self._state = state
        self._round_trips: dict[str, RoundTrips] = {}

    def answered(self, row: RelayRow, now_ms: int) -> None:
        """HOT. The coordinator has answered some commands of a row."""
        if not row.may_repeat:
            return  # commands that must not run twice may take long, or wait
        taken_ms = now_ms - row.sent_ms
        known = self._round_trips.get(row.peer)
        if known is None:
            self._round_trips[row.peer] = RoundTrips(taken_ms)
            return
        known.mean_ms += (taken_ms - known.mean_ms) * _NEWEST
        if taken_ms < known.least_ms:
            known.least_ms = taken_ms

    def forget(self, peer: str) -> None:
        """Our link to `peer` has broken, or it may have forgotten how late our messages are."""
        self._round_trips.pop(peer, None)

    def limit(self, row: RelayRow, number: int) -> RelayRow | None:
        """HOT. Gives a row that is about to be sent its age limit, if all its commands may run twice. If only those of some
        keys may, moves these to a row of their own, which has that number, and returns it."""
        count = 0
        for item in row.items:
            if item is not None:
                args = item.args
                if (len(args) == 3 and args[0] == b"SET") or self.may_repeat(args):
                    count += 1
        if count == len(row.items):
            self._set_limit(row)
        elif count:
            part = self._split(row, number)
            if part.items:
                self._set_limit(part)
                return part
        return None

    def _set_limit(self, row: RelayRow) -> None:
        """HOT. Sets the limit of a row of commands that may run twice, if there can be one."""
        row.may_repeat = True
        known, config = self._round_trips.get(row.peer), self._state.config
        if known is None or row.begun_ms < row.sent_ms or config.relay_retry_ms <= MARGIN_MS:
            return
        limit_ms = config.relay_retry_ms - MARGIN_MS
        if known.mean_ms * 4 > limit_ms:
            limit_ms = int(known.mean_ms * 4)
        if limit_ms < config.relay_stale_ms:
            row.limit_ms = limit_ms
            row.wait_ms = limit_ms + MARGIN_MS + known.least_ms

    def _split(self, row: RelayRow, number: int) -> RelayRow:
        """Moves the commands of keys whose commands may all run twice to a new row, and returns that."""
        items = [item for item in row.items if item is not None]
        kept = {_key_of(item): None for item in items if not self.may_repeat(item.args)}
        part = RelayRow(number, row.peer, row.sent_ms, row.in_order, row)
        part.items += [item for item in items if _key_of(item) not in kept]
        part.begun_ms = min([item.begun_ms for item in items if _key_of(item) not in kept], default=row.sent_ms)
        row.items = [item for item in items if _key_of(item) in kept]
        return part

    def take_due(
        self, rows: dict[int, RelayRow], now_ms: int, may_move: Callable[[RelayItem, RelayRow], bool]
    ) -> list[tuple[RelayRow, list[RelayItem]]]:
        """Takes the commands that `may_move` out of the rows that are due, and removes rows without any other. Returns each
        row with its commands."""
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
        """Whether a row has waited long enough, and nothing at all has come from its coordinator since then."""
        if not row.limit_ms or now_ms - row.sent_ms < row.wait_ms:
            return False
        return now_ms - self._state.last_message_ms.get(row.peer, row.sent_ms) >= row.wait_ms


def _key_of(item: RelayItem) -> bytes:
    return item.args[1] if len(item.args) > 1 else b""
