"""Log lines that tell what happened to the cluster, as this node saw it: peers, members, hints, repairs, late loops.

Theory. Somebody reads the log after an incident and has nothing else. So each line says what changed, for which node, and
for how long it had been so before. The core decides and does not log. Once a second this module compares what it sees
with what it saw, so a change that is undone within a second leaves no line, and nothing is added to the hot path.

Each line has an event: a name that stays (log_events.py).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from server.core.liveness.liveness import PeerState
from server.core.messages.questions import TaskQuery
from server.core.ring.change import QUORUMS, READ_QUORUM, REPLICA_COUNT, Change, without_superseded
from server.core.services.services import Services

log = logging.getLogger("dyn")
LATE_MS = 250  # a pass of the loop that takes longer is told
START_MS = (
    5000  # a new member, or any member when this node starts, has no links yet: it is told of only after this time
)
_NO_LINK = "there is no connection with it"  # it has just ended, and a new one was not tried yet
_ENDED = ("done", "failed", "aborted")


class ClusterEvents:
    """What was seen last of one node's cluster."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._peers: dict[str, tuple[PeerState, str, int]] = {}  # id -> state, reason, since when
        self._full: dict[str, None] = {}  # peers without room for writes
        self._hints: dict[str, tuple[int, int]] = {}  # owner -> since when there are hints, how many at most
        self._refused = dict.fromkeys(services.state.hints.dropped_hints)  # owners for which there was no room
        self._tasks: dict[str, str] = {row["task"]: row["state"] for row in self._rows()}
        self._repaired = self._compared = 0
        self._met_ms: dict[str, int] = {}  # id -> since when it is a member, or this node runs
        self._members: Mapping[str, str] = self._names()  # id -> name
        self._staged = {change.id: change for change in services.staging.changes()}
        self._staged_epoch = self._epoch()

    def tell(self, now_ms: int, loop_lag_ms: int) -> None:
        """Logs what has changed. `loop_lag_ms`: how late the loop was at most since the last call."""
        names = self._names()
        self._tell_staged(names)
        self._tell_members(names)
        self._tell_peers(names, now_ms)
        self._tell_full(names)
        self._tell_hints(names, now_ms)
        is_fetching = self._tell_tasks()
        self._tell_comparisons(is_fetching)
        self._services.latencies.note("event-loop", loop_lag_ms * 1000)
        if loop_lag_ms >= LATE_MS:
            log.warning(
                "the event loop was late by %d ms: SLOWLOG GET and LATENCY DOCTOR show what takes long",
                loop_lag_ms,
            )

    def _names(self) -> Mapping[str, str]:
        layout = self._services.state.layout
        return {member.id: member.name for member in layout.members} if layout is not None else {}

    def _epoch(self) -> int:
        layout = self._services.state.layout
        return 0 if layout is None else layout.epoch

    # --- members

    def _tell_staged(self, names: Mapping[str, str]) -> None:
        """Tells what operators stage, at whichever node, and whether it is taken back or becomes part of a layout."""
        staged, epoch = {change.id: change for change in self._services.staging.changes()}, self._epoch()
        for name, change in staged.items():
            if name not in self._staged:
                log.info("staged for the next layout: %s", _words(change, names))
        gone = [change for name, change in self._staged.items() if name not in staged]
        kept = {change.id for change in without_superseded([*gone, *staged.values()])}
        for what, changes in (
            ("committed" if epoch > self._staged_epoch else "aborted", [each for each in gone if each.id in kept]),
            ("superseded by a later change", [each for each in gone if each.id not in kept]),
        ):
            if changes:
                words = ", ".join(_words(change, {**self._members, **names}) for change in changes)
                log.info("no longer staged, since it was %s: %s", what, words)
        self._staged, self._staged_epoch = staged, epoch

    def _tell_members(self, names: Mapping[str, str]) -> None:
        for node, name in names.items():
            if self._members and node not in self._members:
                log.info("node %s is a member now, by the layout of epoch %d", name, self._epoch())
        for node, name in self._members.items():
            if names and node not in names:
                log.info("node %s is no member any more, by the layout of epoch %d", name, self._epoch())
        self._members = names

    # --- other nodes

    def _tell_peers(self, names: Mapping[str, str], now_ms: int) -> None:
        state = self._services.state
        for peer, name in names.items():
            if peer == state.id:
                continue
            now = state.liveness.state(peer)
            reason = "" if now is PeerState.UP else self._services.addresses.trouble_with(peer)[1] or _NO_LINK
            met_ms = self._met_ms.setdefault(peer, now_ms)
            before, said, since_ms = self._peers.get(peer, (None, "", met_ms))
            is_new = now_ms - met_ms < START_MS
            if (now is before and reason == said) or (before is None and now is not PeerState.UP and is_new):
                continue
            # A node that was never up since it was met is as it is since then.
            self._peers[peer] = now, reason, since_ms if before in (None, now) else now_ms
            if before is None and now is PeerState.UP:
                continue  # what is as it should be when this node starts is no news
            level = logging.INFO if now is PeerState.UP else logging.WARNING
            spent = f", after {_seconds(now_ms - since_ms)} {before.value}" if before not in (None, now) else ""
            why = f": {reason}" if reason else ""
            log.log(level, "node %s is %s%s%s", name, now.value, why, spent)
        self._peers = {peer: seen for peer, seen in self._peers.items() if peer in names}
        self._met_ms = {peer: met_ms for peer, met_ms in self._met_ms.items() if peer in names}

    def _tell_full(self, names: Mapping[str, str]) -> None:
        full = {peer: None for peer in self._services.state.full if peer in names}
        for peer in full:
            if peer not in self._full:
                log.warning("node %s takes no writes: its disk is full", names[peer])
        for peer in self._full:
            if peer in names and peer not in full:
                log.info("node %s takes writes again", names[peer])
        self._full = full

    # --- hints and repairs

    def _tell_hints(self, names: Mapping[str, str], now_ms: int) -> None:
        hints = self._services.state.hints
        kept = {owner: count for owner, count, _, _ in hints.summary(0)}
        for owner, count in kept.items():
            if owner not in self._hints:
                log.warning("this node keeps hints for node %s, which has not confirmed its writes",
                            names.get(owner, owner))  # fmt: skip
            since_ms, most = self._hints.get(owner, (now_ms, 0))
            self._hints[owner] = since_ms, max(most, count)
        for owner in [owner for owner in self._hints if owner not in kept]:
            since_ms, most = self._hints.pop(owner)
            log.info("no hints for node %s are left after %s; there were up to %d", names.get(owner, owner),
                     _seconds(now_ms - since_ms), most)  # fmt: skip
        for owner in hints.dropped_hints:
            if owner not in self._refused:
                log.warning("there is no room for more hints for node %s: `dyn repair` brings it what it has missed",
                            names.get(owner, owner))  # fmt: skip
        self._refused = dict.fromkeys(hints.dropped_hints)

    def _rows(self) -> list[dict[str, Any]]:
        """The tasks of this node, without its filling: reports.py tells of that."""
        fillings = [row["task"] for row in self._services.filling.tasks()]
        rows = self._services.tasks.answer_tasks(TaskQuery("", False)) or []
        return [row for row in rows if row["task"] not in fillings]

    def _tell_tasks(self) -> bool:
        """Returns whether some task is under way."""
        rows = {row["task"]: row for row in self._rows()}
        for name, row in rows.items():
            before, now = self._tasks.get(name), row["state"]
            if now == before:
                continue
            if before is None:  # it may have ended in the same second
                log.info("task %s has begun: %d partitions", name, row["partitions"])
            if now in _ENDED:
                log.log(
                    logging.INFO if now == "done" else logging.WARNING,
                    "task %s is %s: %d keys compared, %d repaired%s", name, now, row["keys_compared"],
                    row["keys_repaired"], f"; {row['error']}" if row["error"] else "",
                )  # fmt: skip
        self._tasks = {name: row["state"] for name, row in rows.items()}
        return any(state not in _ENDED for state in self._tasks.values()) or self._services.state.is_filling

    def _tell_comparisons(self, is_fetching: bool) -> None:
        """Tells of comparisons with other owners that have found differences; others are no news, and neither are those of
        a task or a filling, which is told of itself."""
        counted = self._services.state.statistics
        repaired, compared = counted.keys_repaired - self._repaired, counted.trees_compared - self._compared
        if repaired and compared and not is_fetching:
            log.info("anti-entropy has repaired %d keys in %d comparisons with other owners", repaired, compared)
        if compared or is_fetching:
            self._repaired, self._compared = counted.keys_repaired, counted.trees_compared


def _words(change: Change, names: Mapping[str, str]) -> str:
    """A change, as in `join of node n4 at 10.0.0.4:7001`, or `R = 3`."""
    if change.kind == REPLICA_COUNT:
        return f"N = {change.copies}"
    if change.kind in QUORUMS:
        return f"{'R' if change.kind == READ_QUORUM else 'W'} = {change.quorum}"
    at = f" at {change.address}" if change.address else ""
    return f"{change.kind} of node {names.get(change.node) or change.name or change.node}{at}"


def _seconds(span_ms: int) -> str:
    return f"{span_ms / 1000:.0f} s"
